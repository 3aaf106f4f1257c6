"""The compact networks are those that were published: parameters, shapes, multiply-accumulates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from helpers import count_parameters
from lib import (
    count_macs,
    densenet_like,
    newnet,
    resnet_heavy,
    resnet_light,
    resnext_like,
    three_conv_cnn,
    vgg_like,
)
from lib.compact_networks import Add, Concatenate, dense_block

# Network: parameters with 10 outputs, millions of multiply-accumulates a picture, and the
# published billions ("GMACs") of a batch of 128, which count biases and BatchNorm, too.
PUBLISHED = {
    "vgg_like": (vgg_like, 1_110_826, 87.92, 11.28),
    "resnet_light": (resnet_light, 310_474, 69.44, 8.95),
    "resnet_heavy": (resnet_heavy, 3_921_994, 130.20, 16.73),
    "resnext_like 3": (resnext_like, 1_087_114, 148.33, 19.19),
    "resnext_like 4": (partial(resnext_like, stages=4), 3_090_058, 164.25, 21.23),
    "densenet_like 12": (densenet_like, 508_447, 126.51, 16.30),
    "densenet_like 16": (partial(densenet_like, growth=16, chunks=5), 1_098_724, 223.56, 28.75),
}
NETS = [build for build, *_ in PUBLISHED.values()] + [three_conv_cnn]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    build, parameters, millions, billions_a_batch = PUBLISHED[name]
    with torch.device("meta"):  # shapes alone: nothing is computed
        model = build(10)
    assert count_parameters(model)["total"] == parameters
    macs = count_macs(model, 32)
    assert round(macs / 1e6, 2) == millions
    assert 1 < billions_a_batch * 1e9 / (128 * macs) < 1.012


def test_macs_are_those_of_convolutions_and_linear_layers():
    """Output numbers times the weights of one of them, by hand; biases and BatchNorm are free."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, groups=4), nn.Flatten(), nn.Linear(12 * 7 * 7, 5),
    )  # fmt: skip
    model[1].eval()
    by_hand = (8 * 16 * 16) * (3 * 9) + (12 * 7 * 7) * (2 * 9) + 5 * (12 * 7 * 7)
    assert count_macs(model, 18) == by_hand
    assert model.training and not model[1].training
    assert count_macs(newnet(), 224) == 640_815_488
    assert count_parameters(newnet())["total"] == 179_980_390


@pytest.mark.parametrize("build", NETS)
def test_gradients_reach_all_and_the_head_alone_makes_the_logits(build):
    torch.manual_seed(0)
    model, images = build(7), torch.randn(2, 3, 32, 32)
    logits = model(images)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert [name for name, _ in model.named_children()][-1] == "head"
    with torch.no_grad():
        model.eval()
        assert torch.allclose(model.head(model[:-1](images)), model(images), atol=1e-5)


def test_blocks_add_and_concatenate():
    double, maps = nn.Conv2d(4, 4, 1, bias=False), torch.randn(2, 4, 5, 5)
    nn.init.dirac_(double.weight)
    double.weight.data *= 2
    assert torch.allclose(Add(double, nn.Identity())(maps), 3 * maps)
    assert torch.allclose(Concatenate(double)(maps), torch.cat([maps, 2 * maps], dim=1))
    out = dense_block(4, 12)(maps)
    assert out.shape == (2, 4 + 8 * 12, 5, 5)
    assert torch.equal(out[:, :4], maps)  # the first channels come out as they went in
