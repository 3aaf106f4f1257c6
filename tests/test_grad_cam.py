"""Grad-CAM on networks whose answer is known, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import bn_cnn, freeze, resnet18
from helpers.errors import KitError
from helpers.grad_cam import grad_cam


@pytest.fixture
def color_network() -> nn.Sequential:
    """Three classes, whose logits are the mean red, the mean green, and minus the mean blue."""
    colors, last = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
    nn.init.dirac_(colors.weight)
    last.weight.data = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    return nn.Sequential(colors, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def pictures() -> torch.Tensor:
    """Two pictures: red above and green on the left; the second is red in one corner only."""
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0, :4] = 2.0
    images[0, 1, :, :4] = 0.5
    images[0, 2] = 1.0
    images[1, 0, 6:, 6:] = 5.0
    return images


@pytest.mark.parametrize("place", [0, 1])
def test_the_known_answer(color_network, place):
    images = pictures()
    red = grad_cam(color_network, color_network[place], images, torch.tensor([0, 0]))
    assert torch.allclose(red, (images[:, 0] > 0).float())
    green = grad_cam(color_network, color_network[place], images[:1], torch.tensor([1]))
    assert torch.allclose(green, (images[:1, 1] > 0).float())


def test_what_speaks_against_a_class_is_no_evidence_for_it(color_network):
    blue = grad_cam(color_network, color_network[0], pictures(), torch.tensor([2, 2]))
    assert torch.equal(blue, torch.zeros(2, 8, 8))


def test_it_asks_about_what_the_network_says_unless_told(color_network):
    images = pictures()
    assert color_network(images).argmax(dim=1).tolist() == [0, 0]
    told = grad_cam(color_network, color_network[0], images, torch.tensor([0, 0]))
    assert torch.equal(grad_cam(color_network, color_network[0], images), told)


def test_channels_count_by_their_mean_gradient():
    torch.manual_seed(0)
    convolution, last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)
    model = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    image = torch.randn(1, 3, 6, 6)
    expected = torch.einsum("k,khw->hw", last.weight[1], convolution(image)[0]).relu()
    got = grad_cam(model, convolution, image, torch.tensor([1]))[0]
    assert torch.allclose(got, (expected / expected.max()).detach(), atol=1e-6)


def test_coarse_maps_are_scaled_to_the_picture():
    pool, last = nn.AvgPool2d(4), nn.Linear(3, 2, bias=False)
    last.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    model = nn.Sequential(pool, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 12:, :4] = 1.0  # red below on the left
    heat = grad_cam(model, pool, image)[0]
    assert heat.shape == (16, 16)
    assert heat[12:, :4].mean() > 0.7
    assert heat[:8].max() == heat[:, 8:].max() == 0


def test_it_leaves_the_network_as_it_was():
    model = freeze(resnet18(5, pretrained=None), keep="fc")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [layer.training for layer in model.train().modules()]
    images, random_state = torch.randn(2, 3, 64, 64), torch.get_rng_state()
    with torch.no_grad():  # even there, and at a layer that is frozen
        heat = grad_cam(model, model.layer2, images)
    assert heat.shape == (2, 64, 64)
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [layer.training for layer in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.layer2._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_layer_of_another_network_is_refused():
    model, other = bn_cnn(3), bn_cnn(3)
    with pytest.raises(KitError, match="Conv2d is no layer of this network"):
        grad_cam(model, other[0], torch.randn(1, 3, 32, 32))


def test_a_layer_without_positions_is_refused():
    model = bn_cnn(3)
    with pytest.raises(KitError, match="gives maps"):
        grad_cam(model, model[-1], torch.randn(1, 3, 32, 32))
    assert not model[-1]._forward_hooks
