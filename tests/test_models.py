"""Networks: their sizes, their heads, and what freezing and counting leave alone."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision import models

from helpers import (
    bn_cnn,
    check_head,
    count_parameters,
    efficientnet_b5,
    freeze,
    newnet,
    resnet18,
    summarize,
)
from helpers.errors import KitError
from helpers.models import count_macs, decay_groups, in_eval_mode, is_frozen, replace_head


@pytest.fixture(scope="module")
def b5() -> EfficientNet:
    """EfficientNet-B5 with a head of 102; leave it as it is."""
    return efficientnet_b5(102, pretrained=None)


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


# Counts


def test_newnet_is_mostly_one_linear_layer():
    model = newnet(102)
    assert count_parameters(model)["total"] == 179_980_390
    first = next(layer for layer in model if isinstance(layer, nn.Linear))
    share = sum(p.numel() for p in first.parameters()) / 179_980_390
    assert f"{share:.2%}" == "98.46%"
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 102)


def test_resnet18_counts():
    model = resnet18(102, pretrained=None)
    assert count_parameters(model)["total"] == 11_228_838
    freeze(model, keep="fc")
    counts = count_parameters(model)
    assert counts["trainable"] == 52_326
    assert counts["frozen"] == 11_228_838 - 52_326


def test_efficientnet_b5_counts(b5):
    assert count_parameters(b5)["total"] == 28_549_782
    assert b5._fc.out_features == 102
    with torch.device("meta"):
        theirs = models.efficientnet_b5(weights=None)
    published = EfficientNet.from_name("efficientnet-b5")
    assert published._fc.out_features == 1000
    assert count_parameters(theirs)["total"] == count_parameters(published)["total"]


def test_bn_cnn_counts():
    assert count_parameters(bn_cnn(102))["total"] == 415_110
    without = bn_cnn(102, batch_norm=False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in without)
    assert all(layer.bias is not None for layer in without if isinstance(layer, nn.Conv2d))
    assert count_parameters(without)["buffers"] == 0


def test_counts_add_up_and_count_shared_layers_once():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(layer, nn.BatchNorm1d(5), layer)
    model[1].weight.requires_grad_(False)
    counts = {"total": 40, "trainable": 35, "frozen": 5, "buffers": 11}
    assert count_parameters(model) == counts


@pytest.mark.parametrize("size", [16, 17, 31, 48])
def test_bn_cnn_takes_any_size_from_16_pixels_on(size):
    model = bn_cnn(7)
    assert model(torch.randn(2, 3, size, size)).shape == (2, 7)


# Multiply-accumulates


def test_macs_of_known_networks():
    with torch.device("meta"):  # shapes alone: nothing is computed
        resnet, b5 = models.resnet18(), efficientnet_b5(102, pretrained=None)
    assert count_macs(resnet, 224) == 1_814_073_344
    assert count_macs(b5, 224) == pytest.approx(2.36e9, rel=0.005)


def test_macs_of_the_published_cnn():
    convolutions = 222**2 * 32 * 27 + 109**2 * 64 * 288 + 52**2 * 128 * 576
    linear = 86528 * 2048 + 2048 * 1024 + 1024 * 512 + 512 * 102
    assert count_macs(newnet(102), 224) == convolutions + linear


def test_macs_of_groups_and_of_layers_used_twice():
    grouped = nn.Conv2d(6, 9, 5, groups=3, padding=2)
    expected = 100 * 6 * 3 + 100 * 9 * 2 * 25
    assert count_macs(nn.Sequential(nn.Conv2d(3, 6, 1), grouped), 10) == expected
    shared = nn.Conv2d(3, 3, 1)
    assert count_macs(nn.Sequential(shared, shared), 4) == 2 * 16 * 9


def test_counting_macs_leaves_the_model_as_it_was(cnn):
    before = state_of(cnn)
    count_macs(cnn.train(), 16)
    assert all(layer.training and not layer._forward_hooks for layer in cnn.modules())
    assert moved(before, cnn) == set()
    wrong = nn.Sequential(nn.Conv2d(5, 5, 1))
    with pytest.raises(RuntimeError):
        count_macs(wrong, 16)
    assert not wrong[0]._forward_hooks


# Weight decay


def test_decay_is_for_weights_and_not_for_biases_and_batchnorm(cnn):
    decayed, spared = decay_groups(cnn, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    layers = [layer for layer in cnn if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert {id(p) for p in decayed["params"]} == {id(layer.weight) for layer in layers}
    both = [id(p) for group in (decayed, spared) for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in cnn.parameters())


def test_decay_moves_no_spared_parameter_and_no_frozen_one(cnn):
    freeze(cnn, through="3")
    before = state_of(cnn)
    optimizer = torch.optim.AdamW(decay_groups(cnn, 0.1), lr=0.1)
    for parameter in cnn.parameters():
        parameter.grad = torch.zeros_like(parameter)  # nothing to learn: decay alone is left
    optimizer.step()
    assert moved(before, cnn) == {"4.weight", "11.weight"}


# Freezing


def test_nothing_frozen_moves_and_the_rest_does(cnn):
    freeze(cnn, keep="11")
    before = state_of(cnn)
    take_steps(cnn)
    assert moved(before, cnn) == {"11.weight", "11.bias"}


def test_a_layer_that_was_frozen_can_be_kept_later(cnn):
    freeze(cnn)
    assert not any(p.requires_grad for p in cnn.parameters())
    freeze(cnn, keep="11")
    before = state_of(cnn)
    take_steps(cnn)
    assert cnn[11].training
    assert moved(before, cnn) == {"11.weight", "11.bias"}


def test_without_freezing_everything_moves(cnn):
    before = state_of(cnn)
    take_steps(cnn)
    assert moved(before, cnn) == set(before)


def test_nothing_frozen_moves_in_resnet18():
    model = freeze(resnet18(5, pretrained=None), keep="fc")
    before = state_of(model)
    take_steps(model, steps=1, size=64)
    assert moved(before, model) == {"fc.weight", "fc.bias"}
    frozen = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(frozen) == 20
    assert not any(layer.training for layer in frozen)
    assert model.fc.training


def test_requires_grad_alone_would_let_batchnorm_move(cnn):
    for name, parameter in cnn.named_parameters():
        parameter.requires_grad_(name.startswith("11."))
    before = state_of(cnn)
    take_steps(cnn)
    assert any(name.endswith("running_mean") for name in moved(before, cnn))


def test_a_copy_is_frozen_too_and_on_its_own(cnn):
    freeze(cnn, keep="11")
    copied = copy.deepcopy(cnn)
    before, original = state_of(copied), state_of(cnn)
    take_steps(copied)
    assert moved(before, copied) == {"11.weight", "11.bias"}
    assert moved(original, cnn) == set()
    cnn.eval()
    copied.train()
    assert copied[11].training
    assert not cnn[11].training


def test_freezing_the_whole_network(cnn):
    assert freeze(cnn) is cnn
    before = state_of(cnn)
    for _ in range(2):
        cnn.train()
        cnn(torch.randn(4, 3, 32, 32))
    assert moved(before, cnn) == set()
    assert count_parameters(cnn)["trainable"] == 0
    assert all(is_frozen(layer) for layer in cnn.modules())


def test_keeping_a_block_inside_a_network():
    model = freeze(resnet18(5, pretrained=None), keep="layer4.1")
    model.train()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if "layer4.1." in name}
    assert model.layer4[1].bn1.training
    assert not model.layer4[0].bn1.training
    assert not model.layer3.training


# Parts of ResNet18 with 10 outputs: frozen through them, how many parameters and convolutions are.
DEPTHS = {
    "maxpool": (9_536, 1),
    "layer1": (157_504, 5),
    "layer2": (683_072, 10),
    "layer3": (2_782_784, 15),
    "layer4": (11_176_512, 20),
}


@pytest.mark.parametrize("through", DEPTHS)
def test_freezing_by_depth(through):
    model = freeze(resnet18(10, pretrained=None), through=through)
    counts = count_parameters(model)
    assert counts["total"] == 11_181_642
    frozen = [m for m in model.modules() if isinstance(m, nn.Conv2d) and is_frozen(m)]
    assert (counts["frozen"], len(frozen)) == DEPTHS[through]
    if through == "layer4":
        assert counts["trainable"] == 5_130


@pytest.mark.parametrize("through", ["maxpool", "layer3"])
def test_nothing_frozen_by_depth_moves_and_all_the_rest_does(through):
    model = freeze(resnet18(5, pretrained=None), through=through)
    parts = [name for name, _ in model.named_children()]
    later = parts[parts.index(through) + 1 :]
    before = state_of(model)
    take_steps(model, size=64)
    assert moved(before, model) == {name for name in before if name.split(".")[0] in later}
    assert model.training
    batch_norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(m.training == (n.split(".")[0] in later) for n, m in batch_norms.items())


def test_freezing_less_later_sets_parts_free_again():
    model = freeze(resnet18(10, pretrained=None), through="layer4")
    freeze(model, through="layer1")
    assert count_parameters(model)["frozen"] == 157_504
    model.train()
    assert model.layer2[0].bn1.training
    assert not model.layer1[0].bn1.training


def test_freezing_through_the_last_part_freezes_everything(cnn):
    freeze(cnn, through="11")
    assert count_parameters(cnn)["trainable"] == 0


def test_freeze_refuses_a_part_that_is_not_there_and_two_wishes(cnn):
    with pytest.raises(KitError, match="no part 'layer1'; it has 0, 1, 2"):
        freeze(cnn, through="layer1")
    with pytest.raises(KitError, match="keep='11' or with through='3', not with both"):
        freeze(cnn, keep="11", through="3")
    assert count_parameters(cnn)["frozen"] == 0


def test_a_frozen_networks_state_goes_round(cnn):
    freeze(cnn, keep="11")
    take_steps(cnn)
    other = bn_cnn(3, widths=(8, 16))
    other.load_state_dict(cnn.state_dict())
    assert moved(state_of(cnn), other) == set()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(cnn.eval()(images), other.eval()(images))


def test_freeze_says_what_is_left(cnn, capsys):
    freeze(cnn, keep="11")
    counts = count_parameters(cnn)
    printed = capsys.readouterr().out
    assert f"trainable {counts['trainable']:,}, frozen {counts['frozen']:,}" in printed
    assert f"{counts['buffers']:,} numbers in buffers" in printed


def test_freeze_counts_the_buffers_of_frozen_layers_only(capsys):
    model = resnet18(5, pretrained=None)
    freeze(model, through="maxpool")
    printed = capsys.readouterr().out
    assert "; 129 numbers in buffers" in printed  # 64 means, 64 variances, one count of batches


def test_freeze_refuses_a_layer_that_is_not_there(cnn):
    with pytest.raises(KitError, match="no layer 'fc'"):
        freeze(cnn, keep="fc")
    assert count_parameters(cnn)["frozen"] == 0


# Heads


def test_replace_head_on_a_wrong_name(b5):
    before = b5._fc
    with pytest.raises(KitError, match=r"no linear layer 'fc'; it has .*_fc"):
        replace_head(b5, "fc", 102)
    assert b5._fc is before


def test_a_head_of_two_layers():
    model = resnet18(100, pretrained=None)
    replace_head(model, "fc", 100, hidden=256)
    freeze(model, keep="fc")
    counts = count_parameters(model)
    assert (counts["total"], counts["trainable"]) == (11_333_540, 157_028)
    assert [type(layer) for layer in model.fc] == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_head_with_dropout_drops_in_training_only():
    model = resnet18(10, pretrained=None)
    replace_head(model, "fc", 10, dropout=0.3)
    assert count_parameters(model)["total"] == 11_181_642
    assert [type(layer) for layer in model.fc] == [nn.Dropout, nn.Linear]
    assert model.fc[0].p == 0.3
    freeze(model, keep="fc")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model.train()(images), model(images))
        assert torch.equal(model.eval()(images), model(images))


def test_head_assigned_to_the_wrong_name_is_caught(b5):
    b5.fc = nn.Linear(2048, 10)
    try:
        with pytest.raises(KitError, match="102 outputs for 10 classes"):
            check_head(b5, 10)
    finally:
        del b5.fc


def test_head_that_is_not_used_is_caught_though_the_width_fits(cnn):
    cnn.register_module("fc", nn.Linear(16, 3))
    cnn.forward = lambda images: cnn[11](nn.Sequential(*list(cnn)[:11])(images))
    with pytest.raises(KitError, match=r"no gradient reaches fc\.weight, fc\.bias"):
        check_head(cnn, 3)


@pytest.mark.parametrize("training", [True, False])
def test_check_head_leaves_no_trace(training):
    model = bn_cnn(3).train(training)
    model[1].eval()
    before = state_of(model), [layer.training for layer in model.modules()]
    torch.manual_seed(3)
    random_state = torch.get_rng_state()
    check_head(model, 3)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert moved(before[0], model) == set()
    assert [layer.training for layer in model.modules()] == before[1]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_check_head_keeps_gradients_that_are_there():
    model = bn_cnn(3)
    take_steps(model, steps=1)
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    check_head(model, 3)
    pairs = zip(grads, model.parameters(), strict=True)
    assert all(torch.equal(grad, p.grad) for grad, p in pairs)


def test_modes_are_restored_after_an_error(cnn):
    cnn[1].eval()
    before = [layer.training for layer in cnn.modules()]
    with pytest.raises(ZeroDivisionError), in_eval_mode(cnn):
        assert not any(layer.training for layer in cnn.modules())
        raise ZeroDivisionError
    assert [layer.training for layer in cnn.modules()] == before


# The summary


@pytest.mark.parametrize("training", [True, False])
def test_summarize_leaves_no_trace(training):
    model = bn_cnn(3).train(training)
    model[1].eval()
    before = state_of(model), [layer.training for layer in model.modules()]
    random_state = torch.get_rng_state()
    summarize(model, 32)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert moved(before[0], model) == set()
    assert [layer.training for layer in model.modules()] == before[1]
    assert not any(layer._forward_hooks for layer in model.modules())


def test_summarize_shows_each_layer_and_the_totals(cnn, capsys):
    freeze(cnn, keep="11")
    capsys.readouterr()
    summarize(cnn, 32)
    printed = capsys.readouterr().out
    for layer in cnn:
        assert type(layer).__name__ in printed
    counts = count_parameters(cnn)
    last = printed.strip().splitlines()[-1]
    assert f"{counts['total']:,}" in last
    assert f"{counts['trainable']:,}" in last


def test_totals_are_true_for_a_shared_layer(capsys):
    layer = nn.Conv2d(3, 3, 3, padding=1)
    summarize(nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten(), nn.Linear(3 * 64, 2)), 8)
    assert "total 470," in capsys.readouterr().out


def test_long_summaries_are_cut_in_the_middle(capsys):
    summarize(resnet18(5, pretrained=None), 64, max_rows=10)
    printed = capsys.readouterr().out
    assert re.search(r"\.\.\. \d+ more layers \.\.\.", printed)
    assert "Conv2d-1 " in printed
    assert "Linear" in printed
    assert len(printed.splitlines()) < 18


def test_summarize_refuses_pictures_that_are_too_small_and_leaves_no_trace():
    model = bn_cnn(3)
    modes = [layer.training for layer in model.modules()]
    with pytest.raises(KitError, match="cannot take 8-pixel pictures"):
        summarize(model, 8)
    assert [layer.training for layer in model.modules()] == modes
    assert not any(layer._forward_hooks for layer in model.modules())
    copy.deepcopy(model)
