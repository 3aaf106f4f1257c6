"""Trained networks read back: the ones that were tested or none, and where they look."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from matplotlib.figure import Figure
from PIL import ExifTags, Image
from torch import nn

import helpers
from conftest import TINY
from coursekit.train.networks import bn_cnn, resnet18
from helpers import (
    KitError,
    classify_photo,
    compare_grad_cam,
    freeze,
    load_data,
    load_results,
    load_trained,
    save_result,
)
from helpers.networks import grad_cam, predict
from helpers.training import TrainingRun
from tools.tiny import write_class_folders

EPOCH = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.4, "val_loss": 1.1, "val_accuracy": 0.5}
RUN = TrainingRun(
    history=[EPOCH],
    first_loss=1.1,
    best_epoch=1,
    best_val_accuracy=0.5,
    num_epochs=1,
    seconds={"training": 1.0, "loading": 0.1, "evaluation": 0.1, "features": 0.0},
)


def save(workspace, data, model, method: str = "bn_cnn", **options):
    score = helpers.test(model, data, precision=torch.float32)
    return save_result(workspace, {"method": method}, model=model, data=data, run=RUN, score=score,
                       **options)  # fmt: skip


@pytest.fixture
def networks(workspace, data, cnn):
    """The one network of the results, read back."""
    save(workspace, data, cnn)
    return load_trained(workspace, load_results(workspace, data))


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text"))]


def test_what_is_read_back_says_what_was_tested(data, cnn, networks):
    (network,) = networks
    score, samples = helpers.test(cnn, data, precision=torch.float32), data.test.dataset
    assert network.title == "BN-CNN" and network.sides == (16, 16)
    for index in (0, 5, 11):
        prediction = predict(network, samples.paths[index])
        crop = samples.plain_transform(samples.picture(index))
        assert torch.equal(prediction.picture, crop)
        assert torch.allclose(prediction.probabilities, score.probabilities[index], atol=1e-5)
        assert prediction.heat.shape == (16, 16)
        assert prediction.heat.min() >= 0 and prediction.heat.max() <= 1
        layer = cnn.get_submodule(network.cam_layer)
        expected = grad_cam(cnn, layer, samples[index][0][None])[0]
        assert torch.allclose(prediction.heat, expected, atol=1e-4)


def test_each_network_sees_pictures_as_it_was_trained_on_them(workspace, data, picture_folder):
    """One of 16 pixels beside one of 32, as on the full profile."""
    larger = load_data(workspace, TINY, dataset=picture_folder, size=32)
    torch.manual_seed(0)
    save(workspace, data, bn_cnn(3))
    save(workspace, larger, bn_cnn(3), "mine")
    networks = load_trained(workspace, load_results(workspace, larger))
    path = larger.test.dataset.paths[3]
    assert [tuple(predict(one, path).picture.shape) for one in networks] == [
        (3, 16, 16),
        (3, 32, 32),
    ]
    figure = compare_grad_cam(networks, larger, count=2)
    assert len(figure.axes) == 6
    assert [text for text in texts_of(figure) if text in ("BN-CNN", "mine")] == ["BN-CNN", "mine"]


def test_a_network_fits_only_the_pictures_that_it_was_tested_on(
    workspace, data, networks, picture_folder
):
    (network,) = networks
    larger = load_data(workspace, TINY, dataset=picture_folder, size=32)
    assert network.fits(data) and not network.fits(larger)
    for change in ({"fingerprint": "other"}, {"normalization": None}):
        assert not network.fits(dataclasses.replace(data, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "network.pt2 is missing: run its notebook again"),
        (lambda path: path.write_bytes(b"x"), "network.pt2 was changed after it was recorded"),
    ],
)
def test_a_network_that_is_not_the_recorded_one_is_left_out(
    workspace, data, cnn, capsys, change, message
):
    change(save(workspace, data, cnn) / "network.pt2")
    save(workspace, data, cnn, "other")
    capsys.readouterr()
    (network,) = load_trained(workspace, load_results(workspace))
    assert network.title == "other"
    said = capsys.readouterr().out
    assert said.startswith("left out: BN-CNN, because ") and message in said


def test_without_networks_or_pictures_the_figures_say_so(workspace, data, networks, tmp_path):
    assert "no trained network: run notebooks 02 to 05 first" in texts_of(
        compare_grad_cam([], data)
    )
    assert "no trained network: run notebooks 02 to 05 first" in texts_of(
        classify_photo([], "", data)
    )
    other = load_data(
        workspace, TINY, dataset=write_class_folders(tmp_path / "o", {"a": 5, "b": 5})
    )
    assert "their pictures are not here" in texts_of(compare_grad_cam(networks, other))


def test_a_photo_taken_with_the_camera_held_sideways_is_upright(networks, tmp_path):
    picture = Image.new("RGB", (30, 40), "white")
    picture.paste("red", (0, 0, 30, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees
    picture.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    seen = predict(networks[0], tmp_path / "a.png").picture.float()
    assert seen[1, :4].mean() < 100 < seen[1, -4:].mean()  # red above


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_what_is_no_photo_is_refused_in_one_line(data, networks, tmp_path, content):
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KitError, match=r"photo\.jpg") as caught:
        classify_photo(networks, path, data)
    assert "\n" not in str(caught.value)


# Grad-CAM on networks whose answer is known


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
def test_grad_cam_finds_the_known_answer(color_network, place):
    images, layer = pictures(), color_network[place]
    red = grad_cam(color_network, layer, images, torch.tensor([0, 0]))
    assert torch.allclose(red, (images[:, 0] > 0).float())
    green = grad_cam(color_network, layer, images[:1], torch.tensor([1]))
    assert torch.allclose(green, (images[:1, 1] > 0).float())
    blue = grad_cam(color_network, layer, images, torch.tensor([2, 2]))
    assert torch.equal(blue, torch.zeros(2, 8, 8))  # what speaks against a class is no evidence
    assert torch.equal(grad_cam(color_network, layer, images), red)  # what the network says


def test_channels_count_by_their_mean_gradient_and_coarse_maps_are_scaled():
    torch.manual_seed(0)
    convolution, last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)
    model = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    image = torch.randn(1, 3, 6, 6)
    expected = torch.einsum("k,khw->hw", last.weight[1], convolution(image)[0]).relu()
    got = grad_cam(model, convolution, image, torch.tensor([1]))[0]
    assert torch.allclose(got, (expected / expected.max()).detach(), atol=1e-6)
    pool = nn.AvgPool2d(4)
    model = nn.Sequential(pool, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False))
    model[3].weight.data = torch.eye(2, 3)
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 12:, :4] = 1.0  # red below on the left
    heat = grad_cam(model, pool, image)[0]
    assert heat.shape == (16, 16) and heat[12:, :4].mean() > 0.7
    assert heat[:8].max() == heat[:, 8:].max() == 0


def test_grad_cam_leaves_the_network_as_it_was():
    model = freeze(resnet18(5), keep="fc")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [layer.training for layer in model.train().modules()]
    images, random_state = torch.randn(2, 3, 64, 64), torch.get_rng_state()
    with torch.no_grad():  # even there, and at a layer that is frozen
        heat = grad_cam(model, model.layer2, images)
    assert heat.shape == (2, 64, 64)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [layer.training for layer in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.layer2._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layers_that_grad_cam_cannot_use_are_refused():
    model, other = bn_cnn(3), bn_cnn(3)
    with pytest.raises(KitError, match="Conv2d is no layer of this network"):
        grad_cam(model, other[0], torch.randn(1, 3, 32, 32))
    with pytest.raises(KitError, match="gives maps"):
        grad_cam(model, model[-1], torch.randn(1, 3, 32, 32))
    assert not model[-1]._forward_hooks
