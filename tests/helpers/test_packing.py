"""Packed weights: small, close to what they were, and never code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.errors import KitError
from helpers.lib.packing import pack, unpack


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


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path, state, damage):
    path = tmp_path / "weights.npz"
    pack(state, path)
    whole = path.read_bytes()
    contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not weights"}
    path.write_bytes(contents[damage])
    with pytest.raises(KitError, match="no file of packed weights"):
        unpack(path)


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
