"""Data: splits, batches that depend on nothing but the seed, and what is done to a picture."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SPLITS, vector_data

from helpers import (
    channel_statistics,
    compute_features,
    few_per_class,
    load_data,
    picture_sizes,
    show_samples,
    without_augmentation,
)
from helpers.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Batches,
    denormalize,
    evaluation_batch,
    fingerprint,
    normalize,
)
from helpers.errors import KitError
from helpers.lib import pictures
from helpers.lib.sources import Listing
from helpers.recipes import Augmentation


def one_pass(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def load(workspace, folder, **options):
    given = {"size": 16, "batch_size": 8, "augment": Augmentation(0.3, 0.5, (0.3, 0.3, 0.3, 0.1))}
    return load_data(workspace, dataset=folder, **{**given, **options})


# Splits


def test_splits_are_disjoint_and_counted(data):
    assert data.sizes == {"train": 36, "val": 12, "test": 12}
    ids = [name for loader in data.dataloaders.values() for name in loader.dataset.ids]
    assert len(set(ids)) == 60
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        labels = data.dataloaders[split].dataset.labels
        assert Counter(labels.tolist()) == dict.fromkeys(range(3), count)
    assert data.class_names == ["blue", "green", "red"]
    assert data.num_classes == 3


def test_labels_and_ids_belong_to_the_pictures(data):
    for loader in data.dataloaders.values():
        samples = loader.dataset
        for index, (name, label) in enumerate(zip(samples.ids, samples.labels, strict=True)):
            color = samples.picture(index).float().mean(dim=(1, 2))
            assert ("red", "green", "blue")[color.argmax()] == data.class_names[label]
            assert name.startswith(f"{data.class_names[label]}/")


def test_batches_have_the_shape_that_networks_expect(data):
    for loader in data.dataloaders.values():
        for images, labels in loader:
            assert images.shape == (len(labels), 3, 16, 16)
            assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_splits_follow_the_seed(workspace, picture_folder):
    first, again, other = (
        load(dataclasses.replace(workspace, seed=seed), picture_folder) for seed in (1, 1, 2)
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.train.dataset.ids == again.train.dataset.ids != other.train.dataset.ids


@pytest.mark.parametrize("options", [{"size": 7}, {"batch_size": 0}])
def test_impossible_sizes_are_refused(workspace, picture_folder, options):
    with pytest.raises(KitError, match=str(next(iter(options.values())))):
        load(workspace, picture_folder, **options)


# Batches


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_sample_comes_once_and_none_alone(shuffle):
    for length in range(60):
        for batch_size in range(1, 12):
            order = Batches(length, batch_size, seed=length, shuffle=shuffle)
            batches = list(order)
            indices = [index for batch in batches for index, _ in batch]
            assert sorted(indices) == list(range(length))
            assert len(batches) == len(order)
            sizes = {len(batch) for batch in batches}
            assert all(size <= batch_size + 1 for size in sizes)
            assert 1 not in sizes or batch_size == 1 or length == 1


def test_shuffling_differs_by_epoch_and_not_by_run():
    order = Batches(40, 7, seed=3, shuffle=True)
    first_run = [list(order) for _ in range(3)]
    order.reseed()
    assert [list(order) for _ in range(3)] == first_run
    assert first_run[0] != first_run[1] != first_run[2]
    assert list(Batches(40, 7, seed=4, shuffle=True)) != first_run[0]


def test_every_run_sees_the_same_batches_whatever_else_is_random(data):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    first = [one_pass(data.train) for _ in range(2)]
    assert not torch.equal(first[0][0], first[1][0])
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)
    data.train.batch_sampler.reseed()
    second = []
    for _ in range(2):
        images, labels = [], []
        for batch in data.train:
            torch.rand(3), random.random(), np.random.rand()
            images.append(batch[0])
            labels.append(batch[1])
        second.append((torch.cat(images), torch.cat(labels)))
    for (images, labels), (images_again, labels_again) in zip(first, second, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


def test_augmentation_leaves_the_global_random_state_alone(data):
    data.train.dataset.picture(0)
    before = torch.get_rng_state()
    data.train.dataset.__getitems__([(0, 1), (1, 2)])
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_follows_its_seed(data):
    images, labels = data.train.dataset.__getitems__([(4, 11), (4, 11), (4, 12)])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert len(set(labels.tolist())) == 1


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_never_random(data, split):
    loader = data.dataloaders[split]
    first, labels = one_pass(loader)
    again, _ = one_pass(loader)
    assert torch.equal(first, again)
    assert torch.equal(labels, loader.dataset.labels)
    samples = loader.dataset
    top, left = ((length - 16) // 2 for length in samples.picture(0).shape[1:])
    centre = samples.picture(0)[:, top : top + 16, left : left + 16]
    shown = (denormalize(first[0]) * 255).round()
    assert torch.equal(shown, centre.float())


def test_workers_give_the_same_batches(workspace, picture_folder):
    alone, helped = (load(workspace, picture_folder, num_workers=n) for n in (0, 2))
    assert helped.train.num_workers == 2
    for split in SPLITS:
        for _ in range(2 if split == "train" else 1):
            images, labels = one_pass(alone.dataloaders[split])
            images_helped, labels_helped = one_pass(helped.dataloaders[split])
            assert torch.equal(images, images_helped)
            assert torch.equal(labels, labels_helped)


# Pictures


def test_each_picture_is_decoded_once(workspace, picture_folder, monkeypatch):
    decoded: Counter[Path] = Counter()
    decode = pictures.decode

    def counting(path, short_side):
        decoded[path] += 1
        return decode(path, short_side)

    monkeypatch.setattr(pictures, "decode", counting)
    data = load(workspace, picture_folder)
    assert not decoded  # not before a picture is asked for
    plain = data.train.dataset.with_transform(data.val.dataset.transform)
    for _ in range(2):
        for loader in data.dataloaders.values():
            one_pass(loader)
        plain.__getitems__([(0, 0)])
    assert len(decoded) == 60
    assert set(decoded.values()) == {1}


def test_normalize_is_imagenets_and_has_a_way_back():
    images = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 1, 1)
    normal = normalize(images)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(normal, (images / 255 - mean) / std, atol=1e-6)
    assert torch.equal((denormalize(normal) * 255).round().to(torch.uint8), images)


def test_channel_statistics_are_those_of_the_training_pictures(data):
    pixels = torch.cat(
        [data.train.dataset.picture(i).flatten(1) for i in range(data.sizes["train"])], dim=1
    )
    mean, std = channel_statistics(data)
    assert torch.allclose(mean, pixels.double().mean(dim=1).float() / 255)
    assert torch.allclose(std, pixels.double().std(dim=1).float() / 255)


def test_picture_sizes_are_those_of_the_files(data, picture_folder):
    assert picture_sizes(data) == [(24, 20)] * 60
    with Image.open(picture_folder / "red" / "00.png") as image:
        assert image.size == (24, 20)


# A few of each class


def test_a_few_of_each_class_can_be_looked_at_like_all(data):
    few = few_per_class(data, 3, seed=1)
    assert picture_sizes(few) == [(24, 20)] * (9 + 12 + 12)
    for index, (name, label) in enumerate(
        zip(few.train.dataset.ids, few.train.dataset.labels.tolist(), strict=True)
    ):
        picture = few.train.dataset.picture(index)
        assert torch.equal(picture, data.train.dataset.picture(data.train.dataset.ids.index(name)))
        assert few.train.dataset.paths[index].as_posix().endswith(name)
        assert ("red", "green", "blue")[picture.float().mean(dim=(1, 2)).argmax()] == (
            data.class_names[label]
        )
    mean, _ = channel_statistics(few)
    assert mean.shape == (3,)
    figure = show_samples(few, count=3, columns=3)
    assert [axis.get_title() for axis in figure.axes] == data.class_names


def test_few_per_class_takes_that_many_training_pictures(data):
    few = few_per_class(data, 3, seed=1)
    assert Counter(few.train.dataset.labels.tolist()) == {0: 3, 1: 3, 2: 3}
    label_of = dict(zip(data.train.dataset.ids, data.train.dataset.labels.tolist(), strict=True))
    chosen = dict(zip(few.train.dataset.ids, few.train.dataset.labels.tolist(), strict=True))
    assert chosen.items() <= label_of.items()
    assert (few.val, few.test) == (data.val, data.test)
    assert few.sizes == {"train": 9, "val": 12, "test": 12}
    _, labels = one_pass(few.train)
    assert Counter(labels.tolist()) == {0: 3, 1: 3, 2: 3}


def test_few_per_class_follows_its_seed_and_grows(data):
    chosen = {seed: few_per_class(data, 3, seed=seed).train.dataset.ids for seed in (1, 1, 2)}
    assert few_per_class(data, 3, seed=1).train.dataset.ids == chosen[1] != chosen[2]
    assert set(chosen[1]) < set(few_per_class(data, 5, seed=1).train.dataset.ids)


def test_few_per_class_refuses_more_than_there_are(data):
    with pytest.raises(KitError, match=r"'blue' has 12 .* count=13"):
        few_per_class(data, 13, seed=0)


def test_few_per_class_takes_a_picture_with_all_its_views(data, cnn):
    few = few_per_class(compute_features(cnn, cnn[-1], data, views=3), 2, seed=0)
    assert few.sizes["train"] == 3 * 2 * 3
    assert set(Counter(few.train.dataset.ids).values()) == {3}


def test_a_few_pictures_can_become_features(data, cnn):
    few = few_per_class(data, 2, seed=0)
    features = compute_features(cnn, cnn[-1], few)
    every = compute_features(cnn, cnn[-1], data)
    place = {name: index for index, name in enumerate(every.train.dataset.ids)}
    assert features.train.dataset.ids == few.train.dataset.ids
    wanted = every.train.dataset.vectors[[place[name] for name in few.train.dataset.ids]]
    assert torch.allclose(features.train.dataset.vectors, wanted, atol=1e-6)


# The fingerprint


def listing(**splits: list[tuple[str, int]]) -> Listing:
    root = Path("pictures")
    columns = {
        split: ([root / name for name, _ in rows], [label for _, label in rows])
        for split, rows in splits.items()
    }
    return Listing("x", ["a", "b"], columns, root)


ROWS = {"train": [("a/1", 0), ("b/1", 1)], "val": [("a/2", 0)], "test": [("a/3", 0), ("b/3", 1)]}


@pytest.mark.parametrize(
    "change",
    [
        {"train": [("a/1", 0), ("b/1", 0)]},  # a label
        {"train": [("a/1", 0), ("b/9", 1)]},  # an id
        {"val": [("a/3", 0)], "test": [("a/2", 0), ("b/3", 1)]},  # the splits of two pictures
        {"test": [("a/3", 0)]},  # a picture less
    ],
)
def test_fingerprint_changes_with_labels_ids_and_splits(change):
    assert fingerprint(listing(**ROWS)) != fingerprint(listing(**{**ROWS, **change}))


def test_fingerprint_does_not_depend_on_order_or_place():
    other = {split: rows[::-1] for split, rows in reversed(ROWS.items())}
    assert fingerprint(listing(**ROWS)) == fingerprint(listing(**other))
    here = listing(**ROWS)
    moved = Listing(
        "y",
        here.class_names,
        {
            split: ([Path("elsewhere") / path for path in paths], labels)
            for split, (paths, labels) in here.splits.items()
        },
        Path("elsewhere") / "pictures",
    )
    assert fingerprint(here) == fingerprint(moved)
    assert len(fingerprint(here)) == 64


def test_vector_data_is_data_as_well():
    data = vector_data((9, 4, 5), batch_size=4)
    assert [len(labels) for _, labels in data.train] == [4, 5]
    assert data.sizes == {"train": 9, "val": 4, "test": 5}


def test_without_augmentation_an_epoch_is_as_plain_as_the_next(data):
    plain = without_augmentation(data)
    assert plain.train.dataset.ids == data.train.dataset.ids
    assert len(plain.train) == len(data.train)
    images, _ = data.train.dataset.plain().__getitems__([(index, 0) for index in range(36)])
    expected = {tuple(image.flatten().tolist()) for image in images}
    for _ in range(2):
        seen = [tuple(image.flatten().tolist()) for images, _ in plain.train for image in images]
        assert len(seen) == 36
        assert set(seen) == expected


def test_evaluation_takes_few_pictures_at_a_time_where_training_does():
    """A network that trains on 8 at a time, for lack of memory, must not be tested on 64."""
    assert [evaluation_batch(size) for size in (1, 8, 16, 32, 128)] == [4, 32, 64, 64, 64]


def test_the_loaders_evaluate_in_those_batches(workspace, picture_folder):
    given = {"size": 16, "augment": Augmentation(), "dataset": picture_folder}
    data = load_data(workspace, batch_size=2, **given)
    assert [len(labels) for _, labels in data.val] == [8, 4]
    assert [len(labels) for _, labels in data.train][:2] == [2, 2]
