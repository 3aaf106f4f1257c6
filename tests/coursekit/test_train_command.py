"""`python -m coursekit train`: the experiment of each notebook, and one line for bad input."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
from pathlib import Path

import pytest
from torch import nn
from torchvision import models

import helpers
from coursekit.__main__ import main
from coursekit.notebooks import METHOD_OF, code_cells, notebook_paths, read_notebook
from coursekit.train import train as training_command
from coursekit.train.train import build_network, optimizer_and_schedule, recipe_for
from helpers import METHODS, get_recipe
from helpers.errors import KitError
from helpers.lib.progress import EpochTable
from helpers.recipes import RECIPES

EPOCHS = 3  # in 2, the rate of notebook 04 would rise for exactly a step, which torch refuses
CALLS = ("torch.manual_seed", "freeze", "save_result")
MODELS = {"model"}  # how notebooks call the network that they record


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """The results folder of the mini profile; it is empty."""
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    return tmp_path / "results" / "mini"


def run(*options: object) -> int:
    return main(["train", "--device", "cpu", *map(str, options)])


def record_of(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


# The same experiment as the notebook's


def experiment_in(notebook: Path) -> ast.Module:
    """The statements of a notebook that its record depends on, from the imports to the record."""
    source = "\n".join(cell.source for cell in code_cells(read_notebook(notebook)))
    kept: list[ast.stmt] = []
    needed: set[str] = set()
    for statement in reversed(ast.parse(source).body):
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            stored = {statement.name}
        called = ast.unparse(statement).partition("(")[0]
        is_call = isinstance(statement, ast.Expr) and called in CALLS
        is_import = isinstance(statement, ast.Import | ast.ImportFrom)
        # `model.fc = ...`, `model.load_state_dict(...)`: what is done to something that is needed
        part = statement.targets[0] if isinstance(statement, ast.Assign) else statement
        part = getattr(getattr(part, "value", None), "func", part)
        done_to = getattr(getattr(part, "value", None), "id", "")
        changes = isinstance(part, ast.Attribute) and done_to in needed & MODELS
        is_made = not isinstance(statement, ast.Expr) and stored & needed
        if is_import or is_call or changes or is_made:
            kept.append(statement)
            needed |= {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return ast.Module(kept[::-1], type_ignores=[])


@pytest.mark.parametrize("number", ["02", "03", "04", pytest.param("05", marks=pytest.mark.slow)])
def test_the_command_does_what_the_notebook_does(number, results, picture_folder, monkeypatch):
    method = METHOD_OF[number]
    with monkeypatch.context() as patch:
        shorter = functools.partial(recipe_for, num_epochs=EPOCHS)
        on_cpu = functools.partial(helpers.start, device="cpu")
        pictures = functools.partial(helpers.load_data, dataset=picture_folder)
        for name, value in {"start": on_cpu, "get_recipe": shorter, "load_data": pictures}.items():
            patch.setattr(helpers, name, value)
        (notebook,) = (path for stem, path in notebook_paths().items() if stem.startswith(number))
        exec(compile(experiment_in(notebook), str(notebook), "exec"), {})
    theirs = record_of(results / method)

    again = ("--epochs", EPOCHS, "--rerun")  # else the notebook's own run would be loaded
    assert run("--method", method, "--dataset", picture_folder, *again) == 0
    ours = record_of(results / method)
    assert record_of(results / "previous" / method) == theirs
    same = ["val", "epochs", "first_loss", "recipe", "settings", "parameters", "weights", "data"]
    for name in [*same, "seed", "profile", "student", "machine", "versions"]:
        assert ours[name] == theirs[name], name
    # The network of 02 is a class of its own there, with other names for the same layers.
    assert number == "02" or ours["cam_layer"] == theirs["cam_layer"]
    for row, other in zip(ours["history"], theirs["history"], strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert row[name] == other[name], name
    for name in ("correct", "total", "loss"):
        assert ours["test"][name] == theirs["test"][name]
    assert ours["files"]["predictions.csv"] == theirs["files"]["predictions.csv"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_network_and_head(method):
    model, weights = build_network(method, 5, None)
    assert weights == "random"
    head = model.get_submodule(METHODS[method].head)
    last = [layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1]
    assert last.out_features == 5


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda row: f"{row.method}-{row.profile}")
def test_every_parameter_learns_at_the_rate_of_its_recipe(recipe):
    model = models.resnet18(num_classes=4)
    head = model if recipe.backbone_lr is None else model.fc
    optimizer, scheduler = optimizer_and_schedule(recipe, model, head, 7)
    rate_of = {id(p): group["max_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rate_of)
    for name, parameter in model.named_parameters():
        rate = recipe.head_lr if name.startswith("fc.") else recipe.backbone_lr
        assert rate_of[id(parameter)] == (rate or recipe.head_lr)
    assert type(optimizer).__name__ == recipe.optimizer
    assert scheduler.total_steps == 7 * recipe.num_epochs
    assert {group["weight_decay"] for group in optimizer.param_groups} == {recipe.weight_decay}


def test_a_schedule_that_cannot_rise_is_refused():
    recipe = dataclasses.replace(get_recipe("bn_cnn", "mini"), num_epochs=1, warmup=0.25)
    model = nn.Linear(2, 2)
    with pytest.raises(KitError, match=r"a run of 4 steps .* use more epochs"):
        optimizer_and_schedule(recipe, model, model, 4)


# What it prints and records


def test_a_shorter_run_says_so(results, picture_folder, capsys):
    assert run("--method", "bn_cnn", "--dataset", picture_folder, "--epochs", 3) == 0
    out = capsys.readouterr().out
    assert f"3 epochs, where the recipe has {get_recipe('bn_cnn', 'mini').num_epochs}" in out
    record = record_of(results / "bn_cnn")
    assert record["epochs"] == record["recipe"]["num_epochs"] == len(record["history"]) == 3
    assert record["settings"]["num_epochs"] == 3
    assert record["machine"]["processes"] == 1
    lines = out.splitlines()
    assert len([line for line in lines if line.strip().startswith(("1/3", "2/3", "3/3"))]) == 3
    correct, total = record["test"]["correct"], record["test"]["total"]
    assert any(f"({correct}/{total})" in line for line in lines if line.startswith("test: "))
    assert lines[-1].startswith("record ")
    assert lines[-1].endswith("bn_cnn/record.json")


def test_a_run_that_fails_leaves_the_earlier_result(results, picture_folder, monkeypatch, capsys):
    arguments = ("--method", "bn_cnn", "--dataset", picture_folder, "--epochs", 1)
    assert run(*arguments) == 0
    before = record_of(results / "bn_cnn")

    def fail(*_, **__):
        raise KitError("the test went wrong")

    monkeypatch.setattr(training_command, "test", fail)
    capsys.readouterr()
    assert run(*arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: the test went wrong"
    assert record_of(results / "bn_cnn") == before
    assert not (results / "previous").exists()


def test_an_interrupted_run_goes_on(results, picture_folder, monkeypatch, capsys):
    arguments = ("--method", "bn_cnn", "--dataset", picture_folder, "--epochs", 4)
    epoch_done = EpochTable.epoch_done

    def stop(table, row, **options):
        epoch_done(table, row, **options)
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochTable, "epoch_done", stop)
        assert run(*arguments) == 130
    assert "stopped in epoch 4 of 4" in capsys.readouterr().err
    assert not (results / "bn_cnn").exists()
    assert run(*arguments) == 0
    assert "going on with epoch 3 of 4" in capsys.readouterr().out
    resumed = record_of(results / "bn_cnn")
    assert (resumed["epochs"], resumed["resumed"]) == (4, 1)
    # The finished run is loaded; its record says the same, with the seconds of then.
    assert run(*arguments) == 0
    assert "loaded: " in capsys.readouterr().out
    loaded = record_of(results / "bn_cnn")
    for name in ("val", "history", "seconds", "training_seconds", "trained", "resumed"):
        assert loaded[name] == resumed[name]
    assert run(*arguments, "--rerun") == 0
    assert "loaded" not in capsys.readouterr().out
    anew = record_of(results / "bn_cnn")
    assert anew["val"] == resumed["val"]
    assert anew["resumed"] == 0
    assert anew["trained"] > resumed["trained"]


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "vgg"], "unknown method 'vgg': use one of bn_cnn, "),
        (["--method", "bn_cnn", "--profile", "huge"], "unknown profile 'huge': use 'mini'"),
        (["--method", "bn_cnn", "--epochs", "0"], "num_epochs=0: use at least 1"),
        (["--method", "bn_cnn", "--workers", "-1"], "num_workers=-1: use 0 or more"),
        (["--method", "bn_cnn", "--dataset", "CIFAR10"], "CIFAR10 is not allowed"),
        (["--method", "bn_cnn", "--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_bad_input_gets_one_line(results, capsys, options, message):
    assert run(*options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) == 1
    assert not results.exists()
