"""Interrupted runs go on and end as if nothing had happened; nothing half-written is ever read."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, TensorDataset

import helpers
from coursekit.train.networks import bn_cnn
from helpers import KitError, get_recipe, load_results, save_result, train_model
from helpers.data import Data
from helpers.errors import Interrupted
from helpers.lib.checkpoint import read_checkpoint
from helpers.training import TrainingRun
from helpers.workspace import find_workspace
from tools.tiny import full_disk, vector_data

EPOCHS, STEPS = 6, 42
FORK = "fork" in multiprocessing.get_all_start_methods()


class Noisy(Dataset):
    """Vectors of one's own, with every kind of random numbers that a transform may use."""

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        vector, label = self.dataset[index]
        noise = random.random() + np.random.rand() + torch.rand(6)
        return vector + 0.1 * noise, int(label)


@dataclasses.dataclass
class Kernel:
    """The objects of a notebook, as its cells make them in a fresh kernel."""

    model: nn.Module
    data: Data | dict[str, DataLoader]
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    num_epochs: int = EPOCHS
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def train(self, folder: Path | None, **options: Any) -> TrainingRun:
        """The cell that trains."""
        torch.manual_seed(7)
        given = {"num_epochs": self.num_epochs, "progress": False, "checkpoint": folder}
        return train_model(
            self.model, self.data, self.criterion, self.optimizer, self.scheduler,
            **{**given, **self.options, **options},
        )  # fmt: skip


def kernel(
    *, lr=0.05, num_epochs=EPOCHS, seed=1, smoothing=0.1, decay=0.01, batch_size=8, width=8,
    noise=2.0, plain=False, schedule=None,
) -> Kernel:  # fmt: skip
    """A network with BatchNorm and dropout, an optimizer with a state, and a schedule."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 3)
    )
    data: Any = vector_data(noise=noise, batch_size=batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    scheduler: Any = OneCycleLR(optimizer, lr, total_steps=num_epochs * len(data.train))
    options: dict[str, Any] = {}
    if plain:  # loaders without a generator: their batches follow from the global random state
        random.seed(3)
        np.random.seed(3)
        sets = {"train": Noisy(data.train.dataset), "val": data.val.dataset}
        data = {
            split: DataLoader(one, batch_size=8, shuffle=split == "train")
            for split, one in sets.items()
        }
    if schedule == "epoch":
        scheduler, options = StepLR(optimizer, 2), {"step_scheduler": "epoch"}
    elif schedule == "plateau":
        scheduler = ReduceLROnPlateau(optimizer, patience=0, threshold=1.0)
        options = {"step_scheduler": "epoch"}
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    return Kernel(model, data, criterion, optimizer, scheduler, num_epochs, options)


def outcome(model: nn.Module, run: TrainingRun) -> tuple:
    """All of a run that must be the same, however often it was interrupted; exact numbers."""
    rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in run.history]
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    return rows, weights, run.first_loss, run.best_epoch, run.best_val_accuracy, run.num_epochs


@functools.cache
def expected(**changes: Any) -> tuple:
    """The outcome of a run that is not interrupted and keeps no checkpoint."""
    one = kernel(**changes)
    return outcome(one.model, one.train(None))


def finish(folder: Path, **changes: Any) -> tuple:
    """Run all cells in a fresh kernel; returns the outcome."""
    one = kernel(**changes)
    return outcome(one.model, one.train(folder))


def stop_at(model: nn.Module, step: int, error: BaseException) -> None:
    """Raise `error` in that forward pass of training, counted from 1, once."""
    passed: list[bool] = []

    def count(layer: nn.Module, inputs: tuple) -> None:
        passed.append(layer.training)
        if layer.training and sum(passed) == step:
            raise error

    model.register_forward_pre_hook(count)


def stopped_run(folder: Path, step: int, error: type = KeyboardInterrupt, **changes) -> Kernel:
    """The objects of a run that was stopped in that step, 7 of which are an epoch."""
    one = kernel(**changes)
    stop_at(one.model, step, error("stopped"))
    with pytest.raises(error):
        one.train(folder)
    return one


# Going on

KINDS = {
    "kit": {},
    "plain": {"plain": True},
    "epoch": {"schedule": "epoch"},
    "plain plateau": {"plain": True, "schedule": "plateau"},
}
STEPS_TO_STOP_AT = sorted(random.Random(4).sample(range(1, STEPS + 1), 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS_TO_STOP_AT)
@pytest.mark.parametrize("how", ["fresh kernel", "same kernel", "lost"])
def test_stopped_at_any_step_a_run_ends_bit_for_bit_the_same(kind, step, how, tmp_path, capsys):
    changes = KINDS[kind]
    one = stopped_run(
        tmp_path, step, RuntimeError if how == "lost" else KeyboardInterrupt, **changes
    )
    if how == "same kernel":  # its cell is run again, with the objects that are there
        assert outcome(one.model, one.train(tmp_path)) == expected(**changes)
    else:
        assert finish(tmp_path, **changes) == expected(**changes)
    said = capsys.readouterr().out
    assert f"going on with epoch {(step - 1) // 7 + 1} of 6: interrupted on " in said
    assert "anew" not in said


def test_pictures_with_augmentation_go_on_with_the_right_ones(workspace, picture_folder, tmp_path):
    def train(folder: Path | None, stop: int = 0) -> tuple:
        from conftest import TINY

        data = helpers.load_data(workspace, TINY, dataset=picture_folder)
        torch.manual_seed(0)
        model = bn_cnn(3, widths=(8, 16))
        if stop:
            stop_at(model, stop, KeyboardInterrupt())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        run = train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=3,
                          progress=False, checkpoint=folder)  # fmt: skip
        return outcome(model, run)

    with pytest.raises(Interrupted):
        train(tmp_path, stop=8)
    assert train(tmp_path) == train(None)


def test_early_stopping_stops_at_the_same_epoch(tmp_path):
    one = kernel()
    whole = outcome(one.model, one.train(None, patience=2, min_delta=0.3))
    assert whole[-1] < EPOCHS
    two = kernel()
    stop_at(two.model, 10, RuntimeError("lost"))
    with pytest.raises(RuntimeError):
        two.train(tmp_path, patience=2, min_delta=0.3)
    three = kernel()
    assert outcome(three.model, three.train(tmp_path, patience=2, min_delta=0.3)) == whole


def test_rows_and_seconds_of_before_count(tmp_path, capsys):
    stopped_run(tmp_path, 25)
    run = kernel().train(tmp_path, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith(("loaded", "best so far"))][:3] == [
        "1/6", "2/6", "3/6"
    ]  # fmt: skip
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5, 6]
    assert run.seconds["training"] == sum(row["training_seconds"] for row in run.history)


# Finished runs


@pytest.mark.parametrize("how", ["fresh kernel", "same kernel"])
def test_a_finished_run_is_loaded_and_says_so(how, tmp_path, capsys):
    one = kernel()
    first = outcome(one.model, one.train(tmp_path))
    capsys.readouterr()
    two = one if how == "same kernel" else kernel()
    steps: list[bool] = []
    two.model.register_forward_pre_hook(lambda layer, _: steps.append(layer.training))
    run = two.train(tmp_path)
    assert outcome(two.model, run) == first == expected()
    assert not any(steps)
    assert capsys.readouterr().out.startswith("loaded: this run ended on ")


def test_rerun_trains_again_from_the_first_weights(tmp_path, capsys):
    finish(tmp_path)
    one = kernel()
    assert outcome(one.model, one.train(tmp_path, rerun=True)) == expected()
    assert "loaded" not in capsys.readouterr().out
    with pytest.raises(KitError, match="has been trained already: run the cell that makes it"):
        one.train(tmp_path, rerun=True)
    assert finish(tmp_path) == expected()


# Anew


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lr": 0.02}, "optimizer.groups.1.lr was 0.05, is 0.02"),
        ({"decay": 0.0}, "weight_decay was 0.01, is 0.0"),
        ({"smoothing": 0.0}, "criterion.label_smoothing was 0.1, is 0.0"),
        ({"num_epochs": 5}, "num_epochs was 6, is 5"),
        ({"batch_size": 10}, "batch_size was 8, is 10"),
        ({"width": 9}, "network"),
        ({"seed": 2}, "first weights"),
        ({"noise": 1.0}, "tensors of train"),
        ({"schedule": "epoch"}, "scheduler.name was OneCycleLR, is StepLR"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_setting_starts_anew_and_is_named(change, text, finished, tmp_path, capsys):
    if finished:
        finish(tmp_path)
    else:
        stopped_run(tmp_path, 25)
    capsys.readouterr()
    assert finish(tmp_path, **change) == expected(**change)
    said = capsys.readouterr().out
    assert said.startswith("training anew, because something has changed: ")
    assert text in said


def own_network(body: str) -> type:
    """A network whose layers stay while its way through them changes, as a cell defines it."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "__name__": "__main__"}
    exec(
        "class Own(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)\n"
        f"    def forward(self, vectors):\n        {body}\n",
        names,
    )
    return names["Own"]


def train_own(folder: Path, kind: type, **changes: Any) -> None:
    data: Any = vector_data()
    if dataset := changes.pop("dataset", None):
        data = {
            split: DataLoader(dataset(loader.dataset)) for split, loader in data.dataloaders.items()
        }
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = LambdaLR(optimizer, changes.pop("rate", lambda step: 1.0))
    criterion = nn.CrossEntropyLoss(weight=changes.pop("weight", None))
    train_model(model, data, criterion, optimizer, scheduler, num_epochs=1, progress=False,
                checkpoint=folder)  # fmt: skip


RELU = "return self.second(torch.relu(self.first(vectors)))"
DROPOUT = "return self.second(torch.dropout(torch.relu(self.first(vectors)), .3, self.training))"


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        (own_network(RELU.replace("relu", "tanh")), {}, "code of the network"),
        (own_network(DROPOUT), {}, "code of the network"),
        (own_network(RELU), {"weight": torch.arange(1.0, 4)}, "criterion.weight.1 was none, is 1"),
        (own_network(RELU), {"rate": lambda step: 0.9**step}, "scheduler.functions"),
    ],
    ids=["another layer", "dropout in training only", "weights of classes", "another lambda"],
)  # fmt: skip
def test_changes_that_no_number_shows_start_anew_too(kind, changes, text, tmp_path, capsys):
    train_own(tmp_path, own_network(RELU))
    train_own(tmp_path, own_network(f"# a comment\n        {RELU}"))
    assert "loaded" in capsys.readouterr().out
    train_own(tmp_path, kind, **changes)
    said = capsys.readouterr().out
    assert "training anew, because something has changed: " in said
    assert text in said


def test_a_changed_data_set_of_ones_own_starts_anew(tmp_path, capsys):
    class Calm(Noisy):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.dataset[index][0], int(self.dataset[index][1])

    for dataset in (Noisy, Noisy, Calm):
        train_own(tmp_path, own_network(RELU), dataset=dataset)
    assert "changed: transform of train" in capsys.readouterr().out


def test_two_settings_are_kept_and_no_more(tmp_path, capsys):
    for lr in (0.01, 0.02, 0.03):
        finish(tmp_path, lr=lr)
    assert len(list(tmp_path.glob("*.pt"))) == len(list(tmp_path.glob("*.json"))) == 2
    capsys.readouterr()
    finish(tmp_path, lr=0.02)
    assert "loaded" in capsys.readouterr().out
    (note, _) = (json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json")))
    assert note["settings"]["optimizer.name"] == "AdamW"


# Damage


def damage_of(path: Path) -> dict[str, Callable[[], object]]:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    other_schema = {**torch.load(path, weights_only=True), "schema": 1}
    return {
        "cut": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "empty": lambda: path.write_bytes(b""),
        "flipped": lambda: path.write_bytes(bytes(flipped)),
        "text": lambda: path.write_bytes(b"no checkpoint at all"),
        "a list": lambda: torch.save([1], path),
        "schema": lambda: torch.save(other_schema, path),
        "note": lambda: path.with_suffix(".json").write_text("{"),
        "empty note": lambda: path.with_suffix(".json").write_text("{}"),
    }


@pytest.mark.parametrize(
    "kind", ["cut", "empty", "flipped", "text", "a list", "schema", "note", "empty note"]
)
def test_a_damaged_checkpoint_is_never_taken_for_whole(kind, tmp_path, capsys):
    stopped_run(tmp_path, 25)
    (path,) = tmp_path.glob("*.pt")
    damage_of(path)[kind]()
    capsys.readouterr()
    assert finish(tmp_path) == expected()
    said = capsys.readouterr().out
    assert "note" in kind or "training anew, because the checkpoint " in said
    assert "going on" not in said
    assert finish(tmp_path) == expected()
    assert "loaded" in capsys.readouterr().out


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_malicious_checkpoint_is_refused_and_does_not_run(tmp_path):
    trace, folder = tmp_path / "trace", tmp_path / "run"
    stopped_run(folder, 25)
    (path,) = folder.glob("*.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "history": Evil(trace)}, path)
    assert finish(folder) == expected()
    assert not trace.exists()
    pickle.loads(pickle.dumps(Evil(trace)))
    assert trace.exists()  # it would have


# Stopping


def test_stop_keeps_the_best_weights_so_far_and_says_how_to_go_on(tmp_path):
    one = kernel()
    stop_at(one.model, 25, KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        one.train(tmp_path)
    assert str(caught.value).startswith(
        "stopped in epoch 4 of 6. Run this again to go on from there. The model has its best "
        "weights so far, of epoch "
    )
    assert caught.value._render_traceback_() == [f"Interrupted: {caught.value}"]
    (path,) = tmp_path.glob("*.pt")
    best = read_checkpoint(path)["best"]["state"]
    assert all(torch.equal(best[name], value) for name, value in one.model.state_dict().items())


@pytest.mark.parametrize("keep", [True, False])
def test_stop_in_the_first_epoch(keep, tmp_path):
    one = kernel()
    first = {name: value.clone() for name, value in one.model.state_dict().items()}
    stop_at(one.model, 4, KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        one.train(tmp_path if keep else None)
    same = all(torch.equal(first[name], value) for name, value in one.model.state_dict().items())
    assert same == keep
    assert ("Run this again" in str(caught.value)) == keep


def test_an_interrupted_run_is_not_recorded(workspace, tmp_path):
    run = kernel().train(None)
    one = stopped_run(tmp_path, 25)
    recipe, score = get_recipe("bn_cnn", "mini"), helpers.test(one.model, one.data)
    for model in (one.model, nn.Sequential(nn.Identity(), one.model)):
        with pytest.raises(
            KitError, match="stopped in epoch 4 of 6, so there is nothing to record"
        ):
            save_result(workspace, recipe, model=model, data=one.data, run=run, score=score)
    assert not (workspace.results_dir / "bn_cnn").exists()
    run = one.train(tmp_path)
    save_vectors(workspace, one, run)
    (result,) = load_results(workspace)
    assert (result.record["epochs"], result.record["resumed"]) == (6, 1)


def save_vectors(workspace, one: Kernel, run: TrainingRun) -> None:
    """Record a run; input_shape wants pictures, so that the vectors become 6 x 1 x 1."""
    images = {
        split: DataLoader(TensorDataset(loader.dataset.tensors[0][:, :, None, None],
                                        loader.dataset.tensors[1]), batch_size=8)
        for split, loader in one.data.dataloaders.items()
    }  # fmt: skip
    model = nn.Sequential(nn.Flatten(), one.model)
    score = helpers.test(model, images)
    save_result(workspace, {"method": "bn_cnn"}, model=model, data=images, run=run, score=score)


# kill -9


def job(folder: Path, begun: Any) -> None:
    """What the killed process does: train, test, record."""
    torch.set_num_threads(1)
    begun.set()
    train_and_record(folder)


def train_and_record(folder: Path) -> tuple:
    workspace = dataclasses.replace(
        find_workspace(profile="mini", device="cpu"), results_dir=folder
    )
    one = kernel()
    run = one.train(workspace.checkpoints_dir / "bn_cnn")
    save_vectors(workspace, one, run)
    return outcome(one.model, run)


def run_and_kill(folder: Path, moment: float) -> float:
    """Run the job in a process and kill it that many seconds after it began; returns its time."""
    context = multiprocessing.get_context("fork" if FORK else "spawn")
    begun = context.Event()
    process = context.Process(target=job, args=(folder, begun))
    process.start()
    assert begun.wait(120)
    started = time.perf_counter()
    process.join(moment)
    process.kill()
    process.join()
    return time.perf_counter() - started


def check_after_kill(folder: Path) -> None:
    """Nothing half-written is there, and running again ends as if nothing had happened."""
    record = folder / "bn_cnn" / "record.json"
    if record.exists():
        assert json.loads(record.read_text())["epochs"] == EPOCHS
    for path in (folder / "checkpoints").rglob("*.pt"):
        assert read_checkpoint(path)["schema"] == 2
    assert train_and_record(folder) == expected()
    assert not list(folder.rglob(".*.part")) or record.exists()
    assert json.loads(record.read_text())["epochs"] == EPOCHS


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments(count, tmp_path):
    train_and_record(tmp_path / "warm")  # what it imports is there in the processes, too
    whole = run_and_kill(tmp_path / "whole", 120)
    check_after_kill(tmp_path / "whole")
    chance, in_time = random.Random(count), 0
    for number in range(count):
        folder = tmp_path / str(number)
        run_and_kill(folder, chance.uniform(0, 0.8 * whole))
        in_time += not (folder / "bn_cnn" / "record.json").exists()
        check_after_kill(folder)
    assert in_time >= count / 5  # they were killed before their end, not all after it


# Two at once, and a disk that is full


def test_two_runs_at_once_do_not_mix(tmp_path):
    stopped_run(tmp_path, 25)
    one = kernel()
    refused: list[str] = []

    def second(layer: nn.Module, inputs: tuple) -> None:
        if layer.training and not refused:
            with pytest.raises(KitError) as caught:
                kernel().train(tmp_path)
            refused.append(str(caught.value))

    one.model.register_forward_pre_hook(second)
    assert one.train(tmp_path).num_epochs == EPOCHS
    assert "is being written by another run: wait until it ends" in refused[0]
    assert finish(tmp_path)[-1] == EPOCHS


@pytest.mark.parametrize("limit", [0, 3000])
def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(limit, tmp_path, capsys):
    with full_disk(limit):
        assert finish(tmp_path) == expected()
    said = capsys.readouterr().out
    assert said.startswith("NOTE: this run cannot go on if it is interrupted (cannot write ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("*.pt"))


def test_a_schedule_that_cannot_be_kept_is_told_of_beforehand(tmp_path, capsys):
    one = kernel()
    one.scheduler.remark = lambda: None
    assert one.train(tmp_path).num_epochs == EPOCHS
    said = capsys.readouterr().out
    assert said.startswith("NOTE: this run cannot go on if it is interrupted (")
    assert len(said.splitlines()) == 1


def test_a_folder_that_cannot_be_made_costs_the_checkpoint_and_not_the_run(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert finish(tmp_path / "file" / "folder") == expected()
    assert "NOTE: this run cannot go on if it is interrupted (" in capsys.readouterr().out


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    finish(tmp_path)
    (tmp_path / ".abc.pt.123.part").write_bytes(b"half")
    finish(tmp_path, lr=0.01)
    assert not list(tmp_path.glob(".*.part"))
