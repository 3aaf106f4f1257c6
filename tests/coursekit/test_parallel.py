"""Training on several processes: they stay alike, one records, and they end together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from coursekit.train.parallel import ALONE, Processes
from helpers.errors import KitError
from tools.ranks import EPOCHS, LR, Ended, network_and_data, run_ranks
from tools.tiny import write_class_folders


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """39 train, 13 val and 13 test pictures: none of them divides by 2."""
    counts = {"blue": 20, "green": 20, "red": 25}
    return write_class_folders(tmp_path_factory.mktemp("uneven"), counts)


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory) -> list[dict]:
    """What each of two processes has after training together."""
    folder = tmp_path_factory.mktemp("two")
    ended = run_ranks("learn", folder, pictures)
    assert ended.status == 0, ended.err
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_the_two_stay_alike_bit_for_bit(learned):
    first, second = learned
    assert first["val"] == second["val"]
    assert first["best"] == second["best"]
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name


def test_their_gradients_are_averaged(learned):
    """As one process that runs both parts of each batch, one after the other."""
    model, data = network_and_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    parts = [Processes(rank, 2).divide(data).train for rank in range(2)]
    epochs = []
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for part in parts:
            part.sampler.set_epoch(epoch)
        for batches in zip(*parts, strict=True):
            optimizer.zero_grad()
            for images, labels in batches:
                (nn.functional.cross_entropy(model(images), labels) / 2).backward()
            optimizer.step()
        epochs.append({name: value.detach().clone() for name, value in model.named_parameters()})
    weights = {name: learned[0]["weights"][name] for name in epochs[0]}
    torch.testing.assert_close(weights, epochs[learned[0]["best"] - 1], rtol=1e-4, atol=1e-5)
    first = network_and_data()[0].state_dict()
    assert max(float((value - first[name]).abs().max()) for name, value in weights.items()) > 0.02


def test_only_the_first_process_prints_and_records(tmp_path, pictures):
    ended = run_ranks("command", tmp_path, pictures)
    assert ended.status == 0, ended.err
    assert "record " in ended.out[0]
    assert ended.out[1] == ""
    assert "epoch" not in ended.err[1]
    record = json.loads((tmp_path / "results/mini/bn_cnn/record.json").read_text("utf-8"))
    assert record["machine"]["processes"] == 2
    assert record["test"]["total"] == 13
    assert record["recipe"]["num_epochs"] == record["epochs"] == 1


# Parts


@pytest.mark.parametrize("count", [2, 4])
def test_training_pictures_are_divided_anew_each_epoch(data, count):
    orders = []
    for epoch in (1, 2):
        drawn = []
        for rank in range(count):
            part = Processes(rank, count).divide(data)
            assert part.val is data.val
            assert part.test is data.test
            part.train.sampler.set_epoch(epoch)
            assert all(len(labels) == 8 // count for _, labels in list(part.train)[:-1])
            drawn.append([index for batch in part.train.sampler for index in batch])
        assert sorted(index for part in drawn for index in part) == list(range(36))
        orders.append(drawn)
    assert orders[0] != orders[1]


def test_batches_that_cannot_be_divided_are_refused():
    _, data = network_and_data()
    with pytest.raises(KitError, match="a batch of 8 cannot be divided among 3 processes"):
        Processes(0, 3).divide(data)


def test_alone_nothing_is_changed():
    model, data = network_and_data()
    assert ALONE.divide(data) is data
    assert ALONE.train_together(model, torch.device("cpu")) is model
    assert ALONE.device(None) is None


# Devices


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert Processes(1, 3, 1).device(None) == torch.device("cuda", 1)
    with pytest.raises(KitError, match="--nproc_per_node=2"):
        Processes(2, 3, 2).device("cuda")


def test_mps_is_for_one_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert Processes(0, 2).device(None) == "cpu"
    with pytest.raises(KitError, match="--device cpu"):
        Processes(0, 2).device("mps")


# Failures


def one_error(ended: Ended) -> str:
    """The only line of error that the processes printed."""
    lines = [line for text in ended.err for line in text.splitlines()]
    (error,) = (line for line in lines if line.startswith("error: "))
    return error.removeprefix("error: ")


def nothing_is_left(folder: Path) -> bool:
    """Whether a run left no file in its results folder, but for lock files."""
    left = (folder / "results").rglob("*")
    return not [path for path in left if path.is_file() and path.suffix != ".lock"]


def test_a_killed_process_ends_the_run(tmp_path, pictures):
    ended = run_ranks("die", tmp_path, pictures)
    assert ended.status != 0
    assert ended.seconds < 60
    error = one_error(ended)
    assert error.startswith("rank 0 of 2 ")
    assert "lost contact" in error or "told to stop" in error
    assert nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run(tmp_path, pictures):
    ended = run_ranks("hang", tmp_path, pictures)
    assert ended.status != 0
    assert ended.seconds < 60
    assert "rank 0 of 2 lost contact" in one_error(ended)
    assert "Timed out" in one_error(ended)
    assert nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_fault_of_one_process_is_told_once(tmp_path, pictures):
    ended = run_ranks("err", tmp_path, pictures)
    assert ended.status != 0
    assert "ValueError: a fault in the code" in ended.err[1]
    assert "Traceback" not in ended.err[0]
    assert "error: " not in ended.err[0]
    assert nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_signal_while_saving_leaves_no_half_written_record(tmp_path, pictures):
    ended = run_ranks("stop_while_saving", tmp_path, pictures)
    assert ended.status != 0
    assert "rank 0 of 2 was told to stop" in one_error(ended)
    assert nothing_is_left(tmp_path)


@pytest.mark.slow
def test_an_error_of_all_processes_is_told_once(tmp_path, pictures):
    ended = run_ranks("unknown_method", tmp_path, pictures)
    assert ended.status != 0
    assert one_error(ended).startswith("unknown method 'vgg'")
    assert nothing_is_left(tmp_path)
