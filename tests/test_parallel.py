"""Training on several processes: what one process would do, and an end in bounded time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ranks
import torch
from ranks import Ended, run_ranks
from tiny import vector_data, write_class_folders

from coursekit.train import parallel
from coursekit.train.parallel import ALONE, Processes, Share, part_of
from helpers.errors import KitError

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """39 train, 13 val and 13 test pictures: none of them divides by 2."""
    counts = {"blue": 20, "green": 20, "red": 25}
    return write_class_folders(tmp_path_factory.mktemp("uneven"), counts)


@pytest.fixture(scope="module")
def two(pictures, tmp_path_factory) -> tuple[Ended, Path]:
    """A run of two processes that train together, and the folder of what they measured."""
    folder = tmp_path_factory.mktemp("two")
    ended = run_ranks("measure", folder, pictures)
    assert ended.status == 0, ended.err
    return ended, folder


@pytest.fixture(scope="module")
def measured(two) -> list[dict]:
    """What each of the two processes measured."""
    _, folder = two
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(pictures) -> dict:
    """The same experiments in this one process."""
    return ranks.experiments(pictures, ALONE)


# Two processes do what one does


@pytest.mark.parametrize("name", ["plain", "real", "uneven"])
def test_two_processes_learn_what_one_learns(measured, alone, name):
    for mine in measured:
        ours, theirs = mine[name], alone[name]
        torch.testing.assert_close(ours["weights"], theirs["weights"], **ROUNDING)
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
        assert ours["first_loss"] == pytest.approx(theirs["first_loss"], rel=1e-4)
        for exact in ("counts", "best"):
            assert ours[exact] == theirs[exact]


@pytest.mark.parametrize("name", ["plain", "real", "uneven"])
def test_two_processes_test_what_one_tests(measured, alone, name):
    for mine in measured:
        ours, theirs = mine[name], alone[name]
        assert len(ours["predictions"]) == 13
        assert ours["correct"] == theirs["correct"]
        assert ours["ids"] == theirs["ids"]
        assert torch.equal(ours["predictions"], theirs["predictions"])
        torch.testing.assert_close(ours["probabilities"], theirs["probabilities"], **ROUNDING)


def test_the_two_agree_bit_for_bit(measured):
    for name in ("plain", "real", "uneven", "norm"):
        first, second = (mine[name] for mine in measured)
        assert first["counts"] == second["counts"]
        assert first["losses"] == second["losses"]
        for key, value in first["weights"].items():
            assert torch.equal(value, second["weights"][key]), key


def test_features_are_gathered_in_order(measured, alone):
    for mine in measured:
        for split, (vectors, labels, ids) in alone["features"].items():
            assert torch.equal(mine["features"][split][1], labels)
            assert mine["features"][split][2] == ids
            torch.testing.assert_close(mine["features"][split][0], vectors, **ROUNDING)


def test_gradients_are_those_of_the_two_halves_of_each_batch(measured, pictures):
    """With BatchNorm, two processes are one that runs the halves in turn and adds up gradients."""
    model, data = ranks.norm_network(), ranks.pictures_of(pictures)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    epochs = []
    for _ in range(2):
        model.train()
        for images, labels in data.train:
            cut = len(labels) // 2
            optimizer.zero_grad()
            for part in (slice(0, cut), slice(cut, None)):
                loss = ranks.CRITERION(model(images[part]), labels[part])
                (loss * len(labels[part]) / len(labels)).backward()
            optimizer.step()
        epochs.append({name: value.detach().clone() for name, value in model.named_parameters()})
    best, _ = measured[0]["norm"]["best"]
    weights = {name: measured[0]["norm"]["weights"][name] for name in epochs[0]}
    first = ranks.norm_network().state_dict()
    assert max(float((value - first[name]).abs().max()) for name, value in weights.items()) > 0.02
    # BatchNorm over few samples magnifies rounding, which differs with the version of torch.
    torch.testing.assert_close(weights, epochs[best - 1], rtol=1e-4, atol=3e-4)


def test_only_the_first_process_prints_and_records(two):
    ended, folder = two
    assert "record " in ended.out[0]
    assert ended.out[1] == ""
    assert "epoch" in ended.err[0]  # the bar
    assert "epoch" not in ended.err[1]
    record = json.loads((folder / "results/mini/bn_cnn/record.json").read_text(encoding="utf-8"))
    assert record["machine"]["processes"] == 2
    assert record["test"]["total"] == 13
    assert record["recipe"]["num_epochs"] == record["epochs"] == 1


# Parts of a batch


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts_are_a_batch_in_order_and_none_is_of_one(count):
    for length in range(1, 40):
        batch = list(range(length))
        parts = [batch[part_of(length, Processes(rank, count))] for rank in range(count)]
        assert [sample for part in parts for sample in part] == batch
        sizes = {len(part) for part in parts}
        assert 1 not in sizes or length == 1
        if length >= 2 * count:
            assert max(sizes) - min(sizes) <= 1


def test_a_share_has_the_labels_of_the_whole_batch():
    samples = vector_data().train.dataset
    draws = [(index, 0) for index in (5, 3, 1, 4, 2)]
    whole, labels = samples.__getitems__(draws)
    parts = []
    for rank in range(4):  # 5 samples are two parts, and nothing for the other two
        part, shared = Share(samples, Processes(rank, 4)).__getitems__(draws)
        assert torch.equal(shared, labels)
        parts.append(part)
    assert [len(part) for part in parts] == [2, 3, 0, 0]
    assert torch.equal(torch.cat(parts), whole)


def test_alone_nothing_is_changed():
    data, model = vector_data(), torch.nn.Linear(6, 3)
    assert ALONE.share(data) is data
    assert ALONE.train_together(model, ranks.CPU) is model
    assert ALONE.test_together(model) is model
    assert ALONE.device(None) is None


def test_workers_are_kept():
    data = Processes(0, 2).share(vector_data())
    assert {loader.num_workers for loader in data.dataloaders.values()} == {0}


# Devices


@pytest.mark.parametrize(
    ("wish", "processes", "threads"),
    [(None, 2, 4), ("1", 2, 4), ("1", 3, 2), ("1", 16, 1), ("6", 2, None)],
)
def test_processes_share_the_cores(monkeypatch, wish, processes, threads):
    given = []
    monkeypatch.setattr(parallel.torch, "set_num_threads", given.append)
    monkeypatch.setattr(parallel.psutil, "cpu_count", lambda logical: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wish is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
    parallel.share_cores(processes)
    assert given == ([] if threads is None else [threads])


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert Processes(1, 3, 1).device(None) == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]
    with pytest.raises(KitError, match="--nproc_per_node=2"):
        Processes(2, 3, 2).device("cuda")


def test_mps_is_for_one_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert Processes(0, 2).device(None) == torch.device("cpu")
    with pytest.raises(KitError, match="--device cpu"):
        Processes(0, 2).device("mps")


# Failures


def one_error(ended: Ended) -> str:
    """The only line of error that the processes printed."""
    lines = [line for text in ended.err for line in text.splitlines()]
    (error,) = (line for line in lines if line.startswith("error: "))
    return error.removeprefix("error: ")


def files_in(folder: Path) -> list[str]:
    """What a run left in its results folder, but for lock files."""
    left = (folder / "results").rglob("*")
    return sorted(path.name for path in left if path.is_file() and path.suffix != ".lock")


def test_a_killed_process_ends_the_run(tmp_path, pictures):
    ended = run_ranks("die", tmp_path, pictures)
    assert ended.status != 0
    assert ended.seconds < 60
    error = one_error(ended)
    assert error.startswith("rank 0 of 2 ")
    assert "lost contact" in error or "told to stop" in error
    assert files_in(tmp_path) == []


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run(tmp_path, pictures):
    ended = run_ranks("hang", tmp_path, pictures)
    assert ended.status != 0
    assert ended.seconds < 60
    assert "rank 0 of 2 lost contact" in one_error(ended)
    assert "Timed out" in one_error(ended)
    assert files_in(tmp_path) == []


@pytest.mark.slow
def test_a_fault_of_one_process_is_told_once(tmp_path, pictures):
    ended = run_ranks("err", tmp_path, pictures)
    assert ended.status != 0
    assert "ValueError: a fault in the code" in ended.err[1]
    assert "Traceback" not in ended.err[0]
    assert "error: " not in ended.err[0]
    assert files_in(tmp_path) == []


@pytest.mark.slow
def test_a_signal_while_saving_leaves_no_half_written_record(tmp_path, pictures):
    ended = run_ranks("stop_while_saving", tmp_path, pictures)
    assert ended.status != 0
    assert "rank 0 of 2 was told to stop" in one_error(ended)
    assert files_in(tmp_path) == []


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_once(tmp_path, pictures):
    ended = run_ranks("unknown_method", tmp_path, pictures)
    assert ended.status != 0
    assert one_error(ended).startswith("unknown method 'vgg': use one of bn_cnn, ")
