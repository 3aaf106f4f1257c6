"""The pictures of a split as a PyTorch Dataset, and what is done to each of them.

Decoded pictures are uint8 of shape (3, height, width); a network gets floats, normalised.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.transforms import v2 as transforms

from helpers.lib.datasets import innermost
from helpers.lib.picture_store import PictureStore
from helpers.recipes import Augmentation


class Normalization(NamedTuple):
    """Means and standard deviations of red, green and blue, of values in 0 ... 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# Those of ImageNet: what pretrained networks expect.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Pictures(Dataset):
    """The pictures of one split: decoded once, transformed anew each time one is asked for.

    `pictures[3]` is a picture, float32 of shape (3, size, size), and its label; `pictures[[3, 5]]`
    is a batch of them, made at once. What a random transform does to a picture follows from the
    epoch, the picture and how often it was asked for in that epoch, and from nothing else: not from
    PyTorch's global random state, nor from the number of workers. So every method sees the same.
    """

    makes_batches = True  # see make_loader

    def __init__(
        self,
        store: PictureStore,
        labels: Sequence[int],
        ids: Sequence[str],
        *,
        class_names: Sequence[str],
        transform: transforms.Transform,
        plain_transform: transforms.Transform,
        normalization: Normalization = IMAGENET,
    ) -> None:
        self.store, self.ids, self.classes = store, list(ids), list(class_names)
        self.transform, self.plain_transform = transform, plain_transform
        self.normalization = normalization
        self.targets = torch.tensor(labels, dtype=torch.int64)
        # A seed for each picture in this epoch, and how often it was seen. Shared, because workers
        # have copies of the data set.
        self._seeds, self._seen = torch.zeros((2, len(self.ids)), dtype=torch.int64).share_memory_()
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | list[int]) -> tuple[torch.Tensor, Any]:
        if isinstance(index, list):
            images = torch.stack(self._transformed(index))
            return normalize(images, self.normalization), self.targets[index]
        (image,) = self._transformed([range(len(self))[index]])
        return normalize(image, self.normalization), int(self.targets[index])

    def _transformed(self, indices: list[int]) -> list[torch.Tensor]:
        """Pictures after their transform, uint8, each with the randomness that is its own."""
        if self.transform is self.plain_transform:
            return [self.transform(self.picture(index)) for index in indices]
        seeds, seen = self._seeds.numpy(), self._seen.numpy()
        images, before = [], torch.get_rng_state()
        try:
            for index in indices:
                torch.default_generator.manual_seed(int(seeds[index] + seen[index]))
                seen[index] += 1
                images.append(self.transform(self.picture(index)))
        finally:
            torch.set_rng_state(before)
        return images

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: any whole number from 0 on, by which pictures are augmented anew."""
        seeds = np.random.SeedSequence(epoch).generate_state(len(self), np.uint64) >> 2
        self._seeds.copy_(torch.from_numpy(seeds.astype(np.int64)))
        self._seen.zero_()

    @property
    def paths(self) -> list[Path]:
        """The picture files."""
        return self.store.paths

    def picture(self, index: int) -> torch.Tensor:
        """One picture before its transform: uint8 of shape (3, height, width)."""
        return self.store[index]

    def plain(self) -> Pictures:
        """The same pictures as val and test see theirs, without augmentation."""
        other = copy.copy(self)
        other.transform = self.plain_transform
        return other


def plain(dataset: Dataset) -> Dataset:
    """A data set without augmentation, as far as it knows how: others stay as they are."""
    if isinstance(dataset, Subset):
        return Subset(plain(dataset.dataset), dataset.indices)
    if isinstance(dataset, ConcatDataset):
        return ConcatDataset([plain(one) for one in dataset.datasets])
    return dataset.plain() if isinstance(dataset, Pictures) else dataset


def normalize(images: torch.Tensor, normalization: Normalization = IMAGENET) -> torch.Tensor:
    """uint8 pictures (..., 3, height, width) as floats, less the mean, over the std."""
    images = transforms.functional.to_dtype(images, torch.float32, scale=True)
    return transforms.functional.normalize(
        images, list(normalization.mean), list(normalization.std), inplace=True
    )


def denormalize(
    images: torch.Tensor, normalization: Normalization | None = IMAGENET
) -> torch.Tensor:
    """The way back from `normalize`, to floats in 0 ... 1; of unknown ones ImageNet's is undone."""
    if normalization is None:
        if images.min() >= 0 and images.max() <= 1:
            return images.float()
        normalization = IMAGENET
    mean = torch.tensor(normalization.mean, device=images.device).view(-1, 1, 1)
    std = torch.tensor(normalization.std, device=images.device).view(-1, 1, 1)
    return (images.float() * std + mean).clamp(0, 1)


def normalization_of(dataset: Dataset) -> Normalization | None:
    """The normalisation in the transform of a data set, None when it has none or hides it."""
    dataset = innermost(dataset)
    if isinstance(dataset, Pictures):
        return dataset.normalization
    transform = getattr(dataset, "transform", None)
    for step in [transform, *getattr(transform, "transforms", [])]:
        if hasattr(step, "mean") and hasattr(step, "std"):
            return Normalization(tuple(map(float, step.mean)), tuple(map(float, step.std)))
    return None


def train_transform(size: int, augment: Augmentation) -> transforms.Transform:
    """A random part of the picture, perhaps mirrored, perhaps recoloured; uint8 to uint8."""
    steps = [
        transforms.RandomResizedCrop(size, scale=(augment.smallest_crop, 1.0), antialias=True),
        transforms.RandomHorizontalFlip(augment.flip),
    ]
    if any(augment.color_jitter):
        steps.append(transforms.ColorJitter(*augment.color_jitter))
    return transforms.Compose(steps)


def eval_transform(size: int) -> transforms.Transform:
    """The centre of the picture, always the same: validation and test never see augmentation."""
    return transforms.CenterCrop(size)


def short_side(size: int) -> int:
    """Pixels of the short side that pictures are scaled to for crops of `size`: 256 for 224."""
    return round(size * 8 / 7)


def square(picture: torch.Tensor) -> torch.Tensor:
    """The largest square in the middle of a picture (3, height, width)."""
    return transforms.functional.center_crop(picture, [min(picture.shape[-2:])] * 2)
