"""Watching a layer: what is noted is true, and watching changes nothing."""

from __future__ import annotations

import copy

import torch
from torch import nn

from helpers import train_model, watch_inputs


def train(model, data):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    train_model(model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=2, progress=False)


def test_a_row_for_each_training_step_and_none_for_val(data, cnn):
    with watch_inputs(cnn[2]) as seen:
        train(cnn, data)
    assert seen.means.shape == seen.deviations.shape == (2 * len(data.train), 8)
    # What leaves BatchNorm at the first step: its learned numbers are still 0 and 1.
    assert torch.allclose(seen.means[0], torch.zeros(8), atol=1e-4)
    assert torch.allclose(seen.deviations[0], torch.ones(8), atol=1e-2)


def test_the_numbers_are_those_of_what_reached_it(data, cnn):
    images, _ = next(iter(data.train))
    with watch_inputs(cnn[0]) as seen:
        cnn.train()(images)
        cnn.eval()(images)
    assert torch.allclose(seen.means, images.mean(dim=(0, 2, 3))[None], atol=1e-5)
    assert torch.allclose(seen.deviations, images.std(dim=(0, 2, 3))[None], atol=1e-4)


def test_a_network_learns_as_if_it_were_not_watched(data, cnn):
    other = copy.deepcopy(cnn)
    train(other, data)
    with watch_inputs(cnn[6]) as seen:
        train(cnn, data)
    assert len(seen.rows)
    assert not cnn[6]._forward_pre_hooks
    assert not seen.means.requires_grad
    state = other.state_dict()
    assert all(torch.equal(state[name], value) for name, value in cnn.state_dict().items())
