"""DataLoaders with a generator of their own, so that every method sees the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, Subset, TensorDataset

from helpers.errors import KitError


class Batches(Sampler):
    """The batches of an epoch as lists of indices, shuffled by a generator of its own.

    Each epoch also gets a number from that generator, by which the data set augments. No batch but
    an only one has a single sample, because BatchNorm cannot train on one: a last sample that would
    stand alone joins the batch before it.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, *, shuffle: bool, generator: torch.Generator
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.shuffle, self.generator = shuffle, generator

    def __len__(self) -> int:
        length: int = len(self.dataset)  # type: ignore[arg-type]
        batches = -(-length // self.batch_size)
        alone = length % self.batch_size == 1 and batches > 1
        return batches - 1 if alone and self.batch_size > 1 else batches

    def __iter__(self) -> Iterator[list[int]]:
        set_epoch(self.dataset, int(torch.randint(2**62, (), generator=self.generator)))
        indices = torch.arange(len(self.dataset))  # type: ignore[arg-type]
        if self.shuffle:
            indices = indices[torch.randperm(len(indices), generator=self.generator)]
        cuts = [self.batch_size * number for number in range(1, len(self))]
        yield from (batch.tolist() for batch in indices.tensor_split(cuts))


def set_epoch(dataset: Dataset, epoch: int) -> None:
    """Tell a data set, also inside a Subset or ConcatDataset, that an epoch begins, if it asks."""
    if hasattr(dataset, "set_epoch"):
        dataset.set_epoch(epoch)
    elif isinstance(dataset, ConcatDataset):
        for one in dataset.datasets:
            set_epoch(one, epoch)
    elif isinstance(dataset, Subset):
        set_epoch(dataset.dataset, epoch)


def make_loader(
    dataset: Dataset, batch_size: int, *, seed: int, shuffle: bool, num_workers: int = 0
) -> DataLoader:
    """A DataLoader whose sampler has a generator of its own, for the batches and augmentation.

    A loader draws from its own generator as often as it starts workers: they are kept apart.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(dataset, batch_size, shuffle=shuffle, generator=generator)
    options: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(seed),
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
    }
    if makes_batches(dataset):
        # Without automatic batching the data set gets the list of indices, and makes the whole
        # batch at once: see "Disable automatic batching" in the documentation of torch.utils.data.
        return DataLoader(dataset, sampler=batches, batch_size=None, **options)
    return DataLoader(dataset, batch_sampler=batches, **options)


def makes_batches(dataset: Dataset) -> bool:
    """Whether a data set takes a list of indices and returns a batch."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, TensorDataset) or getattr(dataset, "makes_batches", False)


def loader_like(loader: DataLoader, dataset: Dataset) -> DataLoader:
    """A loader of another data set with the batches, seed and workers of `loader`."""
    batches = loader.sampler if isinstance(loader.sampler, Batches) else loader.batch_sampler
    batch_size = batches.batch_size if isinstance(batches, Batches) else loader.batch_size
    if batch_size is None:
        raise KitError("this loader has no batch_size, so none like it can be made of other data")
    return make_loader(
        dataset,
        batch_size,
        seed=0 if loader.generator is None else loader.generator.initial_seed(),
        shuffle=getattr(batches, "shuffle", True),
        num_workers=loader.num_workers,
    )


def reseed(loader: DataLoader) -> None:
    """Start a loader's generators again, so that the next run sees the same batches as the last."""
    for generator in generators_of(loader):
        generator.manual_seed(generator.initial_seed())


def generators_of(loader: DataLoader) -> list[torch.Generator]:
    """The generators that a loader and its samplers have, each once."""
    parts = (loader, loader.sampler, loader.batch_sampler)
    found = [getattr(part, "generator", None) for part in parts]
    return list(dict.fromkeys(one for one in found if isinstance(one, torch.Generator)))
