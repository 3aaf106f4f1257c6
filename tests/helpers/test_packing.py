"""Packed weights: small, close to what they were, and never code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.errors import KitError
from helpers.lib.packing import pack, unpack
from tools.tiny import full_disk


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A state dict with weights of very different scales, a dead channel, and whole numbers."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 40, 5), nn.BatchNorm2d(40), nn.Linear(40, 70))
    state = network.state_dict()
    state["0.weight"] *= torch.logspace(-4, 3, 40)[:, None, None, None]
    state["0.weight"][7] = 0
    return state


def test_weights_come_back_within_half_a_step_of_their_channel(tmp_path, state):
    path = tmp_path / "weights.npz"
    pack(state, path)
    again = unpack(path)
    assert list(again) == list(state)
    for name, value in state.items():
        assert again[name].dtype == value.dtype
        if value.ndim < 2:
            assert torch.equal(again[name], value)
        else:
            largest = value.flatten(1).abs().amax(dim=1)
            error = (again[name] - value).flatten(1).abs().amax(dim=1)
            assert (error <= largest / 127 * 0.501).all()
    assert not again["0.weight"][7].any()


def test_a_packed_network_takes_about_a_quarter_of_the_space(tmp_path):
    path = tmp_path / "weights.npz"
    layer = nn.Linear(400, 500)
    pack(layer.state_dict(), path)
    assert path.stat().st_size < 0.3 * 4 * layer.weight.numel()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path, state, damage):
    path = tmp_path / "weights.npz"
    pack(state, path)
    whole = path.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not weights"}
    path.write_bytes(contents[damage])
    with pytest.raises(KitError, match="no file of packed weights"):
        unpack(path)


def test_a_changed_byte_is_no_other_error(tmp_path, state):
    """Names and dates in the archive have no check sum of their own; all numbers have one."""
    path = tmp_path / "weights.npz"
    pack(state, path)
    expected, whole = unpack(path), path.read_bytes()
    noticed = 0
    for position in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        try:
            again = unpack(path)
        except KitError:
            noticed += 1
        else:
            assert all(torch.equal(again[name], expected[name]) for name in again if name in state)
    assert noticed > 50


def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"

    class Malicious:
        def __reduce__(self):
            return type(trace).touch, (trace,)

    path = tmp_path / "weights.npz"
    np.savez(path, weight=np.array([Malicious()], dtype=object))
    with pytest.raises(KitError, match="no file of packed weights"):
        unpack(path)
    assert not trace.exists()
    with np.load(path, allow_pickle=True) as file:
        file["weight"]
    assert trace.exists()  # it would have


def test_weights_that_cannot_be_written_leave_the_earlier_file(tmp_path, state):
    path = tmp_path / "weights.npz"
    pack(state, path)
    before = path.read_bytes()
    with full_disk(1000), pytest.raises(KitError, match=r"weights\.npz: "):
        pack(state, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
