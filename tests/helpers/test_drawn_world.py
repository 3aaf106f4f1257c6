"""The drawn world of the mini profile: its pictures, its species, and the weights made from it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from coursekit.check import check_machine
from helpers.errors import KitError
from helpers.lib import flowers, weights
from helpers.lib.flowers import MINI_FOLDER, DrawnFlowers
from helpers.lib.weights import DRAWN, pretrained_weights

SAMPLE = Path(__file__).with_name("drawn_sample.npz")  # pictures as they were before JPEG


def script(name: str) -> ModuleType:
    """A script of data/mini as a module."""
    spec = importlib.util.spec_from_file_location(name, MINI_FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


draw_flowers = script("draw_flowers")
draw_small = script("draw_small")
train_weights = script("train_weights")


# Pictures


def test_the_pictures_can_be_drawn_again():
    """Within one grey level, so that another machine's sine and cosine may differ a little."""
    with np.load(SAMPLE) as sample:
        assert len(sample.files) >= 8
        for key in sample.files:
            name, index = key.split("/")
            everyone = (*draw_flowers.TARGET_SPECIES, *draw_flowers.SOURCE_SPECIES)
            species = next(species for species in everyone if species.name == name)
            picture = draw_flowers.draw(species, int(index))
            assert picture.shape == sample[key].shape
            assert np.abs(picture.astype(int) - sample[key]).max() <= 1


@pytest.mark.parametrize("image_id", [1, 137, 360, 511, 720])
def test_the_bundled_files_are_those_pictures(image_id):
    each = 60
    order = np.random.default_rng([0, 720]).permutation(720)
    label, index = divmod(int(order[image_id - 1]), each)
    drawn = draw_flowers.draw(draw_flowers.TARGET_SPECIES[label], index).astype(int)
    bundled = Image.open(MINI_FOLDER / "flowers-102" / "jpg" / f"image_{image_id:05d}.jpg")
    assert np.abs(np.asarray(bundled).astype(int) - drawn).mean() < 5  # what JPEG takes away


def test_the_small_pictures_can_be_drawn_again():
    names = draw_small.picture_names()
    folder = MINI_FOLDER / draw_small.FOLDER
    bundled = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    assert {name for name, _, _ in names} == bundled
    assert len(bundled) == len(names) == 1600
    for name, label, index in names[::321]:
        drawn, another = (
            np.asarray(draw_small.draw_small(label, number)).astype(int)
            for number in (index, index + 1)
        )
        assert drawn.shape == (32, 32, 3)
        with Image.open(folder / name) as picture:
            bundled = np.asarray(picture).astype(int)
        lost = np.abs(bundled - drawn).mean()  # what JPEG takes away
        assert lost < 10
        assert lost < np.abs(bundled - another).mean() / 3


# A kit that is not complete


@pytest.fixture
def small_world(tmp_path, monkeypatch) -> Path:
    """A drawn data set of 3 pictures a species that the kit takes for the bundled one."""
    draw_flowers.write_dataset(tmp_path, train=1, val=1, test=1, progress=False)
    monkeypatch.setattr(flowers.Flowers102, "_check_integrity", lambda self: True)
    return tmp_path


def test_what_is_missing_is_named(small_world, tmp_path):
    assert len(DrawnFlowers(small_world)) == 12
    path = DrawnFlowers(small_world)._image_files[5]
    path.unlink()
    with pytest.raises(
        KitError, match=rf"{path.name} is missing, 1 in all: restore .*git checkout"
    ):
        DrawnFlowers(small_world)


@pytest.fixture
def copied_weights(tmp_path, monkeypatch) -> Path:
    """A copy of the bundled ResNet18 weights that the kit takes for its own; its path."""
    monkeypatch.setattr(weights, "MINI_FOLDER", tmp_path)
    path = tmp_path / "weights" / "resnet18.npz"
    path.parent.mkdir()
    path.write_bytes((MINI_FOLDER / "weights" / "resnet18.npz").read_bytes())
    return path


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "replaced"])
def test_damaged_weights_are_named_with_what_to_do(copied_weights, damage, capsys):
    assert pretrained_weights("resnet18", "drawn").kind == "drawn flowers"
    content = bytearray(copied_weights.read_bytes())
    if damage == "missing":
        copied_weights.unlink()
    elif damage == "truncated":
        copied_weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 3] ^= 1
        copied_weights.write_bytes(content)
    else:
        copied_weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(KitError) as caught:
        pretrained_weights("resnet18", "drawn")
    message = str(caught.value)
    assert str(copied_weights) in message
    assert ("missing" if damage == "missing" else "damaged") in message
    assert "git checkout -- data/mini/weights" in message
    assert "\n" not in message
    assert check_machine() == 1
    assert message in capsys.readouterr().out


# Weights


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures that the recorded accuracies were measured on."""
    return train_weights.held_out_pictures()


@pytest.mark.parametrize("name", DRAWN)
def test_the_weights_reach_their_recorded_accuracy(name, held_out):
    model = train_weights.build(name)
    model.load_state_dict(train_weights.unpack(DRAWN[name].path))
    accuracy = train_weights.accuracy(model, *held_out)
    assert accuracy == pytest.approx(DRAWN[name].accuracy, abs=0.01)  # 7 of 720: rounding
