"""What can be told of any data set: its labels, the names of its samples, its pictures."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.transforms import v2 as transforms

from helpers.lib.randomness import untouched_randomness


def labels_of(dataset: Dataset) -> torch.Tensor:
    """The label of every sample, (samples,) int64.

    Taken from what torchvision's data sets keep; of any other each sample is asked for once.
    """
    length: int = len(dataset)  # type: ignore[arg-type]
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[list(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        return torch.cat([labels_of(one) for one in dataset.datasets])
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1].long()
    changes = getattr(dataset, "target_transform", None) is not None
    for name in () if changes else ("targets", "labels", "_labels"):
        kept = getattr(dataset, name, None)
        if isinstance(kept, Sequence | torch.Tensor | np.ndarray) and len(kept) == length:
            with contextlib.suppress(TypeError, ValueError):  # texts, say
                return torch.as_tensor(kept).long()
    with untouched_randomness():
        return torch.tensor([int(dataset[index][1]) for index in range(length)])


def ids_of(dataset: Dataset) -> list[str]:
    """A name for every sample, the same on every machine: its file below the root, or its number.

    A data set may have its own names in `ids`.
    """
    if isinstance(dataset, Subset):
        names = ids_of(dataset.dataset)
        return [names[index] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [ids_of(one) for one in dataset.datasets]
        names = [name for part in parts for name in part]
        if len(set(names)) == len(names):
            return names
        return [f"{number}/{name}" for number, part in enumerate(parts) for name in part]
    kept = getattr(dataset, "ids", None)
    if isinstance(kept, Sequence) and len(kept) == len(dataset):  # type: ignore[arg-type]
        return [str(name) for name in kept]
    if paths := paths_of(dataset):
        root = Path(getattr(dataset, "root", ""))
        return [
            (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
            for path in paths
        ]
    return [f"{index:05d}" for index in range(len(dataset))]  # type: ignore[arg-type]


def paths_of(dataset: Dataset) -> list[Path]:
    """The picture files of a data set, in its own order; [] when it does not tell."""
    if isinstance(dataset, Subset):
        paths = paths_of(dataset.dataset)
        return [paths[index] for index in dataset.indices] if paths else []
    if isinstance(dataset, ConcatDataset):
        parts = [paths_of(one) for one in dataset.datasets]
        return [path for part in parts for path in part] if all(parts) else []
    for name in ("samples", "paths", "_image_files", "_images"):
        kept = getattr(dataset, name, None)
        if isinstance(kept, list):
            # ImageFolder's samples are (path, label)
            kept = [one[0] if isinstance(one, tuple) else one for one in kept]
            if all(isinstance(path, str | Path) for path in kept):
                return [Path(path) for path in kept]
    return []


def class_names_of(datasets: Sequence[Dataset]) -> list[str]:
    """The names of the classes: those that a data set has in `classes`, else made of numbers."""
    inner = [innermost(dataset) for dataset in datasets]
    for dataset in inner:
        names = getattr(dataset, "classes", None)
        if isinstance(names, Sequence) and names:
            return [str(name) for name in names]
    known = [getattr(dataset, "num_classes", 0) for dataset in inner]  # FakeData has it
    count = max(*known, *(1 + int(labels_of(dataset).max()) for dataset in datasets))
    return [f"class {label}" for label in range(count)]


def innermost(dataset: Dataset) -> Dataset:
    """What a Subset or ConcatDataset is made of, the first of several."""
    while isinstance(dataset, Subset | ConcatDataset):
        dataset = dataset.dataset if isinstance(dataset, Subset) else dataset.datasets[0]
    return dataset


def picture_of(dataset: Dataset, index: int) -> torch.Tensor:
    """One picture (3, height, width), uint8 or float, before its transform where it can be had."""
    if isinstance(dataset, Subset):
        return picture_of(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, ConcatDataset):
        part = bisect.bisect_right(dataset.cumulative_sizes, index)
        before = dataset.cumulative_sizes[part - 1] if part else 0
        return picture_of(dataset.datasets[part], index - before)
    if hasattr(dataset, "picture"):
        picture: torch.Tensor = dataset.picture(index)
        return picture
    with untouched_randomness():
        sample = dataset[index][0]
    return (
        sample if isinstance(sample, torch.Tensor) else transforms.functional.pil_to_tensor(sample)
    )
