"""What the extensions stand on: small pictures, classes, recipes, figures and records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import KitError, compute_features, imshow, load_results, save_result, test, train_model
from helpers.lib.datasets import ids_of, labels_of, picture_of
from helpers.pictures import IMAGENET, denormalize
from lib import (
    get_extension_recipe,
    load_small,
    only_classes,
    plot_runs,
    plot_seeds,
    show_grad_cam,
)
from lib.data import small_train_transform
from lib.recipes import EXTENSION_RECIPES, NOTEBOOKS, SmallAugmentation, folder_name
from tools.tiny import write_class_folders

RECIPE = get_extension_recipe("10", "cnn", "mini")  # 32 pixels, plain, a quarter is val


@pytest.fixture
def tiny_cifar(tmp_path, workspace):
    """A full workspace whose CIFAR10 has ten classes of 8 training and 3 test pictures."""
    for split, count in (("train", 8), ("test", 3)):
        root = tmp_path / "data" / "cifar-10-folders" / split
        write_class_folders(root, {f"class_{label}": count for label in range(10)})
    return replace(workspace, profile="full", data_dir=tmp_path / "data")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small drawings as notebook 10 has them."""
    from helpers.workspace import find_workspace

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_RESULTS", str(tmp_path_factory.mktemp("results")))
        return load_small(find_workspace(profile="mini", device="cpu"), RECIPE)


# Pictures


@pytest.mark.parametrize("dataset", ["CIFAR10", "CIFAR100"])
def test_mini_has_small_drawings_and_says_so(workspace, dataset):
    data = load_small(workspace, replace(RECIPE, dataset=dataset))
    assert data.sizes == {"train": 900, "val": 300, "test": 400}
    assert data.name == f"{dataset} (drawn stand-in)"
    assert "not photographs" in data.note
    for split, count in {"train": 90, "val": 30, "test": 40}.items():
        labels = labels_of(data.dataloaders[split].dataset).tolist()
        assert Counter(labels) == dict.fromkeys(range(10), count)
    few = load_small(workspace, replace(RECIPE, dataset=dataset, per_class=7))
    assert few.sizes == {"train": 70, "val": 300, "test": 400}
    every = load_small(workspace, replace(RECIPE, dataset=dataset, per_class=10**6))
    assert every.sizes == data.sizes


def test_pictures_of_32_pixels_are_kept_and_scaled_last(workspace, small):
    large = load_small(workspace, replace(RECIPE, size=48))
    for data, side in ((small, 32), (large, 48)):
        images, labels = next(iter(data.val))
        assert images.shape == (len(labels), 3, side, side)
        assert picture_of(data.val.dataset, 0).shape == (3, 32, 32)
    assert small.fingerprint == large.fingerprint
    shown = (denormalize(small.val.dataset[0][0]) * 255).round().to(torch.uint8)
    assert torch.equal(shown, picture_of(small.val.dataset, 0))  # nothing is cut off


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_val_is_that_fraction_of_each_class_of_train(tiny_cifar, fraction):
    data = load_small(tiny_cifar, replace(RECIPE, val_fraction=fraction))
    counts = torch.bincount(labels_of(data.val.dataset), minlength=10)
    assert counts.tolist() == [max(1, int(8 * fraction))] * 10
    assert data.sizes["train"] + data.sizes["val"] == 80
    assert not set(ids_of(data.train.dataset)) & set(ids_of(data.val.dataset))
    assert all(name.startswith("test/") for name in ids_of(data.test.dataset))
    assert (data.name, data.note, data.class_names[3]) == ("CIFAR10", "", "class 3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_fraction": 0}, "val_fraction=0"),
        ({"val_fraction": 1.5}, r"val_fraction=1\.5"),
        ({"dataset": "Flowers102"}, "no data set 'Flowers102' for an extension"),
        ({"dataset": "CIFAR100"}, r"cifar-100-folders is missing.*--dataset CIFAR100"),
    ],
)
def test_impossible_pictures_are_refused(tiny_cifar, change, said):
    with pytest.raises(KitError, match=said):
        load_small(tiny_cifar, replace(RECIPE, **change))


def test_own_colors_make_the_training_pictures_normal(workspace, small):
    own = load_small(workspace, replace(RECIPE, per_class=10), own_colors=True)
    assert small.normalization == IMAGENET != own.normalization
    whole = own.train.dataset.dataset  # few of it are used, all of it is measured
    pixels = whole[list(range(len(whole)))][0].transpose(0, 1).flatten(1)
    assert torch.allclose(pixels.mean(dim=1), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std(dim=1), torch.ones(3), atol=1e-4)
    shown = imshow(own.test.dataset[0][0], normalization=own.normalization)
    expected = picture_of(own.test.dataset, 0).permute(1, 2, 0).numpy() / 255
    assert np.allclose(shown.axes[0].images[0].get_array(), expected, atol=1e-5)


def test_small_augmentation_shifts_mirrors_and_turns():
    """Of a picture that is dark on the left."""
    picture = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    picture[:, :, :16] = 60

    def views(**augment):
        transform = small_train_transform(32, 32, SmallAugmentation(**augment))
        return torch.stack([transform(picture) for _ in range(40)])

    assert (views() == picture).all()
    assert {v.tolist()[0] == 60 for v in views(flip=0.5)[:, 0, :, 0]} == {True, False}
    assert (views(padding=4)[:, 0, :, 0] == 0).any()  # black came in from the border
    assert len(views(rotation=30).unique(dim=0)) > 5
    assert small_train_transform(32, 48, SmallAugmentation(4, 0.5, 30))(picture).shape[1:] == (
        48,
        48,
    )


# Classes


def test_only_classes_relabels_and_keeps_the_pictures(small):
    chosen = (7, 2, 5)
    some = only_classes(small, chosen)
    assert some.class_names == [small.class_names[label] for label in chosen]
    assert some.sizes == {"train": 270, "val": 90, "test": 120}
    for split, loader in some.dataloaders.items():
        every, dataset = small.dataloaders[split].dataset, loader.dataset
        label_of = dict(zip(ids_of(every), labels_of(every).tolist(), strict=True))
        assert [chosen[label] for label in labels_of(dataset)] == [
            label_of[name] for name in ids_of(dataset)
        ]
        place = ids_of(every).index(ids_of(dataset)[3])
        assert torch.equal(picture_of(dataset, 3), picture_of(every, place))
        assert dataset[3][1] == labels_of(dataset)[3]
    assert set(torch.cat([labels for _, labels in some.train]).tolist()) == {0, 1, 2}
    again = only_classes(some, (1, 0))  # of some, too
    assert again.class_names == [some.class_names[1], some.class_names[0]]
    assert labels_of(small.train.dataset).max() == 9  # as it was
    # Another task, also with the same classes in another order, has another fingerprint.
    other = only_classes(small, (2, 7, 5))
    assert len({task.fingerprint for task in (small, some, again, other)}) == 4


@pytest.mark.parametrize("classes", [(0,), (), (0, 0), (0, 10), (-1, 2)])
def test_impossible_classes_are_refused(small, classes):
    with pytest.raises(KitError, match=r"at least two different ones of 0 ... 9"):
        only_classes(small, classes)


def test_features_of_some_classes_are_those_of_the_plain_pictures(workspace):
    recipe = replace(RECIPE, per_class=3, augment=SmallAugmentation(4, 0.5, 30))
    data = only_classes(load_small(workspace, recipe), (4, 2))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    vectors, labels = compute_features(model, model[2], data).train.dataset.tensors
    plain, wanted = next(iter(data.without_augmentation().train))
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1] == sorted(wanted.tolist())
    assert torch.allclose(vectors.sort(dim=0).values, model[:2](plain).sort(dim=0).values)


# Recipes


def test_each_row_is_on_both_profiles():
    rows = {(number, run) for number, run, _ in EXTENSION_RECIPES}
    assert {number for number, _ in rows} == set(NOTEBOOKS)
    for number, run in rows:
        for profile in ("mini", "full"):
            recipe = get_extension_recipe(number, run, profile)
            wanted = (run, profile, NOTEBOOKS[number][0])
            assert (recipe.method, recipe.profile, recipe.notebook) == wanted
            assert recipe.num_epochs == recipe.table_epochs >= 1
            assert issubclass(getattr(torch.optim, recipe.optimizer), torch.optim.Optimizer)
            assert f"{recipe.val_fraction}" in str(recipe)


def test_epoch_limit_holds_on_full_and_is_told(monkeypatch, capsys):
    monkeypatch.setenv("KIT_EPOCHS", "2")
    assert get_extension_recipe("07", "cnn", "mini").num_epochs == 10
    assert capsys.readouterr().out == ""
    limited = get_extension_recipe("07", "cnn", "full")
    assert (limited.num_epochs, limited.table_epochs) == (2, 10)
    assert capsys.readouterr().out.startswith("NOTE     2 of 10 epochs of 'cnn' (KIT_EPOCHS=2)")
    for text in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("KIT_EPOCHS", text)
        with pytest.raises(KitError, match=f"KIT_EPOCHS={text}: use a whole number"):
            get_extension_recipe("07", "cnn", "full")


def test_runs_are_kept_apart_by_name():
    recipe = replace(RECIPE, method="Frozen to layer1, 64 px")
    assert recipe.folder == "extensions/10_transfer_across_classes/frozen-to-layer1-64-px"
    with pytest.raises(KitError, match=r"cannot be called '\.\./'"):
        replace(RECIPE, method="../")
    assert folder_name("../../a") == "a"


# Records and figures


def test_runs_are_recorded_apart_and_drawn(workspace, small):
    data, names = only_classes(small, (1, 2, 3)), ("second in the alphabet", "a first one")
    data = data.few_per_class(4, seed=0)
    for name in names:
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
            nn.Linear(64, 3),
        )  # fmt: skip
        optimizer, recipe = (
            torch.optim.SGD(model.parameters(), lr=0.1),
            replace(RECIPE, method=name),
        )
        run = train_model(
            model, data, nn.CrossEntropyLoss(), optimizer, num_epochs=1, progress=False
        )
        score = test(model, data)
        folder = save_result(workspace, recipe, model=model, data=data, run=run, score=score)
        assert folder == workspace.results_dir / recipe.folder
    results = load_results(workspace, data, extension=RECIPE.notebook)
    assert [result.title for result in results] == list(names)
    assert results[0].record["recipe"]["table_epochs"] == 10
    assert load_results(workspace) == load_results(workspace, extension="07_x") == []

    images, labels = data.test.dataset[[0, 50]]
    titles = [
        axis.get_title() for axis in show_grad_cam(model, model[0], images, labels, data).axes
    ]
    assert titles[0] == data.class_names[0] and titles[1].endswith("%") and len(titles) == 6
    figure = plot_runs({"one": run, "another": run})
    assert [text.get_text() for text in figure.legends[0].texts] == ["one", "another"]
    assert [axis.get_ylabel() for axis in figure.axes[2:]] == ["train accuracy", "val accuracy"]


def test_seeds_are_drawn_one_by_one_and_as_their_mean():
    axis = plot_seeds({0: [0.4, 0.6], 0.5: [0.2, 0.3]}, xlabel="dropout", ylabel="accuracy").axes[0]
    lines = [line.get_ydata() for line in axis.lines]
    assert np.allclose(lines, [[0.4, 0.2], [0.6, 0.3], [0.5, 0.25]])
