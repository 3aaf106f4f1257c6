"""What to know of a data set before training on it: balance, sizes, colours, copies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch.utils.data import DataLoader

from helpers.comparison import Table
from helpers.data import Data, part_text
from helpers.errors import KitError
from helpers.lib.datasets import ids_of, labels_of, paths_of, picture_of
from helpers.lib.pictures import check_all

FEW = 10  # training pictures of a class: with fewer, little can be learned of it


def class_counts(data: Data, split: str) -> torch.Tensor:
    """(classes,) int64: how many samples of each class a split has."""
    return torch.bincount(labels_of(data.dataloaders[split].dataset), minlength=data.num_classes)


def picture_sizes(data: Data | Mapping[str, DataLoader]) -> list[tuple[int, int]]:
    """(width, height) in pixels of every picture file, over all splits."""
    data = Data.of(data)
    paths = [path for loader in data.dataloaders.values() for path in paths_of(loader.dataset)]
    if not paths:
        raise KitError(f"{data.name} has no picture files whose sizes could be read")
    return check_all(paths, "reading sizes")


def describe_data(data: Data | Mapping[str, DataLoader]) -> str:
    """Splits, balance, small classes and files of a data set, a line each.

    `FEW` training pictures are what a class should have at least.
    """
    data, lines = Data.of(data), []
    if own := [split for split in data.sizes if split not in data.made_splits]:
        lines.append(f"split    {_listed(own)} as the data set has {'them' if own[1:] else 'it'}")
    if data.made_splits:
        made = _listed(data.made_splits)
        lines.append(f"split    {made} made here, class by class, with seed {data.seed}")
    if data.all_sizes:
        lines.append(f"part     {part_text(data)}")
    lines += [f"{split:<9}{_balance(data, split)}" for split in data.sizes]
    counts = zip(class_counts(data, "train").tolist(), data.class_names, strict=True)
    small = [f"{name} ({count})" for count, name in sorted(counts) if count < FEW]
    if small:
        shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        lines.append(f"small    fewer than {FEW} training pictures: {shown}")
    count = len(data.left_out)
    lines.append(f"files    {f'{count:,} left out, named above' if count else 'none is left out'}")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    """ "train", "train and val", "train, val and test"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _balance(data: Data, split: str) -> str:
    """The smallest and the largest class of a split, in words."""
    counts = class_counts(data, split)
    (fewest, least), (most, largest) = (
        (int(counts[label]), data.class_names[int(label)])
        for label in (counts.argmin(), counts.argmax())
    )
    if fewest == most:
        return f"every class has {most:,} picture{'s' * (most != 1)}"
    is_more = fewest and most / fewest >= 1.05  # else it would be "1.0 times as many"
    ratio = f", {most / fewest:.1f} times as many" if is_more else ""
    return f"from {fewest:,} ({least}) to {most:,} ({largest}) pictures{ratio}"


def duplicates_across_splits(data: Data | Mapping[str, DataLoader]) -> Table:
    """The pictures that are in more than one split, under whatever name.

    Two are the same when they decode to the same pixels. Each row names a picture and the one of an
    earlier split that it repeats.
    """
    data = Data.of(data)
    seen: dict[bytes, tuple[str, str]] = {}
    rows = []
    for split, loader in data.dataloaders.items():
        dataset = loader.dataset
        for index, (name, label) in enumerate(
            zip(ids_of(dataset), labels_of(dataset).tolist(), strict=True)
        ):
            picture = picture_of(dataset, index)
            digest = hashlib.blake2b(picture.contiguous().numpy().tobytes(), digest_size=16)
            digest.update(str(tuple(picture.shape)).encode())
            here = f"{split}: {name} ({data.class_names[label]})"
            first_split, first = seen.setdefault(digest.digest(), (split, here))
            if first_split != split:
                rows.append({"Picture": here, "Is the same as": first})
    return Table(rows, empty="no picture is in two splits, under any name")


def channel_statistics(data: Data | Mapping[str, DataLoader]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of red, green and blue over the training pictures, in 0 ... 1."""
    dataset = Data.of(data).train.dataset
    count, total, squares = 0, torch.zeros(3).double(), torch.zeros(3).double()
    for index in range(len(dataset)):  # type: ignore[arg-type]  # picture by picture: little memory
        picture = picture_of(dataset, index)
        pixels = picture.flatten(1).double() / (255 if picture.dtype == torch.uint8 else 1)
        count += pixels.shape[1]
        total += pixels.sum(dim=1)
        squares += pixels.square().sum(dim=1)
    mean = total / count
    return mean.float(), ((squares - count * mean.square()) / (count - 1)).sqrt().float()
