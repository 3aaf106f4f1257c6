"""The compact networks are those that were published: parameters, shapes, multiply-accumulates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torchinfo
from lib.compact_networks import (
    Add,
    Concatenate,
    conv_bn_relu,
    dense_block,
    densenet_like,
    five_block_cnn,
    grouped_block,
    plain_block,
    resnet_heavy,
    resnet_light,
    resnext_like,
    three_conv_cnn,
    vgg_like,
)
from torch import nn

from helpers import count_parameters, freeze, summarize
from helpers.models import count_macs

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
NETS = [build for build, *_ in PUBLISHED.values()] + [five_block_cnn, three_conv_cnn]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    build, parameters, millions, billions_a_batch = PUBLISHED[name]
    with torch.device("meta"):  # shapes alone: nothing is computed
        model = build(10)
    assert count_parameters(model)["total"] == parameters
    macs = count_macs(model, 32)
    assert macs / 1e6 == pytest.approx(millions, rel=0.001)
    # A second opinion, of a package that counts biases and BatchNorm and whole batches.
    theirs = torchinfo.summary(model, (128, 3, 32, 32), device="meta", verbose=0).total_mult_adds
    assert theirs / 1e9 == pytest.approx(billions_a_batch, abs=0.01)
    assert 1.001 < theirs / (128 * macs) < 1.012


def test_both_ways_of_counting_agree_without_biases_and_batchnorm():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, groups=4, bias=False),
        nn.Flatten(), nn.Linear(12 * 7 * 7, 5, bias=False),
    )  # fmt: skip
    theirs = torchinfo.summary(model, (1, 3, 18, 18), device="cpu", verbose=0).total_mult_adds
    assert count_macs(model, 18) == theirs


def test_the_five_block_cnn_has_the_published_table(capsys):
    model = five_block_cnn(100)
    assert count_parameters(model)["total"] == 846_308
    summarize(model, 32)
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:-2]]
    block = ["Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d"]
    kinds = 5 * block + ["Flatten", "Linear", "ReLU", "Linear"]
    assert rows == [f"{kind}-{number}" for number, kind in enumerate(kinds, start=1)]
    assert rows[-1] == "Linear-24"


def test_counts_of_the_cnn_that_changes_classes():
    model = three_conv_cnn(5)
    assert count_parameters(model)["total"] == 119_581
    assert count_parameters(model.features)["total"] == 16_408
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 800)
    assert count_parameters(freeze(model, keep="head"))["trainable"] == 103_173
    assert count_parameters(freeze(three_conv_cnn(10), keep="head"))["trainable"] == 103_818


@pytest.mark.parametrize("build", NETS)
def test_gradients_reach_every_parameter(build):
    torch.manual_seed(0)
    model = build(7)
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert [name for name, _ in model.named_children()][-1] == "head"


@pytest.mark.parametrize("build", NETS)
def test_the_head_alone_makes_logits_of_what_enters_it(build):
    model = build(7).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.head(model[:-1](images)), model(images))


def test_add_and_concatenate_do_what_they_say():
    double, maps = nn.Conv2d(4, 4, 1, bias=False), torch.randn(2, 4, 5, 5)
    nn.init.dirac_(double.weight)
    double.weight.data *= 2
    assert torch.allclose(Add(double, nn.Identity())(maps), 3 * maps)
    joined = Concatenate(double)(maps)
    assert torch.allclose(joined, torch.cat([maps, 2 * maps], dim=1))


def test_blocks_keep_the_shape_or_halve_it():
    maps = torch.randn(2, 64, 9, 9)
    assert plain_block(64, 64)(maps).shape == (2, 64, 9, 9)
    assert grouped_block(64, 128, stride=2)(maps).shape == (2, 128, 5, 5)
    assert conv_bn_relu(64, 32, 5)(maps).shape == (2, 32, 9, 9)
    dense = dense_block(64, 12)
    out = dense(maps)
    assert out.shape == (2, 64 + 8 * 12, 9, 9)
    assert torch.equal(out[:, :64], maps)  # the first channels come out as they went in
