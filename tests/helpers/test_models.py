"""Networks: their sizes, their heads, and what freezing and counting leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn

from coursekit.train.networks import bn_cnn, efficientnet_b5, resnet18
from helpers import (
    KitError,
    check_head,
    count_parameters,
    freeze,
    summarize,
)


@pytest.fixture(scope="module")
def b5() -> EfficientNet:
    """EfficientNet-B5 with a head of 102; leave it as it is."""
    return efficientnet_b5(102)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    """Names of the parameters and buffers that are no longer what they were."""
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def take_steps(model: nn.Module, *, steps: int = 2, size: int = 32) -> None:
    """Train as a student would, with every parameter in the optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(4, 3, size, size)).square().mean().backward()
        optimizer.step()


# Counts and sizes


def test_the_networks_are_as_large_as_they_are_said_to_be(b5):
    assert count_parameters(bn_cnn(102))["total"] == 415_110
    assert count_parameters(resnet18(102))["total"] == 11_228_838
    assert count_parameters(b5)["total"] == 28_549_782


@pytest.mark.parametrize("size", [16, 17, 48, 64])
def test_bn_cnn_takes_any_size_from_16_pixels_on(size):
    assert bn_cnn(7)(torch.randn(2, 3, size, size)).shape == (2, 7)


# Freezing


def test_nothing_frozen_moves_and_the_rest_does(cnn):
    assert freeze(cnn, keep="11") is cnn
    before = state_of(cnn)
    take_steps(cnn)
    assert moved(before, cnn) == {"11.weight", "11.bias"}
    assert cnn[11].training and not cnn[1].training


# Parts of ResNet18 with 10 outputs: frozen through them, how many parameters are.
DEPTHS = {"maxpool": 9_536, "layer1": 157_504, "layer3": 2_782_784, "layer4": 11_176_512}


@pytest.mark.parametrize("through", DEPTHS)
def test_freezing_by_depth(through):
    model = freeze(resnet18(10), through=through)
    assert count_parameters(model)["frozen"] == DEPTHS[through]
    parts = [name for name, _ in model.named_children()]
    later = parts[parts.index(through) + 1 :]
    before = state_of(model)
    take_steps(model, steps=1, size=64)
    assert moved(before, model) == {name for name in before if name.split(".")[0] in later}
    batch_norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(m.training == (n.split(".")[0] in later) for n, m in batch_norms.items())


def test_freeze_says_what_is_left(cnn, capsys):
    freeze(cnn, keep="11")
    counts = count_parameters(cnn)
    assert capsys.readouterr().out == (
        f"trainable {counts['trainable']:,}, frozen {counts['frozen']:,} parameters; "
        f"{counts['buffers']:,} numbers in buffers (running statistics) of frozen layers stay too\n"
    )
    freeze(resnet18(5), through="maxpool")
    assert "; 129 numbers in buffers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"through": "layer1"}, "no part 'layer1'; it has 0, 1, 2"),
        ({"keep": "fc"}, "no part 'fc'; it has 0, 1, 2"),
        ({"keep": "11", "through": "3"}, "keep='11' or with through='3', not with both"),
    ],
)
def test_freeze_refuses_a_part_that_is_not_there_and_two_wishes(cnn, wish, message):
    with pytest.raises(KitError, match=message):
        freeze(cnn, **wish)
    assert count_parameters(cnn)["frozen"] == 0


# Heads


def test_a_head_under_a_wrong_name_is_caught(b5):
    wrong = copy.deepcopy(b5)
    wrong.fc = nn.Linear(2048, 10)
    said = r"102 outputs for 10 classes: its new head is not in use, .* fc\.weight, fc\.bias"
    with pytest.raises(KitError, match=said):
        check_head(wrong, 10)
    wrong.requires_grad_(False).fc.requires_grad_(True)
    with pytest.raises(KitError, match=said):
        check_head(wrong, 10)


def test_a_head_that_is_not_used_is_caught_though_the_width_fits():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = bn_cnn(3, widths=(8, 16)), nn.Linear(16, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.used(images)

    with pytest.raises(KitError, match=r"no gradient reaches spare\.weight, spare\.bias"):
        check_head(Skips(), 3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)], "7 outputs for 5 .* each class"),
        ([nn.Flatten(0, 1), nn.Flatten(), nn.Linear(64 * 64, 5)], r"shape \(6, 5\) for 2 pictures"),
        ([nn.Conv2d(3, 5, 64)], r"shape \(2, 5, 1, 1\) for 2 pictures: .* \(2, 5\)"),
    ],
)
def test_check_head_says_what_is_wrong_with_the_outputs(layers, message):
    with pytest.raises(KitError, match=message):
        check_head(nn.Sequential(*layers), 5)


def test_check_head_lets_frozen_layers_and_any_head_pass():
    model = freeze(resnet18(10))
    check_head(model, 10)
    model.fc = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 4))
    check_head(model, 4)


def test_check_head_takes_the_size_that_a_network_is_made_for():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    check_head(model, 4, size=32)


@pytest.mark.parametrize("training", [True, False])
def test_check_head_and_summarize_leave_no_trace(training, cnn, capsys):
    cnn.train(training)
    cnn[0].weight.grad = kept = torch.ones_like(cnn[0].weight)
    before, random_state = state_of(cnn), torch.get_rng_state()
    modes = [layer.training for layer in cnn.modules()]
    check_head(cnn, 3)
    summarize(cnn, 32)
    assert moved(before, cnn) == set()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [layer.training for layer in cnn.modules()] == modes
    assert cnn[0].weight.grad is kept and cnn[4].weight.grad is None
    assert not any(layer._forward_hooks for layer in cnn.modules())


# Summaries


def test_summarize_shows_each_layer_and_the_totals(cnn, capsys):
    summarize(cnn, 32)
    said = capsys.readouterr().out
    for layer in ("Conv2d-1", "BatchNorm2d-2", "Linear-12"):
        assert layer in said
    assert (
        said.splitlines()[-1]
        == f"total {count_parameters(cnn)['total']:,}, trainable 1,467 parameters"
    )


def test_summarize_refuses_pictures_that_are_too_small(cnn):
    with pytest.raises(KitError, match="the network cannot take 2-pixel pictures: "):
        summarize(cnn, 2)
    assert not any(layer._forward_hooks for layer in cnn.modules())
