"""Data sets and loaders: PyTorch's protocol, the same batches for every method, fair pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate, random_split
from torchvision import datasets

import helpers
from conftest import TINY
from helpers import KitError, load_data, train_model
from helpers.data import Data
from helpers.lib.datasets import ids_of, labels_of, paths_of, picture_of
from helpers.lib.loaders import make_loader
from helpers.pictures import IMAGENET, denormalize, normalize
from helpers.recipes import Augmentation
from helpers.tour import channel_statistics
from tools.tiny import SPLITS, vector_data, write_class_folders


def images_of(loader: DataLoader) -> torch.Tensor:
    return torch.cat([images for images, _ in loader])


# PyTorch's protocol


def test_a_data_set_answers_one_index_and_several(data):
    dataset = data.val.dataset
    image, label = dataset[0]
    assert image.shape == (3, 16, 16) and image.dtype == torch.float32
    assert type(label) is int
    assert torch.equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    images, labels = dataset[[0, 3]]
    assert torch.equal(images[0], image) and labels.dtype == torch.int64
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_plain_loader_gives_the_pictures_of_the_kits_own(data, num_workers):
    plain = DataLoader(data.val.dataset, batch_size=5, num_workers=num_workers)
    assert torch.equal(images_of(plain), images_of(data.val))


def test_the_loaders_are_pytorchs_own(data):
    assert type(data.train) is DataLoader and isinstance(data.train.generator, torch.Generator)
    images, labels = next(iter(data.train))
    assert images.shape == (8, 3, 16, 16) and images.dtype == torch.float32
    assert labels.shape == (8,) and labels.dtype == torch.int64
    assert len(list(data.train)) == len(data.train) == 5
    first, second = random_split(data.train.dataset, [30, 6])
    assert default_collate([second[0], second[1]])[0].shape == (2, 3, 16, 16)
    assert len(images_of(DataLoader(first, batch_size=7))) == 30


def test_splits_are_disjoint_and_labels_belong_to_their_pictures(data):
    assert data.sizes == {"train": 36, "val": 12, "test": 12}
    ids = [name for split in SPLITS for name in ids_of(data.dataloaders[split].dataset)]
    assert len(set(ids)) == 60
    for split in SPLITS:
        dataset = data.dataloaders[split].dataset
        for index, (name, label) in enumerate(
            zip(ids_of(dataset), labels_of(dataset).tolist(), strict=True)
        ):
            assert name.split("/")[0] == data.class_names[label]
            assert picture_of(dataset, index).float().mean((1, 2)).argmax() == [2, 1, 0][label]


def test_splits_follow_the_seed(picture_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path))
    marks = [
        load_data(helpers.start(student, device="cpu"), TINY, dataset=picture_folder).fingerprint
        for student in ("s1", "s2", "s1")
    ]
    assert marks[0] == marks[2] != marks[1]


def test_recipes_of_ones_own_and_changes_of_a_setting(workspace, picture_folder):
    data = load_data(workspace, TINY, dataset=picture_folder, size=24, batch_size=4)
    images, _ = next(iter(data.train))
    assert images.shape == (4, 3, 24, 24) and data.size == 24
    with pytest.raises(KitError, match="unknown setting sise: use size, batch_size, augment"):
        load_data(workspace, TINY, dataset=picture_folder, sise=24)
    with pytest.raises(KitError, match="the recipe has no augment"):
        load_data(workspace, {"size": 16, "batch_size": 4}, dataset=picture_folder)
    with pytest.raises(KitError, match="a recipe is a dict or a dataclass, not int"):
        load_data(workspace, 7, dataset=picture_folder)
    with pytest.raises(KitError, match="size=4 and batch_size=8"):
        load_data(workspace, TINY, dataset=picture_folder, size=4)


# Batches


@pytest.mark.parametrize("count", [1, 8, 16, 17, 33, 36])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_sample_comes_once_and_none_alone(count, shuffle):
    dataset = TensorDataset(torch.arange(count)[:, None], torch.zeros(count))
    loader = make_loader(dataset, 8, seed=0, shuffle=shuffle)
    batches = [values.flatten().tolist() for values, _ in loader]
    assert len(batches) == len(loader)
    indices = [index for batch in batches for index in batch]
    assert sorted(indices) == list(range(count))
    assert min(map(len, batches)) > 1 or count == 1
    assert (indices == sorted(indices)) == (not shuffle or count == 1)


def test_shuffling_differs_by_epoch_and_not_by_run():
    first, second = vector_data(), vector_data()
    epochs = [[labels.tolist() for _, labels in first.train] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [[labels.tolist() for _, labels in second.train] for _ in range(2)]


# Augmentation


@pytest.fixture
def fresh(workspace, picture_folder):
    """`data` made anew, with other changes each time, as another notebook makes it."""
    return lambda **changes: load_data(workspace, TINY, dataset=picture_folder, **changes)


def test_augmentation_depends_on_nothing_but_seed_epoch_and_picture(fresh, cnn):
    torch.manual_seed(1)
    expected = [images_of(fresh().train), fresh()]
    torch.manual_seed(2)
    data = fresh()
    assert torch.equal(images_of(data.train), expected[0])
    assert not torch.equal(images_of(data.train), expected[0])  # the next epoch
    for size in (1, 2):  # whatever a network draws in between
        data = fresh()
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, size))
        seen = []
        for images, _ in data.train:
            seen.append(images)
            model(images)
        assert torch.equal(torch.cat(seen), expected[0])


def test_workers_give_the_same_batches_epoch_by_epoch(fresh):
    alone, together = fresh(), fresh(num_workers=2)
    epochs = [images_of(alone.train) for _ in range(3)]
    for images in epochs:
        assert torch.equal(images_of(together.train), images)
    assert not torch.equal(epochs[0].sort(dim=0).values, epochs[1].sort(dim=0).values)


def test_augmentation_leaves_the_global_random_state_alone(data):
    before = torch.get_rng_state()
    images_of(data.train)
    data.train.dataset[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_picture_asked_for_again_is_augmented_anew_also_in_a_plain_loader(data):
    dataset = data.train.dataset
    dataset.set_epoch(1)
    first = [dataset[0][0] for _ in range(3)]
    assert not torch.equal(first[0], first[1])
    dataset.set_epoch(1)
    assert all(map(torch.equal, first, [dataset[0][0] for _ in range(3)]))
    plain = DataLoader(dataset, batch_size=8)
    assert not torch.equal(images_of(plain), images_of(plain))


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_never_random(data, split):
    loader = data.dataloaders[split]
    assert torch.equal(images_of(loader), images_of(loader))


def test_without_augmentation_training_pictures_look_like_vals(data):
    plain = data.without_augmentation()
    dataset = plain.train.dataset
    assert torch.equal(dataset[0][0], dataset[0][0])
    crop = dataset.plain_transform(dataset.picture(0))
    assert torch.equal(dataset[0][0], normalize(crop))
    first, second = data.train.dataset[0][0], data.train.dataset[0][0]
    assert not torch.equal(first, second)  # the data that it was made of is as before


def test_a_hand_written_loop_is_train_model_step_by_step(fresh, cnn):
    """The notebook shows the loop: it must be the one that runs."""
    losses: list[float] = []
    first = {name: value.clone() for name, value in cnn.state_dict().items()}
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

    def kept(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = criterion(logits, labels)
        if logits.requires_grad:
            losses.append(loss.item())
        return loss

    optimizer = torch.optim.AdamW(cnn.parameters(), lr=0.01)
    torch.manual_seed(3)  # for dropout
    train_model(cnn, fresh(), kept, optimizer, num_epochs=2, precision=torch.float32,
                progress=False)  # fmt: skip
    after = {name: value.clone() for name, value in cnn.state_dict().items()}

    cnn.load_state_dict(first)
    optimizer = torch.optim.AdamW(cnn.parameters(), lr=0.01)
    data, by_hand = fresh(), []
    torch.manual_seed(3)
    cnn.train()
    for _ in range(2):
        for images, labels in data.train:
            optimizer.zero_grad()
            loss = criterion(cnn(images.to(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
            by_hand.append(loss.item())
    assert by_hand == losses
    assert len(losses) == 10
    assert after.keys() == cnn.state_dict().keys()


# Facts about data


def test_normalize_is_imagenets_and_has_a_way_back():
    picture = torch.randint(256, (3, 5, 5), dtype=torch.uint8)
    seen = normalize(picture)
    expected = (picture[0].float() / 255 - IMAGENET.mean[0]) / IMAGENET.std[0]
    assert torch.allclose(seen[0], expected, atol=1e-5)
    assert torch.allclose(denormalize(seen), picture.float() / 255, atol=1e-5)


def test_channel_statistics_are_those_of_the_training_pictures(data):
    dataset = data.train.dataset
    pixels = torch.cat([picture_of(dataset, n).flatten(1) for n in range(36)], dim=1) / 255
    mean, std = channel_statistics(data)
    assert torch.allclose(mean, pixels.mean(dim=1), atol=1e-5)
    assert torch.allclose(std, pixels.std(dim=1), atol=1e-5)


def test_few_per_class_takes_that_many_and_grows_with_the_count(data):
    few, more = (data.few_per_class(count, seed=4) for count in (2, 5))
    assert torch.bincount(labels_of(few.train.dataset)).tolist() == [2, 2, 2]
    assert few.sizes == {"train": 6, "val": 12, "test": 12}
    assert set(ids_of(few.train.dataset)) < set(ids_of(more.train.dataset))
    again, other = (data.few_per_class(2, seed=seed).train.dataset for seed in (4, 5))
    assert ids_of(again) == ids_of(few.train.dataset) != ids_of(other)
    images, _ = next(iter(few.train))
    assert len(images) == 6
    with pytest.raises(KitError, match="class 'blue' has 12 training pictures, so count=13"):
        data.few_per_class(13, seed=4)


def test_few_per_class_takes_a_picture_with_all_its_views(data, cnn):
    features = helpers.compute_features(cnn, cnn[-1], data, views=2)
    few = features.few_per_class(2, seed=4).train.dataset
    assert len(few) == 12 and len(set(ids_of(few))) == 6


def test_the_fingerprint_is_of_ids_labels_and_splits():
    def mark(**changes) -> str:
        kept = {"count": 12, "labels": 3, "split": 6, **changes}
        dataset = TensorDataset(
            torch.zeros(kept["count"], 1), torch.arange(kept["count"]) % kept["labels"]
        )
        first = Subset(dataset, range(kept["split"]))
        second = Subset(dataset, range(kept["split"], kept["count"]))
        loaders = {
            "train": DataLoader(first, batch_size=2),
            "val": DataLoader(second, batch_size=3),
        }
        return Data.from_loaders(loaders).fingerprint

    marks = [mark(), mark(count=13), mark(labels=2), mark(split=5)]
    assert len(set(marks)) == 4 and mark() == marks[0]


def test_loaders_must_have_train_and_val():
    loader = DataLoader(TensorDataset(torch.zeros(3, 1), torch.arange(3)))
    with pytest.raises(KitError, match=r"the loaders are \['train'\]: give at least"):
        Data.from_loaders({"train": loader})
    data = Data.from_loaders({"train": loader, "val": loader}, class_names=["a", "b", "c"])
    assert data.class_names == ["a", "b", "c"]
    with pytest.raises(KitError, match="no test split"):
        data.test  # noqa: B018


# What is told of a data set


def test_what_any_data_set_tells(tmp_path):
    root = write_class_folders(tmp_path / "own", {"red": 3, "blue": 2})
    folder = datasets.ImageFolder(root)
    assert ids_of(folder) == [
        "blue/00.png",
        "blue/01.png",
        "red/00.png",
        "red/01.png",
        "red/02.png",
    ]
    assert labels_of(folder).tolist() == [0, 0, 1, 1, 1]
    part = Subset(folder, [4, 0])
    assert (ids_of(part), labels_of(part).tolist()) == (["red/02.png", "blue/00.png"], [1, 0])
    assert paths_of(part) == [root / "red" / "02.png", root / "blue" / "00.png"]
    assert picture_of(part, 0).shape == (3, 20, 24)
    twice = folder + folder
    assert len(set(ids_of(twice))) == 10 and labels_of(twice).tolist()[5:] == [0, 0, 1, 1, 1]
    assert torch.equal(picture_of(twice, 9), picture_of(folder, 4))
    changed = datasets.ImageFolder(root, target_transform=lambda label: 1 - label)
    changed.transform = lambda picture: torch.zeros(1)
    assert labels_of(changed).tolist() == [1, 1, 0, 0, 0]


def test_duplicates_are_found_across_splits_whatever_their_names(workspace, tmp_path):
    root = tmp_path / "mine"
    for split in SPLITS:
        write_class_folders(root / split, {"a": 4, "b": 4})
    copy = root / "test" / "b" / "renamed.png"
    Image.open(root / "train" / "a" / "02.png").save(copy)
    data = Data.from_loaders({
        split: DataLoader(datasets.ImageFolder(root / split)) for split in SPLITS
    })  # fmt: skip
    (row,) = helpers.duplicates_across_splits(data)
    assert row == {
        "Picture": "test: b/renamed.png (b)", "Is the same as": "train: a/02.png (a)"
    }  # fmt: skip
    copy.unlink()
    assert str(helpers.duplicates_across_splits(
        {split: DataLoader(datasets.ImageFolder(root / split)) for split in SPLITS}
    )) == "no picture is in two splits, under any name"  # fmt: skip


def test_the_description_names_splits_balance_and_small_classes(workspace, tmp_path):
    root = write_class_folders(tmp_path / "odd", {"cat": 20, "dog": 8, "ox": 3})
    (root / "cat" / "broken.png").write_bytes(b"no picture")
    data = load_data(workspace, TINY, dataset=root)
    said = helpers.describe_data(data)
    assert "split    train, val and test made here, class by class, with seed 0" in said
    assert "train    from 1 (ox) to 12 (cat) pictures, 12.0 times as many" in said
    assert "small    fewer than 10 training pictures: ox (1), dog (6)" in said
    assert "files    1 left out" in said
    assert any("broken.png" in line for line in data.left_out)


def test_pictures_are_decoded_to_the_size_they_are_needed_in(workspace, tmp_path):
    root = tmp_path / "large"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            noise = np.random.default_rng([number, ord(name)]).integers(
                0, 255, (90, 60, 3), dtype=np.uint8
            )
            Image.fromarray(noise).save(root / name / f"{number}.jpg")
    data = load_data(workspace, {**TINY, "size": 28, "augment": Augmentation()}, dataset=Path(root))
    assert picture_of(data.train.dataset, 0).shape == (3, 48, 32)
    assert data.train.dataset[0][0].shape == (3, 28, 28)
