"""Tiny data sets for tests: pictures in class folders, and vectors that need no pictures."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from helpers.data import Data
from helpers.lib.loaders import make_loader

SPLITS = ("train", "val", "test")
COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_picture(path: Path, color: tuple[int, int, int] = (90, 90, 90), seed: int = 0) -> Path:
    """Write a noisy picture of one colour, 20 pixels high and 24 wide; returns its path."""
    noise = np.random.default_rng(seed).integers(-40, 40, (20, 24, 3))
    pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_class_folders(root: Path, counts: Mapping[str, int]) -> Path:
    """Write that many pictures of each class into a folder of its name; returns `root`.

    No two are the same, also in folders of other names.
    """
    root.mkdir(parents=True, exist_ok=True)
    first = 10**4 * zlib.crc32(root.name.encode())
    for label, (name, count) in enumerate(counts.items()):
        color = COLORS.get(name, (90, 90, 90))
        for number in range(count):
            write_picture(
                root / name / f"{number:02d}.png", color, seed=first + 1000 * label + number
            )
        (root / name).mkdir(exist_ok=True)
    return root


def write_pets(
    root: Path,
    names: Sequence[str] = ("Abyssinian", "yorkshire_terrier"),
    *,
    count: int = 8,
    write: Callable[[Path, int, int], object] = lambda path, _, number: write_picture(
        path, seed=number
    ),
) -> None:
    """Write pictures in the files of OxfordIIITPet: `count` of each class in trainval and in test.

    `write` makes one, from its path, its label and its number.
    """
    folder = root / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        lines = []
        for label, name in enumerate(names):
            for number in range(count):
                picture = f"{name}_{split}{number}"
                write(folder / "images" / f"{picture}.jpg", label, number)
                lines.append(f"{picture} {label + 1} 1 1")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines))


@contextlib.contextmanager
def full_disk(num_bytes: int = 1000) -> Iterator[None]:
    """Let no file grow beyond `num_bytes` during the block, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="only Unix has limits of file size")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def vector_data(
    sizes: tuple[int, int, int] = (50, 30, 30),
    *,
    classes: int = 3,
    width: int = 6,
    noise: float = 1.0,
    batch_size: int = 8,
) -> Data:
    """Data whose samples are vectors around a centre for each class, for networks that are one
    linear layer; batches of `batch_size` in every split."""
    generator = torch.Generator().manual_seed(5)
    loaders = {}
    for split, size in zip(SPLITS, sizes, strict=True):
        labels = torch.arange(size) % classes
        vectors = 2 * torch.eye(max(classes, width))[labels, :width]
        vectors = vectors + noise * torch.randn(size, width, generator=generator)
        samples = TensorDataset(vectors, labels)
        loaders[split] = make_loader(samples, batch_size, seed=3, shuffle=split == "train")
    return Data.from_loaders(loaders, name="vectors")
