"""What the extensions stand on: pictures, recipes and records, apart from the assignment's."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from lib.recipes import EXTENSION_RECIPES, NOTEBOOKS, folder_name
from made_up import write_result
from PIL import Image
from tiny import vector_data, write_class_folders, write_picture
from torch import nn

import helpers
from helpers import compute_features, few_per_class, get_extension_recipe, load_data, only_classes
from helpers.data import IMAGENET, denormalize
from helpers.errors import KitError
from helpers.lib import sources
from helpers.lib.sources import list_small_pictures
from helpers.recipes import METHODS, SmallAugmentation
from helpers.results import load_results, save_result

PLAIN = SmallAugmentation()


def load_small(workspace, dataset="CIFAR10", **options):
    given = {"size": 32, "batch_size": 16, "augment": PLAIN, "val_share": 0.25}
    return load_data(workspace, dataset=dataset, extension=True, **{**given, **options})


@pytest.fixture
def tiny_cifar(tmp_path, workspace):
    """A full workspace whose CIFAR10 has ten classes of 8 training and 3 test pictures."""
    for split, count in (("train", 8), ("test", 3)):
        root = tmp_path / "data" / "cifar-10-folders" / split
        write_class_folders(root, {f"class_{label}": count for label in range(10)})
    return dataclasses.replace(workspace, profile="full", data_dir=tmp_path / "data")


# Pictures


@pytest.mark.parametrize("dataset", ["CIFAR10", "CIFAR100"])
def test_mini_has_small_drawings_and_says_so(workspace, dataset):
    data = load_small(workspace, dataset)
    assert data.sizes == {"train": 900, "val": 300, "test": 400}
    assert data.num_classes == 10
    assert data.name == f"{dataset} (drawn stand-in)"
    assert "not photographs" in data.note
    for loader, count in zip(data.dataloaders.values(), (90, 30, 40), strict=True):
        labels = loader.dataset.labels.tolist()
        assert Counter(labels) == dict.fromkeys(range(10), count)
    assert data.train.dataset.picture(0).shape == (3, 32, 32)


def test_pictures_of_32_pixels_are_kept_and_scaled_last(workspace):
    small, large = load_small(workspace), load_small(workspace, size=48)
    for data, side in ((small, 32), (large, 48)):
        images, labels = next(iter(data.val))
        assert images.shape == (len(labels), 3, side, side)
        assert data.val.dataset.picture(0).shape == (3, 32, 32)
    assert small.fingerprint == large.fingerprint
    shown = (denormalize(next(iter(small.val))[0][0]) * 255).round().to(torch.uint8)
    assert torch.equal(shown, small.val.dataset.picture(0))  # nothing is cut off


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_val_is_that_share_of_each_class_of_train(tiny_cifar, share):
    data = load_small(tiny_cifar, val_share=share)
    counts = torch.bincount(data.val.dataset.labels, minlength=10)
    assert counts.tolist() == [max(1, int(8 * share))] * 10
    assert data.sizes["train"] + data.sizes["val"] == 80
    assert not set(data.train.dataset.ids) & set(data.val.dataset.ids)
    assert all(name.startswith("test/") for name in data.test.dataset.ids)
    assert (data.name, data.note) == ("CIFAR10", "")
    assert data.class_names[3] == "class 3"


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_impossible_shares_are_refused(workspace, share):
    with pytest.raises(KitError, match=f"val_share={share}"):
        load_small(workspace, val_share=share)


def test_only_extensions_get_cifar(workspace, tiny_cifar):
    for place in (workspace, tiny_cifar):
        with pytest.raises(KitError, match="CIFAR10 is not allowed in this assignment: its pict"):
            load_data(place, size=32, batch_size=8, augment=PLAIN, dataset="CIFAR10")
        with pytest.raises(KitError, match="no data set 'Flowers102' for an extension"):
            load_small(place, "Flowers102")


def test_missing_pictures_say_how_to_get_them(tiny_cifar, monkeypatch, tmp_path):
    with pytest.raises(KitError, match=r"cifar-100-folders is missing.*--dataset CIFAR100"):
        load_small(tiny_cifar, "CIFAR100")
    (tmp_path / "data" / "cifar-10-folders").rename(tmp_path / "data" / "cifar-100-folders")
    with pytest.raises(KitError, match="has 10 classes, CIFAR100 has 100"):
        load_small(tiny_cifar, "CIFAR100")
    monkeypatch.setattr(sources, "SMALL_DRAWINGS", tmp_path / "none")
    with pytest.raises(KitError, match="none is missing: restore it with `git checkout"):
        list_small_pictures("CIFAR10", profile="mini", data_dir=tmp_path, seed=0, val_share=0.2)


def test_own_colors_make_the_training_pictures_normal(workspace):
    own, other = load_small(workspace, own_colors=True), load_small(workspace)
    assert other.normalization == IMAGENET != own.normalization
    pixels = torch.cat([images for images, _ in own.train]).transpose(0, 1).flatten(1)
    assert torch.allclose(pixels.mean(dim=1), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std(dim=1), torch.ones(3), atol=1e-4)
    image = next(iter(own.test))[0][0]
    shown = helpers.imshow(image, normalization=own.normalization).axes[0].images[0].get_array()
    expected = own.test.dataset.picture(0).permute(1, 2, 0).numpy() / 255
    assert np.allclose(shown, expected, atol=1e-5)


def test_small_augmentation_shifts_mirrors_and_turns(tmp_path, workspace):
    """A picture that is dark on the left, of which every training view must stay in bounds."""
    full = dataclasses.replace(workspace, profile="full", data_dir=tmp_path)
    pixels = np.full((32, 32, 3), 255, dtype=np.uint8)
    pixels[:, :16] = 60
    for split in ("train", "test"):
        for number in range(20):
            path = tmp_path / "cifar-10-folders" / split / f"{number % 10}" / f"{number}.png"
            write_picture(path)
            Image.fromarray(pixels).save(path)

    def views(augment):
        data = load_small(full, augment=augment, val_share=0.5)
        return denormalize(torch.cat([images for images, _ in data.train]))

    assert (views(PLAIN) == views(PLAIN)[0]).all()
    flipped = views(SmallAugmentation(flip=0.5))
    assert {float(v) > 0.5 for v in flipped[:, 0, 5, 5]} == {True, False}
    assert (flipped[:, :, :, 4] == flipped[:, :, :1, 4]).all()  # columns stay of one colour
    shifted = views(SmallAugmentation(padding=4))
    assert (shifted.amin(dim=(1, 2, 3)) < 0.1).any()  # black came in from the border
    turned = views(SmallAugmentation(rotation=30))
    assert len({tuple(v.flatten().tolist()) for v in turned}) > 5
    assert all(images.shape[1:] == (3, 32, 32) for images in (flipped, shifted, turned))


def test_features_of_small_pictures_are_those_of_the_plain_ones(workspace):
    data = few_per_class(load_small(workspace, augment=SmallAugmentation(4, 0.5)), 3, seed=1)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 10))
    features = compute_features(model, model[2], data)
    samples = data.train.dataset
    plain, _ = samples.plain().__getitems__([(index, 0) for index in range(len(samples))])
    assert torch.allclose(features.train.dataset.vectors, model[:2](plain))


# Classes


def test_only_classes_relabels_and_keeps_the_pictures(workspace):
    data = load_small(workspace)
    chosen = (7, 2, 5)
    half = only_classes(data, chosen)
    assert half.class_names == [data.class_names[label] for label in chosen]
    assert half.sizes == {"train": 270, "val": 90, "test": 120}
    for split, loader in half.dataloaders.items():
        every, some = data.dataloaders[split].dataset, loader.dataset
        label_of = dict(zip(every.ids, every.labels.tolist(), strict=True))
        assert [chosen[label] for label in some.labels] == [label_of[name] for name in some.ids]
        assert [path.stem for path in some.paths] == [Path(name).stem for name in some.ids]
        place = every.ids.index(some.ids[3])
        assert torch.equal(some.picture(3), every.picture(place))
    images, labels = half.val.dataset.__getitems__([(0, 1), (50, 2)])
    assert torch.equal(labels, half.val.dataset.labels[[0, 50]])
    assert set(torch.cat([labels for _, labels in half.train]).tolist()) == {0, 1, 2}
    assert images.shape == (2, 3, 32, 32)
    helpers.show_samples(half)


def test_tasks_of_other_classes_have_other_fingerprints():
    data = vector_data(classes=6, width=6)
    prints = {
        only_classes(data, classes).fingerprint
        for classes in ((0, 1, 2), (3, 4, 5), (2, 1, 0), range(6))
    }
    assert len(prints) == 4
    assert only_classes(data, [0, 1, 2]).fingerprint in prints


@pytest.mark.parametrize("classes", [(0,), (), (0, 0), (0, 6), (-1, 2)])
def test_impossible_classes_are_refused(classes):
    with pytest.raises(KitError, match=r"at least two different ones of 0 ... 5"):
        only_classes(vector_data(classes=6), classes)


# Recipes


def test_each_row_is_on_both_profiles():
    rows = {(number, run) for number, run, _ in EXTENSION_RECIPES}
    assert {number for number, _ in rows} == set(NOTEBOOKS)
    for number, run in rows:
        for profile in ("mini", "full"):
            recipe = get_extension_recipe(number, run, profile)
            assert (recipe.method, recipe.profile, recipe.notebook) == (
                run,
                profile,
                NOTEBOOKS[number][0],
            )
            assert recipe.num_epochs == recipe.table_epochs >= 1
            assert issubclass(getattr(torch.optim, recipe.optimizer), torch.optim.Optimizer)
            assert f"{recipe.val_share}" in str(recipe)


@pytest.mark.parametrize("key", [("06", "cnn", "mini"), ("07", "x", "mini"), ("07", "cnn", "x")])
def test_unknown_rows_are_named(key):
    with pytest.raises(KitError, match="there are 07 cnn full"):
        get_extension_recipe(*key)


def test_epoch_limit_holds_on_full_and_is_told(monkeypatch, capsys):
    monkeypatch.setenv("KIT_EPOCHS", "2")
    assert get_extension_recipe("07", "cnn", "mini").num_epochs == 10
    assert capsys.readouterr().out == ""
    limited = get_extension_recipe("07", "cnn", "full")
    assert (limited.num_epochs, limited.table_epochs) == (2, 10)
    assert capsys.readouterr().out.startswith("NOTE     2 of 10 epochs of 'cnn' (KIT_EPOCHS=2)")
    monkeypatch.setenv("KIT_EPOCHS", "10")
    assert get_extension_recipe("07", "cnn", "full").num_epochs == 10
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_impossible_epoch_limits_are_refused(monkeypatch, text):
    monkeypatch.setenv("KIT_EPOCHS", text)
    with pytest.raises(KitError, match=f"KIT_EPOCHS={text}: use a whole number"):
        get_extension_recipe("07", "cnn", "full")


def test_runs_are_kept_apart_by_name():
    recipe = get_extension_recipe("08", "finetune", "mini").named("Frozen to layer1, 64 px")
    assert recipe.folder == "extensions/08_how_much_to_freeze/frozen-to-layer1-64-px"
    with pytest.raises(KitError, match=r"cannot be called '\.\./'"):
        recipe.named("../")
    assert folder_name("../../a") == "a"


def test_runs_that_are_meant_to_be_short_are_not_limited(monkeypatch):
    monkeypatch.setenv("KIT_EPOCHS", "3")
    limited = get_extension_recipe("07", "cnn", "full")
    short = limited.named("short", num_epochs=2)
    assert (short.num_epochs, short.table_epochs) == (2, 2)
    assert (limited.named("a").num_epochs, limited.named("a").table_epochs) == (3, 10)


# Records


@pytest.fixture
def two_runs(workspace):
    """Two runs of an extension, recorded, on vectors."""
    data, names = vector_data(), ("second in the alphabet", "a first one")
    for name in names:
        recipe = get_extension_recipe("10", "cnn", "mini").named(name)
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run = helpers.train_model(
            model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1, progress=False
        )
        score = helpers.test(model, data.test)
        save_result(workspace, recipe, model=model, data=data, run=run, score=score)
    return data, names


def test_runs_are_recorded_apart_and_in_order(workspace, two_runs):
    data, names = two_runs
    write_result(workspace.results_dir, "bn_cnn", student=None)
    folder = workspace.results_dir / "extensions" / "10_transfer_across_classes"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "second-in-the-alphabet",
        "a-first-one",
    }
    runs = load_results(workspace, data, extension="10_transfer_across_classes")
    assert [result.title for result in runs] == list(names)
    assert runs[0].record["recipe"]["table_epochs"] == 10
    assert [result.method for result in load_results(workspace)] == ["bn_cnn"]
    assert load_results(workspace, extension="07_cnn_vs_transfer_cifar100") == []
    assert not set(METHODS) & {path.name for path in folder.iterdir()}


def test_runs_about_other_pictures_are_refused(workspace, two_runs):
    data, _ = two_runs
    other = dataclasses.replace(data, fingerprint="0" * 64)
    with pytest.raises(KitError, match="about other pictures or splits"):
        load_results(workspace, other, extension="10_transfer_across_classes")
