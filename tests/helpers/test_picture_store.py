"""Decoded pictures are kept in memory or in a mapped file, and never when they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from helpers.lib import picture_store, pictures
from helpers.lib.picture_store import PictureStore
from helpers.lib.pictures import decode


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Pictures of different sizes, full of noise."""
    rng = np.random.default_rng(0)
    found = []
    for number, (width, height) in enumerate(((40, 30), (33, 90), (64, 64), (101, 37))):
        found.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(found[-1])
    return found


@pytest.fixture
def everything_to_disk(monkeypatch) -> None:
    monkeypatch.setattr(picture_store, "IN_MEMORY", 0)
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The paths that were decoded, in the order in which they were."""
    seen: list[Path] = []

    def counting(path, short_side, **options):
        seen.append(path)
        return decode(path, short_side, **options)

    monkeypatch.setattr(pictures, "decode", counting)
    return seen


def store_of(paths: list[Path], folder: Path | None = None, short_side: int = 20) -> PictureStore:
    sizes = pictures.check_all(paths, "")
    return PictureStore(paths, sizes, short_side=short_side, name="A (set) train", folder=folder)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_store_holds_what_decoding_gives(paths, tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr(picture_store, "IN_MEMORY", 0 if on_disk else 1e9)
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
    folder = tmp_path / "decoded"
    store = store_of(paths, folder)
    assert not files(folder)  # not before a picture is asked for
    for index in (2, 0, 3, 1):
        expected = decode(paths[index], 20)
        assert store[index].dtype == torch.uint8
        assert torch.equal(store[index], expected)
    assert store.num_bytes == sum(decode(path, 20).numel() for path in paths)
    assert len(files(folder)) == on_disk


def test_a_second_notebook_decodes_nothing(paths, tmp_path, everything_to_disk, decoded):
    first = store_of(paths, tmp_path / "decoded")[1].clone()
    assert len(decoded) == 4
    assert torch.equal(store_of(paths, tmp_path / "decoded")[1], first)
    assert len(decoded) == 4


@pytest.mark.parametrize("change", ["content", "date", "size"])
def test_changed_pictures_are_decoded_anew(paths, tmp_path, everything_to_disk, decoded, change):
    folder = tmp_path / "decoded"
    store_of(paths, folder)[0]
    before, short_side = files(folder), 20
    if change == "content":
        Image.new("RGB", (40, 30), (9, 8, 7)).save(paths[0])
    elif change == "date":
        os.utime(paths[0], (1, 1))
    else:
        short_side = 24
    picture = store_of(paths, folder, short_side)[0]
    assert len(decoded) == 8
    if change == "content":
        assert picture.flatten(1).float().mean(dim=1).tolist() == [9, 8, 7]
    # the outdated file is gone, that of another size is not
    assert (before[0] in files(folder)) == (change == "size")
    assert len(files(folder)) == 1 + (change == "size")


def test_a_file_deleted_meanwhile_is_not_missed(paths, tmp_path, everything_to_disk, decoded):
    folder = tmp_path / "decoded"
    store = store_of(paths, folder)
    expected = store[3].clone()
    (folder / files(folder)[0]).unlink()
    for _ in range(2):
        assert torch.equal(store[3], expected)
    assert len(decoded) == 8
    assert torch.equal(store_of(paths, folder)[3], expected)  # the next notebook keeps it again
    assert len(files(folder)) == 1


def test_without_room_on_the_disk_memory_is_used(paths, tmp_path, everything_to_disk, monkeypatch):
    monkeypatch.setattr(picture_store, "SPARE_DISK", 1e30)
    folder = tmp_path / "decoded"
    assert torch.equal(store_of(paths, folder)[0], decode(paths[0], 20))
    assert not files(folder)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
    assert torch.equal(store_of(paths, blocked / "decoded")[0], decode(paths[0], 20))


class Enlarged(Dataset):
    """The pictures of a store, as a data set with a transform has them."""

    def __init__(self, store: PictureStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.store[index].float() * 2


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_spawned_worker_gets_the_decoded_pictures(paths, tmp_path, monkeypatch, on_disk):
    monkeypatch.setattr(picture_store, "IN_MEMORY", 0 if on_disk else 1e9)
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
    store = store_of(paths, tmp_path / "decoded")
    loader = DataLoader(
        Enlarged(store), batch_size=None, num_workers=1, multiprocessing_context="spawn", timeout=60
    )
    iterator = iter(loader)
    for path in paths:
        path.unlink()  # the worker need not decode them
    for index, picture in enumerate(iterator):
        assert torch.equal(picture, store[index].float() * 2)
