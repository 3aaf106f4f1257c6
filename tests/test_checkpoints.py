"""Interrupted runs go on and end as if nothing had happened; nothing half-written is ever read."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pickle
import platform
import queue
import random
import shutil
import subprocess
import sys
import time
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.manager import start_new_kernel
from made_up import write_result
from tiny import vector_data
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from coursekit.handin.submit import Work
from helpers import bn_cnn, few_per_class, get_recipe, save_result, test, train_model
from helpers.data import Data
from helpers.errors import Interrupted, KitError
from helpers.lib import checkpoint as checkpoints
from helpers.lib.checkpoint import digest, read_checkpoint
from helpers.lib.memory import is_out_of_memory
from helpers.lib.progress import EpochTable
from helpers.results import read_result
from helpers.training import BestWeights, TrainingRun
from helpers.workspace import Workspace, find_workspace

EPOCHS = 6
FORK = "fork" in multiprocessing.get_all_start_methods()


@dataclasses.dataclass
class Kernel:
    """The objects of a notebook, as its cells make them in a fresh kernel."""

    model: nn.Module
    data: Data
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    num_epochs: int = EPOCHS

    def train(self, folder: Path | None, **options) -> TrainingRun:
        """The cell that trains."""
        torch.manual_seed(7)
        given = {"num_epochs": self.num_epochs, "progress": False, "checkpoint": folder}
        return train_model(
            self.model, self.data, self.criterion, self.optimizer, self.scheduler,
            **{**given, **options},
        )  # fmt: skip


def kernel(
    *, lr=0.05, num_epochs=EPOCHS, seed=1, smoothing=0.1, decay=0.01, batch_size=8, width=8
) -> Kernel:
    """A network with BatchNorm and dropout, an optimizer with a state, and a schedule."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 3)
    )
    data = vector_data(noise=2.0, batch_size=batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    scheduler = OneCycleLR(optimizer, lr, total_steps=num_epochs * len(data.train))
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)
    return Kernel(model, data, criterion, optimizer, scheduler, num_epochs)


def outcome(model: nn.Module, run: TrainingRun) -> tuple:
    """All of a run that must be the same, however often it was interrupted; exact numbers."""
    rows = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in run.history]
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    return rows, weights, run.first_loss, run.best_epoch, run.best_val_accuracy, run.num_epochs


@functools.cache
def expected(**changes) -> tuple:
    """The outcome of a run that is not interrupted and keeps no checkpoint."""
    one = kernel(**changes)
    return outcome(one.model, one.train(None))


def finish(folder: Path, **options) -> tuple:
    """Run all cells in a fresh kernel; returns the outcome."""
    one = kernel()
    return outcome(one.model, one.train(folder, **options))


class LostError(Exception):
    """Something that ends a run from outside."""


def stop_at(model: nn.Module, step: int, error: BaseException) -> None:
    """Raise `error` in that forward pass of training, counted from 1, once."""
    passed = []

    def count(layer, inputs):
        passed.append(layer.training)
        if layer.training and sum(passed) == step:
            raise error

    model.register_forward_pre_hook(count)


def stopped_run(folder: Path, step: int, error: BaseException | None = None) -> Kernel:
    """The objects of a run that was stopped in that step, 7 of which are an epoch."""
    one = kernel()
    error = error or KeyboardInterrupt()
    stop_at(one.model, step, error)
    with pytest.raises(type(error)):
        one.train(folder)
    return one


# Going on


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_a_run_lost_after_any_epoch_goes_on_and_ends_the_same(epoch, tmp_path, monkeypatch, capsys):
    epoch_done = EpochTable.epoch_done

    def lose(table, row, **options):
        epoch_done(table, row, **options)
        if row["epoch"] == epoch:
            raise LostError

    with monkeypatch.context() as patch, pytest.raises(LostError):
        patch.setattr(EpochTable, "epoch_done", lose)
        finish(tmp_path)
    capsys.readouterr()
    assert finish(tmp_path) == expected()
    said = f"going on with epoch {epoch} of {EPOCHS}: interrupted on "
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize("step", [1, 4, 8, 20, 41])
def test_the_same_cell_goes_on_in_the_same_kernel(step, tmp_path):
    one = stopped_run(tmp_path, step)
    assert outcome(one.model, one.train(tmp_path)) == expected()


def test_a_run_stopped_again_and_again_ends_the_same(tmp_path):
    one = stopped_run(tmp_path, 10)
    for step in (12, 19, 3):
        stop_at(one.model, step, KeyboardInterrupt())
        with pytest.raises(Interrupted):
            one.train(tmp_path)
    run = one.train(tmp_path)
    assert outcome(one.model, run) == expected()
    assert run.resumed == 3  # twice it was stopped in epoch 5, which counts once


def steep(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss whose scaled gradients are too large for float16, until the scale is lower."""
    return 100 * nn.functional.cross_entropy(logits, labels)


def test_scaled_gradients_go_on_with_their_scale(tmp_path):
    def train(folder, stop=0):
        one = kernel()
        one.scheduler, one.criterion = None, steep
        if stop:
            stop_at(one.model, stop, KeyboardInterrupt())
        return outcome(one.model, one.train(folder, precision=torch.float16))

    with pytest.raises(Interrupted):
        train(tmp_path, stop=10)
    scaler = read_checkpoint(next(tmp_path.glob("*.pt")))["scaler"]
    assert scaler["scale"] < torch.amp.GradScaler("cpu").get_scale()
    assert train(tmp_path) == train(None)


def test_pictures_with_augmentation_go_on_with_the_right_ones(data, tmp_path):
    def train(folder, stop=0):
        torch.manual_seed(0)
        model = bn_cnn(3, widths=(8, 16))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * len(data.train))
        if stop:
            stop_at(model, stop, KeyboardInterrupt())
        run = train_model(
            model, data, nn.CrossEntropyLoss(), optimizer, scheduler, num_epochs=4,
            precision=torch.bfloat16, progress=False, checkpoint=folder,
        )  # fmt: skip
        return outcome(model, run)

    with pytest.raises(Interrupted):
        train(tmp_path, stop=2 * len(data.train) + 2)
    assert train(tmp_path) == train(None)


def test_early_stopping_stops_at_the_same_epoch(tmp_path, monkeypatch):
    one = kernel()
    wanted = outcome(one.model, one.train(None, patience=2))
    assert wanted[-1] < EPOCHS
    write = checkpoints.Checkpoints._write

    def lose(saved, *, finished=False):
        if finished:
            raise LostError
        write(saved)

    monkeypatch.setattr(checkpoints.Checkpoints, "_write", lose)
    with pytest.raises(LostError):
        finish(tmp_path, patience=2)
    monkeypatch.undo()
    assert finish(tmp_path, patience=2) == wanted
    assert finish(tmp_path, patience=2) == wanted  # loaded


def test_rows_of_before_are_shown_again_and_marked(tmp_path, capsys):
    stopped_run(tmp_path, 18)
    capsys.readouterr()
    kernel().train(tmp_path, progress=True)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if f"/{EPOCHS} " in line]
    assert [line.split()[0] for line in rows] == [f"{n}/{EPOCHS}" for n in range(1, EPOCHS + 1)]
    assert ["loaded" in line for line in rows] == [True] * 2 + [False] * 4


def test_seconds_are_of_all_epochs_and_not_of_checkpoints(tmp_path, monkeypatch):
    first = stopped_run(tmp_path, 18)
    rows = read_checkpoint(next(tmp_path.glob("*.pt")))["history"]
    assert len(rows) == 2
    slept = []
    monkeypatch.setattr(
        checkpoints.torch,
        "save",
        lambda *_, save=torch.save: (slept.append(time.sleep(0.1)), save(*_)),
    )
    run = first.train(tmp_path)
    assert run.history[:2] == rows
    assert len(slept) >= 4
    assert run.seconds["loading"] == pytest.approx(sum(r["loading_seconds"] for r in run.history))
    assert sum(row["loading_seconds"] for row in run.history[2:]) < 0.1 * len(slept) / 2


def test_seconds_of_features_are_those_of_the_first_time(tmp_path):
    for seconds in (12.5, 99.0):
        one = kernel()
        one.data = dataclasses.replace(one.data, feature_seconds=seconds)
        assert one.train(tmp_path).seconds["features"] == 12.5


# A finished run


def test_a_finished_run_is_loaded_and_says_so(tmp_path, capsys):
    first = kernel()
    run = first.train(tmp_path)
    capsys.readouterr()
    again = kernel()
    passed = []
    again.model.register_forward_pre_hook(lambda *_: passed.append(1))
    loaded = again.train(tmp_path, progress=True)
    assert not passed
    assert loaded == run  # with the seconds of then
    assert outcome(again.model, loaded) == outcome(first.model, run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("loaded: this run ended on 20")
    assert lines[0].endswith("rerun=True would train it again")
    assert sum("loaded" in line for line in lines[1:]) == EPOCHS
    assert lines[-1].startswith(f"best on val: epoch {run.best_epoch}, ")


def test_a_finished_run_is_loaded_in_the_same_kernel(tmp_path):
    one = kernel()
    run = one.train(tmp_path)
    assert one.train(tmp_path) == run
    assert outcome(one.model, run) == expected()


def test_rerun_trains_again(tmp_path, capsys):
    run = kernel().train(tmp_path)
    capsys.readouterr()
    again = kernel()
    rerun = again.train(tmp_path, rerun=True)
    assert outcome(again.model, rerun) == expected()
    assert rerun.seconds != run.seconds
    assert capsys.readouterr().out == ""


def test_rerun_with_a_network_that_has_learned_is_refused(tmp_path):
    one = kernel()
    one.train(tmp_path)
    with pytest.raises(KitError, match="the schedule has 0 of its"):
        one.train(tmp_path, rerun=True)


def test_a_run_without_a_checkpoint_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert finish(None) == expected()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


# A changed setting


CHANGES = {
    "num_epochs was 6, is 4": {"num_epochs": 4},
    "batch_size was 8, is 16": {"batch_size": 16},
    "lr of group 1 was 0.": {"lr": 0.1},
    "weight_decay of group 1 was 0.01, is 0.02": {"decay": 0.02},
    "label_smoothing of the criterion was 0.1, is 0.0": {"smoothing": 0.0},
    "first weights": {"seed": 2},
    "network": {"width": 9},
}


@pytest.mark.parametrize(("text", "change"), CHANGES.items(), ids=CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_setting_starts_anew_and_is_named(text, change, finished, tmp_path, capsys):
    if finished:
        finish(tmp_path)
    else:
        stopped_run(tmp_path, 20)
    capsys.readouterr()
    changed = kernel(**change)
    assert outcome(changed.model, changed.train(tmp_path)) == expected(**change)
    said = capsys.readouterr().out
    assert said.startswith("training anew, for something has changed: ")
    assert text in said
    assert len(said.splitlines()) == 1
    assert finish(tmp_path) == expected()  # what was there is not lost
    again = "loaded: " if finished else "going on with epoch 3 "
    assert capsys.readouterr().out.startswith(again)


def test_what_else_decides_a_result(tmp_path, monkeypatch, capsys):
    finish(tmp_path)

    def anew(one=None, seed=7, **options):
        one = one or kernel()
        one.train(tmp_path, **options)
        return "training anew" in capsys.readouterr().out

    capsys.readouterr()
    assert not anew()
    assert anew(precision=torch.bfloat16)
    assert anew(patience=50)
    other = kernel()
    samples = other.data.train.dataset
    samples.vectors = samples.vectors + 1e-6
    assert anew(other)
    fewer = kernel()
    fewer.data = few_per_class(fewer.data, 14, seed=0)
    fewer.scheduler = None
    assert anew(fewer)
    monkeypatch.setattr(checkpoints, "kit_version", lambda: "0.0.1")
    assert anew()
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    torch.rand(1)
    assert anew()


def test_numbers_of_numpy_and_functions_are_no_obstacle(tmp_path):
    def train():
        one = kernel()
        one.optimizer.param_groups[0]["lr"] = np.float64(0.05)
        one.scheduler = None
        one.criterion = nn.functional.cross_entropy
        return one.train(tmp_path)

    assert train() == train()


def test_two_settings_are_kept_and_no_more(tmp_path):
    for rate in (0.01, 0.02, 0.03, 0.04):
        kernel(lr=rate, num_epochs=1).train(tmp_path)
        time.sleep(0.01)  # files are told apart by their times
    assert len(list(tmp_path.glob("*.pt"))) == checkpoints.KEPT == 2


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=40),
    st.sampled_from([torch.float32, torch.float64, torch.int64]),
    st.data(),
)
def test_a_digest_is_of_values_and_of_nothing_else(values, kind, chosen):
    numbers = torch.tensor(values, dtype=torch.float64).nan_to_num(0, 1e9, -1e9).to(kind)
    plane = numbers.repeat(2, 1).T  # the same values, laid out otherwise
    assert digest({"a": plane}) == digest({"a": plane.contiguous()})
    other = plane.clone()
    place = chosen.draw(st.integers(0, len(values) - 1))
    other[place, 1] = int(other[place, 1] == 0)
    assert digest({"a": other}) != digest({"a": plane})
    assert digest({"b": plane}) != digest({"a": plane})
    assert digest({"a": plane.reshape(-1)}) != digest({"a": plane})


# Damaged and hostile files


def damaged_runs(folder: Path) -> list[bytes]:
    """The bytes of an unfinished checkpoint, cut and changed in many places."""
    (path,) = folder.glob("*.pt")
    whole, chance = path.read_bytes(), random.Random(3)
    cut = [whole[: chance.randrange(len(whole))] for _ in range(6)]
    changed = []
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.file_size > 20]
    for info in chance.sample(members, 8):  # in what a member holds: elsewhere nothing may change
        place = whole.index(info.filename.encode()) + len(info.filename)
        place += 64 + chance.randrange(info.file_size - 1)  # behind the padding
        changed.append(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    return [b"", b"not a checkpoint", *cut, *changed]


def test_a_damaged_checkpoint_is_never_taken_for_whole(tmp_path, capsys):
    stopped_run(tmp_path, 20)
    (path,) = tmp_path.glob("*.pt")
    refused = 0
    for content in damaged_runs(tmp_path):
        path.write_bytes(content)
        capsys.readouterr()
        assert finish(tmp_path) == expected()
        refused += "training anew, for the checkpoint" in capsys.readouterr().out
    assert refused >= 12


class Evil:
    """What a pickle may contain: a call of any function."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("kind", ["pickle", "archive", "hidden"])
def test_a_malicious_checkpoint_is_refused_and_does_not_run(kind, tmp_path, capsys):
    folder, proof = tmp_path / "checkpoints", tmp_path / "it ran"
    stopped_run(folder, 20)
    (path,) = folder.glob("*.pt")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(proof)))
    elif kind == "archive":
        torch.save(Evil(proof), path)
    else:
        torch.save({**read_checkpoint(path), "optimizer": Evil(proof)}, path)
    capsys.readouterr()
    assert finish(folder) == expected()
    assert not proof.exists()
    assert "training anew, for the checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"facts": {}},
        {"history": [{"epoch": 2}]},
        {"history": "none"},
        {"model": {}},
        {"best": None},
        {"first_loss": "low"},
    ],
    ids=str,
)
def test_a_checkpoint_of_something_else_is_refused(change, tmp_path, capsys):
    stopped_run(tmp_path, 20)
    (path,) = tmp_path.glob("*.pt")
    torch.save({**read_checkpoint(path), **change}, path)
    capsys.readouterr()
    assert finish(tmp_path) == expected()
    assert "training anew, for the checkpoint" in capsys.readouterr().out


# The stop button


def test_stop_keeps_the_best_weights_so_far_and_says_how_to_go_on(tmp_path):
    wanted, best = kernel(), []
    keep = BestWeights.keep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestWeights, "keep", lambda b, *a: (keep(b, *a), best.append(b.state)))
        wanted.train(None)
    one = kernel()
    stop_at(one.model, 25, KeyboardInterrupt())
    with pytest.raises(Interrupted) as caught:
        one.train(tmp_path)
    message = str(caught.value)
    assert message.startswith("stopped in epoch 4 of 6. Run this again to go on from there. ")
    assert "The model has its best weights so far, of epoch " in message
    assert caught.value._render_traceback_() == [f"Interrupted: {message}"]
    assert isinstance(caught.value, KeyboardInterrupt)  # so the cells after it do not run
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, best[2][name])


def test_stop_in_the_first_epoch_leaves_the_first_weights(tmp_path):
    one, first = kernel(), kernel().model.state_dict()
    stop_at(one.model, 4, KeyboardInterrupt())
    with pytest.raises(Interrupted, match=r"in epoch 1 of 6\. .* has its first weights"):
        one.train(tmp_path)
    assert all(torch.equal(value, first[name]) for name, value in one.model.state_dict().items())


def test_stop_without_a_checkpoint_keeps_the_best_weights_too(tmp_path):
    one = stopped_run(None, 25)
    kept = stopped_run(tmp_path, 25).model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in one.model.state_dict().items())
    with pytest.raises(KitError, match="schedule"):
        one.train(None)


@pytest.mark.parametrize("epoch", [3, EPOCHS])
def test_stop_while_a_checkpoint_is_written_loses_no_epoch(epoch, tmp_path, monkeypatch, capsys):
    save, calls = torch.save, []

    def stop(content, target):
        calls.append(target)
        files = sum(isinstance(one, Path) for one in calls)
        if isinstance(target, Path) and files == epoch + 1:  # the first is before the first epoch
            raise KeyboardInterrupt
        save(content, target)

    monkeypatch.setattr(torch, "save", stop)
    one = kernel()
    with pytest.raises(KeyboardInterrupt):
        one.train(tmp_path)
    monkeypatch.undo()
    capsys.readouterr()
    for again in (one, kernel()):
        assert outcome(again.model, again.train(tmp_path)) == expected()
        said = capsys.readouterr().out
        assert said.startswith(
            "loaded" if epoch == EPOCHS or again is not one else "going on with epoch 4"
        )


def test_an_interrupted_run_is_not_recorded(workspace, tmp_path):
    """Nor its head inside a network, with the run of another network at hand."""
    other = kernel()
    run = other.train(None)
    one = stopped_run(tmp_path, 25)
    recipe, score = get_recipe("bn_cnn", "mini"), test(one.model, one.data.test)
    for model in (one.model, nn.Sequential(nn.Identity(), one.model)):
        with pytest.raises(KitError, match="stopped in epoch 4 of 6, so there is nothing to rec"):
            save_result(workspace, recipe, model=model, data=one.data, run=run, score=score)
    assert not (workspace.results_dir / "bn_cnn").exists()
    run = one.train(tmp_path)
    folder = save_result(workspace, recipe, model=one.model, data=one.data, run=run, score=score)
    record = read_result(folder / "record.json").record
    assert (record["epochs"], record["resumed"]) == (6, 1)


IN_A_NOTEBOOK = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoints import kernel
one = kernel()
pause = 0.1
one.model.register_forward_pre_hook(lambda *_: time.sleep(pause))
folder = Path("checkpoints")
"""


@pytest.mark.slow
def test_the_stop_button_of_a_notebook(tmp_path):
    """A real kernel: one line, later cells do not run, and the same cell goes on."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    shown = []

    def execute(*sources: str, stop: bool = False) -> list[str]:
        """How these cells ended, sent one behind the other as "run all" does."""
        sent = [client.execute(source) for source in sources]
        if stop:
            while saved_epochs(tmp_path / "checkpoints") < 1:
                time.sleep(0.02)
            manager.interrupt_kernel()
        statuses: dict[str, str] = {}
        while not statuses.keys() >= set(sent):
            message = client.get_shell_msg(timeout=120)
            statuses[message["parent_header"]["msg_id"]] = message["content"]["status"]
        with contextlib.suppress(queue.Empty):
            while True:
                message = client.get_iopub_msg(timeout=1)
                shown.append((message["msg_type"], message["content"]))
        return [statuses[one] for one in sent]

    try:
        assert execute(IN_A_NOTEBOOK) == ["ok"]
        stopped = execute("run = one.train(folder)", "print('later')", stop=True)
        assert stopped[0] == "error"
        assert stopped[1] != "ok"
        (error,) = (content for kind, content in shown if kind == "error")
        assert error["ename"] == "Interrupted"
        (line,) = error["traceback"]
        assert line.startswith("Interrupted: stopped in epoch ")
        assert not [c for kind, c in shown if kind == "stream" and "later" in c["text"]]
        shown.clear()
        assert execute("pause = 0; run = one.train(folder); print(run.num_epochs)") == ["ok"]
        text = "".join(content["text"] for kind, content in shown if kind == "stream")
        assert text.startswith("going on with epoch ")
        assert text.endswith("6\n")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def saved_epochs(folder: Path) -> int:
    """Of how many epochs a checkpoint tells, 0 while there is none."""
    for path in folder.glob("*.pt"):
        with contextlib.suppress(KitError):
            return len(read_checkpoint(path)["history"])
    return 0


# kill -9


def job(folder: Path, begun, patch: Callable[[], None] | None) -> None:
    """What the killed process does: train, test, record."""
    torch.set_num_threads(1)
    if patch:
        patch()
    begun.set()
    train_and_record(folder)


def train_and_record(folder: Path) -> tuple:
    workspace = dataclasses.replace(
        find_workspace(profile="mini", device="cpu"), results_dir=folder
    )
    one = kernel()
    run = one.train(workspace.checkpoints_dir / "bn_cnn")
    score = test(one.model, one.data.test)
    recipe = get_recipe("bn_cnn", "mini")
    save_result(workspace, recipe, model=one.model, data=one.data, run=run, score=score)
    return outcome(one.model, run)


def run_and_kill(folder: Path, moment: float, patch: Callable[[], None] | None = None) -> float:
    """Run the job in a process and kill it that many seconds after it began; returns its time."""
    context = multiprocessing.get_context("fork" if FORK else "spawn")
    begun = context.Event()
    process = context.Process(target=job, args=(folder, begun, patch))
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
        assert read_result(record).record["epochs"] == EPOCHS
    for path in (folder / "checkpoints").rglob("*.pt"):
        assert read_checkpoint(path)["schema"] == checkpoints.SCHEMA
    assert train_and_record(folder) == expected()
    assert read_result(record).record["epochs"] == EPOCHS


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(count, tmp_path):
    whole = run_and_kill(tmp_path / "whole", 120)
    check_after_kill(tmp_path / "whole")
    chance, in_time = random.Random(count), 0
    for number in range(count):
        folder = tmp_path / str(number)
        run_and_kill(folder, chance.uniform(0, whole))
        in_time += not (folder / "bn_cnn" / "record.json").exists()
        check_after_kill(folder)
        shutil.rmtree(folder)
    assert in_time >= count / 8  # they were killed before their end, not all after it


def test_killed_again_and_again(tmp_path):
    whole = run_and_kill(tmp_path / "whole", 120)
    for _ in range(5):
        run_and_kill(tmp_path / "one", whole / 3)
    check_after_kill(tmp_path / "one")


def die_at(name: str, calls: int) -> None:
    """End this process at once in that call: of `save` with half of the file written."""
    seen, save, rename = [], torch.save, Path.replace

    def half(content, path):
        save(content, path)
        seen.extend([1] * isinstance(path, Path))
        if len(seen) == calls and isinstance(path, Path):
            os.truncate(path, Path(path).stat().st_size // 2)
            os._exit(9)

    def before(path, target):
        seen.append(1)
        if len(seen) == calls:
            os._exit(9)
        return rename(path, target)

    if name == "save":
        torch.save = half
    else:
        Path.replace = before


# A run writes 7 checkpoints: 1 before, 5 between epochs, 1 at the end; then the files of a result.
@pytest.mark.parametrize(
    ("name", "calls"),
    [
        *(("save", n) for n in (1, 4, 7, 8)),
        *(("replace", n) for n in (1, 4, 7, 9, 10)),
    ],
)
def test_killed_while_a_file_is_written(name, calls, tmp_path):
    run_and_kill(tmp_path, 120, functools.partial(die_at, name, calls))
    assert list(tmp_path.rglob(".*.part"))  # it was killed in the midst of it
    check_after_kill(tmp_path)


# Two at once, and a disk that does not take it


def test_two_runs_at_once_do_not_mix(tmp_path, capsys):
    one, other = kernel(), kernel()
    refused = []

    def start_another(layer, inputs):
        if layer.training and not refused:
            with torch.random.fork_rng(), pytest.raises(KitError) as caught:
                other.train(tmp_path)
            refused.append(str(caught.value))

    one.model.register_forward_pre_hook(start_another)
    run = one.train(tmp_path)
    assert "is being written by another run: wait until it ends" in refused[0]
    assert capsys.readouterr().out == ""  # nor does the other one say that it goes on
    assert outcome(one.model, run) == expected()
    assert outcome(other.model, other.train(tmp_path)) == expected()


def test_a_run_that_another_has_overtaken_says_so(tmp_path, monkeypatch):
    stopped_run(tmp_path, 10)
    only_writer = checkpoints.only_writer

    def later(*arguments):
        monkeypatch.setattr(checkpoints, "only_writer", only_writer)
        finish(tmp_path)
        return only_writer(*arguments)

    monkeypatch.setattr(checkpoints, "only_writer", later)
    with pytest.raises(KitError, match="another run has just written"):
        finish(tmp_path)
    assert finish(tmp_path) == expected()


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("[enforce fail at inline_container.cc] . file write failed")

    monkeypatch.setattr(torch, "save", fail)
    assert finish(tmp_path) == expected()
    said = capsys.readouterr().out
    assert said.startswith("NOTE: this run cannot go on if it is interrupted, for cannot write ")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("remark", [Path("anything"), lambda: None], ids=["read", "written"])
def test_a_schedule_that_cannot_be_kept_is_told_of_beforehand(remark, tmp_path, capsys):
    one = kernel()
    one.scheduler.remark = remark
    run = one.train(tmp_path)
    assert outcome(one.model, run)[-1] == EPOCHS
    said = capsys.readouterr().out
    assert said.startswith("NOTE: this run cannot go on if it is interrupted, for ")
    assert len(said.splitlines()) == 1


def test_a_folder_that_cannot_be_made_costs_the_checkpoint_and_not_the_run(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert finish(tmp_path / "file" / "folder") == expected()
    assert "NOTE: this run cannot go on if it is interrupted, for " in capsys.readouterr().out


def test_checkpoints_are_not_handed_in(workspace: Workspace):
    write_result(workspace.results_dir, "bn_cnn")
    folder = workspace.checkpoints_dir / "bn_cnn"
    finish(folder)
    assert list(folder.glob("*.pt"))
    files = Work(workspace).files()
    assert [path for path in files if "record.json" in path]
    assert not [path for path in files if "checkpoint" in path or path.endswith(".pt")]


# Memory

TOO_MUCH = [
    (torch.cuda.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB."),
    (RuntimeError, "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
    (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    (RuntimeError, "MPS backend out of memory (MPS allocated: 9 GB)"),
    (MemoryError, ""),
]


@pytest.mark.parametrize(("kind", "text"), TOO_MUCH)
def test_out_of_memory_is_recognised(kind, text):
    assert is_out_of_memory(kind(text))
    assert not is_out_of_memory(kind("mat1 and mat2")) or kind in (MemoryError,)
    assert not is_out_of_memory(KitError(text))


class Hungry(nn.Linear):
    """A layer that finds no memory when its batch is too large, in train mode or always."""

    def __init__(self, kind: type, text: str, *, only_training: bool) -> None:
        super().__init__(6, 3)
        self.kind, self.text, self.only_training, self.made = kind, text, only_training, []

    def forward(self, values):
        logits = super().forward(values)
        self.made.append(weakref.ref(logits))
        if (self.training or not self.only_training) and len(values) > 4:
            raise self.kind(self.text)
        return logits


@pytest.mark.parametrize("only_training", [True, False])
def test_out_of_memory_frees_what_it_held_and_says_what_to_change(only_training):
    model, data = Hungry(*TOO_MUCH[0], only_training=only_training), vector_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KitError) as caught:
        train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1, progress=False)
    message = str(caught.value)
    assert message.startswith("out of memory with batches of 8 at 16 pixels. ")
    assert "write batch_size=4 in load_data(...)" in message
    assert "BatchNorm" in message
    assert model.made
    assert not [tensor for tensor in model.made if tensor() is not None]  # `caught` is still there
    assert all(parameter.grad is None for parameter in model.parameters())


def test_other_errors_are_left_as_they_are():
    model, data = Hungry(RuntimeError, "mat1 and mat2", only_training=True), vector_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1, progress=False)


# Cost


def told(num_epochs: int, seconds: float, capsys, monkeypatch, **options) -> str:
    """What the table prints during the first batches of a run with batches that take so long."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    with EpochTable(num_epochs, 120, **options) as table:
        for _ in range(10):
            now[0] += seconds
            table.batch_done(1.0, 0.5)
    monkeypatch.undo()
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "about" in line)


def test_the_cost_of_a_long_run_is_said_before_it(capsys, monkeypatch):
    cost = functools.partial(told, capsys=capsys, monkeypatch=monkeypatch)
    assert cost(10, 14.0).startswith(
        "an epoch will train for about 28 min here, this run for 4.7 h (estimated from 2 batches"
    )
    assert cost(10, 14.0).endswith(" GB of memory")
    assert "about 60 s here, this run for 10 min (estimated from 3 batches" in cost(10, 0.5)
    assert cost(10, 0.2) == ""
    assert cost(10, 14.0, show=False) == ""
    row = {"epoch": 1, "val_accuracy": 0.5, "train_loss": 1, "train_accuracy": 0.5, "val_loss": 1}
    row |= {f"{name}_seconds": 60 for name in ("training", "loading", "evaluation")}
    assert "this run for 9 min" in cost(10, 0.5, history=[row])


GIVEN_BACK = """
import psutil, torch
from helpers.lib.memory import careful_with_memory, keep_freed_memory

def memory():
    return psutil.Process().memory_info().rss / 1e6

def train(model, data):
    # What is kept lies between what is freed, as the weights lie between a step's tensors.
    blocks = [torch.ones(500_000) for _ in range(400)]
    kept.extend(blocks[::40])
    return memory()

kept = []
print(keep_freed_memory(), train(None, None), memory())
print(careful_with_memory(train)(None, None), memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_that_was_kept_for_training_is_given_back_after_it():
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], check=True, capture_output=True, text=True
    )
    before, after = (line.split()[-2:] for line in done.stdout.splitlines())
    most, still = map(float, before)
    assert most - still < 100, "nothing was kept: the second line would show nothing"
    most, still = map(float, after)
    assert most - still > 600
