"""Where pictures come from: published sets and folders, all listed in one form."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torchvision import datasets

from helpers.errors import KitError
from helpers.lib.class_folders import (
    Listing,
    Pairs,
    complete_splits,
    list_class_folders,
    made_splits,
    picture_ids,
)  # fmt: skip
from helpers.lib.datasets import labels_of, paths_of
from helpers.lib.flowers import MINI_NOTE, DrawnFlowers, flowers102_is_present
from helpers.lib.folders import MINI_FOLDER, ROOT, show_path
from helpers.lib.identity import FLOWERS

__all__ = ["Listing", "list_pictures", "list_small_pictures", "picture_ids"]

# The sets of the extensions: the folder below the data folder, and the published classes.
SMALL_SETS = {"CIFAR10": ("cifar-10-folders", 10), "CIFAR100": ("cifar-100-folders", 100)}
SPLITS = ("train", "val", "test")
SMALL_SIDE = 32  # pixels of their pictures
SMALL_DRAWINGS = MINI_FOLDER / "flowers-32"
REFUSED = {
    "CIFAR10": "its pictures are 32 pixels wide; it belongs to the extensions",
    "CIFAR100": "its pictures are 32 pixels wide; it belongs to the extensions",
    "ImageNet": "the pretrained networks have already been trained on it",
    "FashionMNIST": "its pictures are grey and 28 pixels wide",
}
# How many pictures the mini profile takes of a data set that is not drawn: as many as there are
# drawings, so that its notebooks take minutes, but of each class at least so many.
MINI_MOST = {"train": 120, "val": 120, "test": 480}
MINI_LEAST = {"train": 10, "val": 5, "test": 10}
MINI_WEIGHTS_NOTE = "mini profile: few epochs, weights learned from drawings of 64 pixels"

# The sets that the assignment allows beside Flowers102: their parts as torchvision names them.
# A part that must be divided further is named after its splits, as "train+val".
TORCHVISION_SETS: dict[str, Callable[..., dict[str, datasets.VisionDataset]]] = {
    "OxfordIIITPet": lambda root, **options: {
        "train+val": datasets.OxfordIIITPet(root, split="trainval", **options),
        "test": datasets.OxfordIIITPet(root, split="test", **options),
    },
    "DTD": lambda root, **options: {
        split: datasets.DTD(root, split, **options) for split in SPLITS
    },
    "FGVCAircraft": lambda root, **options: {
        split: datasets.FGVCAircraft(root, split, **options) for split in SPLITS
    },
    "EuroSAT": lambda root, **options: {"train+val+test": datasets.EuroSAT(root, **options)},
}


def list_pictures(dataset: str | Path, *, profile: str, data_dir: Path, seed: int) -> Listing:
    """List the pictures of a data set by name, or of a folder of class folders.

    "mini" takes drawings in the place of Flowers102, and few of other pictures; `seed` decides
    which, and the splits that the data set does not bring. Raises `KitError` when the set is
    unknown, refused for the assignment, or not on this machine.
    """
    if dataset == FLOWERS:
        return _drawn_flowers() if profile == "mini" else _flowers102(data_dir)
    if dataset in REFUSED:
        raise KitError(f"{dataset} is not allowed in this assignment: {REFUSED[str(dataset)]}")
    if dataset in TORCHVISION_SETS:
        listing = _torchvision_set(str(dataset), data_dir, seed)
    else:
        listing = list_class_folders(
            _own_folder(dataset, data_dir),
            seed,
            is_own=True,
            memory=data_dir / "decoded" / "checked.json",
        )
    return _for_mini(listing, seed) if profile == "mini" else listing


def _own_folder(dataset: str | Path, data_dir: Path) -> Path:
    """A student's own folder: absolute, or below the data folder or that of the kit."""
    name = str(dataset).strip().strip("\"'")  # quotation marks, as a shell's are pasted
    with contextlib.suppress(RuntimeError):  # "~nobody" has no home
        for base in (data_dir, ROOT) if name else ():
            if (folder := base / Path(name).expanduser()).is_dir():
                return folder
    known = [FLOWERS, *TORCHVISION_SETS]
    meant = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), meant, n=1, cutoff=0.75)
    hint = f" Did you mean {meant[close[0]]!r}?" if close else ""
    if name.lower().endswith((".zip", ".tar", ".tgz", ".gz", ".rar", ".7z")):
        hint = " Unpack the archive, and give the name of the folder that comes out."
    raise KitError(
        f"no data set {str(dataset)!r}: use one of {', '.join(known)}, or a folder of class "
        f"folders that is in {show_path(data_dir)} or has its whole path here.{hint}"
    )


def _for_mini(listing: Listing, seed: int) -> Listing:
    """What the mini profile takes of pictures that are not drawn: few enough for minutes."""
    rng, classes = np.random.default_rng(seed), len(listing.class_names)
    splits: dict[str, Pairs] = {}
    for split, (paths, labels) in listing.splits.items():
        most = max(MINI_LEAST[split], MINI_MOST[split] // classes)
        of_class = [np.flatnonzero(np.asarray(labels) == label) for label in range(classes)]
        chosen = sorted(i for one in of_class for i in rng.permutation(one)[:most].tolist())
        splits[split] = ([paths[i] for i in chosen], [labels[i] for i in chosen])
    sizes, taken = (
        {split: len(paths) for split, (paths, _) in one.items()} for one in (listing.splits, splits)
    )
    return replace(
        listing, note=MINI_WEIGHTS_NOTE, splits=splits, all_sizes=sizes if taken != sizes else {}
    )


def list_small_pictures(
    dataset: str, *, profile: str, data_dir: Path, seed: int, val_fraction: float
) -> Listing:
    """List "CIFAR10" or "CIFAR100" for an extension; on the mini profile, the small drawings.

    `seed` decides which `val_fraction` (0 ... 1) of each class of train becomes val. Raises
    `KitError` for another name, and when the pictures are not there.
    """
    if dataset not in SMALL_SETS:
        raise KitError(f"no data set {dataset!r} for an extension: use {' or '.join(SMALL_SETS)}")
    if not 0 < val_fraction < 1:
        raise KitError(f"val_fraction={val_fraction}: use a number between 0 and 1, such as 0.1")
    name, note = dataset, ""
    folder, classes = data_dir / SMALL_SETS[dataset][0], SMALL_SETS[dataset][1]
    hint = f"run `python -m coursekit download --dataset {dataset}`, or use the mini profile"
    if profile == "mini":
        name, note = f"{dataset} (drawn stand-in)", MINI_NOTE
        folder, classes = SMALL_DRAWINGS, 10
        hint = "restore it with `git checkout -- data/mini/flowers-32`, or clone the kit again"
    if not folder.is_dir():
        raise KitError(f"{folder} is missing: {hint}")
    listing = list_class_folders(folder, seed, {"train": 1 - val_fraction, "val": val_fraction})
    if len(listing.class_names) != classes:
        raise KitError(
            f"{folder} has {len(listing.class_names)} classes, {name} has {classes}: {hint}"
        )
    return replace(listing, name=name, note=note, side=SMALL_SIDE)


def _drawn_flowers() -> Listing:
    hint = "Restore them with `git checkout -- data/mini/flowers-102`, or clone the kit again"
    parts = {split: _pairs(DrawnFlowers(split=split)) for split in SPLITS}
    root = MINI_FOLDER / "flowers-102" / "jpg"
    return Listing("Flowers102 (drawn)", DrawnFlowers().classes, parts, root, MINI_NOTE, hint=hint)


def _flowers102(data_dir: Path) -> Listing:
    if not flowers102_is_present(data_dir):
        raise KitError(
            f"the full profile needs {FLOWERS}, and {show_path(data_dir)} holds none of it: run "
            "`python -m coursekit download`, or set KIT_DATA to the folder that holds flowers-102"
        )
    try:
        parts = {split: datasets.Flowers102(data_dir, split) for split in SPLITS}
    except RuntimeError:
        raise KitError(
            f"a label file of Flowers102 in {data_dir / 'flowers-102'} is damaged (its md5 is not "
            "the published one): run `python -m coursekit download` to replace it"
        ) from None
    return Listing(
        FLOWERS,
        list(parts["train"].classes),
        {split: _pairs(part) for split, part in parts.items()},
        data_dir / "flowers-102" / "jpg",
        hint="Run `python -m coursekit download` to replace them",
    )


def _torchvision_set(name: str, data_dir: Path, seed: int) -> Listing:
    try:
        parts = TORCHVISION_SETS[name](data_dir, download=False)
    except (RuntimeError, OSError) as error:
        raise KitError(
            f"{name} is not complete in {data_dir} ({error}): run "
            f"`python -m coursekit download --dataset {name}`"
        ) from None
    first = next(iter(parts.values()))
    files = {part: _pairs(dataset) for part, dataset in parts.items()}
    return Listing(
        name,
        list(first.classes),
        complete_splits(files, seed, first.classes),
        Path(first.root),
        hint=f"Delete that folder, then run `python -m coursekit download --dataset {name}`",
        made_splits=made_splits(files),
    )


def _pairs(dataset: datasets.VisionDataset) -> Pairs:
    """The files and labels of a torchvision set: in its own order."""
    return paths_of(dataset), labels_of(dataset).tolist()
