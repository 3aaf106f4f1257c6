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
from helpers import efficientnet_b5, resnet18
from helpers.errors import KitError
from helpers.lib import flowers, weights
from helpers.lib.flowers import MINI_FOLDER, DrawnFlowers
from helpers.lib.weights import CLASSES, DRAWN

SAMPLE = Path(__file__).with_name("drawn_sample.npz")  # pictures as they were before JPEG
NETWORKS = {"resnet18": resnet18, "efficientnet_b5": efficientnet_b5}


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


def test_target_and_source_species_share_no_kind():
    targets, sources = draw_flowers.TARGET_SPECIES, draw_flowers.SOURCE_SPECIES
    assert len(targets) >= 12
    assert len(sources) == CLASSES["drawn"] >= 60

    def kinds(species):
        return {(s.form, s.petals, s.layers, s.shape, s.centre) for s in species}

    assert len(kinds(sources)) == len(sources)
    assert not kinds(targets) & kinds(sources)
    assert len({species.name for species in (*targets, *sources)}) == len(targets) + len(sources)


def test_a_drawing_depends_on_seed_species_and_index_only():
    first, other = draw_flowers.SOURCE_SPECIES[:2]
    picture = draw_flowers.draw(first, 3)
    np.random.seed(5)
    assert np.array_equal(picture, draw_flowers.draw(first, 3))
    for different in (
        draw_flowers.draw(first, 4),
        draw_flowers.draw(first, 3, seed=1),
        draw_flowers.draw(other, 3),
    ):
        assert different.shape != picture.shape or np.abs(different.astype(int) - picture).max() > 9


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
    assert resnet18(5, pretrained="drawn").weights_kind == "drawn flowers"
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
        resnet18(5, pretrained="drawn")
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


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_reach_their_recorded_accuracy(name, held_out):
    model = train_weights.build(name)
    model.load_state_dict(train_weights.unpack(DRAWN[name].path))
    accuracy = train_weights.accuracy(model, *held_out)
    assert accuracy == pytest.approx(DRAWN[name].accuracy, abs=0.01)  # 7 of 720: rounding


# The script that trains them


class Tiny(torch.nn.Sequential):
    """A network of a few hundred parameters in the place of a large one."""

    def __init__(self) -> None:
        super().__init__(
            torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(), torch.nn.Linear(4, CLASSES["drawn"]),
        )  # fmt: skip


@pytest.fixture
def quick(tmp_path, monkeypatch) -> Path:
    """The script with a tiny network, two pictures a species and two epochs; its work folder."""
    monkeypatch.setattr(train_weights, "build", lambda name: torch.manual_seed(1) and Tiny())
    plan = train_weights.Plan(sizes=(16, 24), lr=1e-3)
    monkeypatch.setitem(train_weights.PLANS, "resnet18", plan)
    noise = np.random.default_rng(0).integers(0, 255, (144, 3, 80, 80), dtype=np.uint8)
    world = torch.from_numpy(noise), torch.arange(72).repeat_interleave(2)
    monkeypatch.setattr(train_weights, "training_pictures", lambda work: world)
    monkeypatch.setattr(train_weights, "held_out_pictures", lambda: world)
    return tmp_path


def test_pretraining_goes_on_where_it_was_stopped(quick, monkeypatch, capsys):
    whole = train_weights.pretrain("resnet18", quick)
    (quick / "resnet18.pt").unlink()
    epoch = train_weights.train_epoch

    def stop_in_the_second(model, optimizer, plan, number, *world):
        if number == 1:
            raise KeyboardInterrupt
        epoch(model, optimizer, plan, number, *world)

    monkeypatch.setattr(train_weights, "train_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train_weights.pretrain("resnet18", quick)
    monkeypatch.setattr(train_weights, "train_epoch", epoch)
    capsys.readouterr()
    resumed = train_weights.pretrain("resnet18", quick)
    assert "1 epochs of resnet18 are done already" in capsys.readouterr().out
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
