"""Where pictures come from: torchvision sets and folders, all listed in one form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torchvision import datasets

from .errors import KitError
from .files import sha256
from .flowers import MINI_NOTE, DrawnFlowers, flowers102_is_present
from .folders import MINI_FOLDER, ROOT, show_path
from .identity import FLOWERS
from .pictures import MEND, OTHER_SUFFIXES, SUFFIXES, sort_out

# The sets of the extensions: the folder below the data folder, and the published classes.
SMALL_SETS = {"CIFAR10": ("cifar-10-folders", 10), "CIFAR100": ("cifar-100-folders", 100)}
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
MINI_WEIGHTS_NOTE = "mini profile: few epochs, weights pretrained on drawings"


@dataclass(frozen=True)
class Listing:
    """The files and labels of a data set, split by split; nothing is decoded yet."""

    name: str
    class_names: list[str]
    splits: dict[str, tuple[list[Path], list[int]]]  # "train", "val", "test" -> paths, labels
    root: Path  # picture ids are paths below it
    note: str = field(default="")  # what a figure of it must say, "" when nothing
    left_out: tuple[str, ...] = ()  # files of a folder that cannot be used, with the reason
    picture_sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict)  # if looked at
    mend: str = MEND  # what to do about a damaged picture
    side: int = 0  # pixels of square pictures that are kept as they are; 0: all sizes
    made_splits: tuple[str, ...] = ()  # the splits that the data set does not bring
    all_sizes: Mapping[str, int] = field(default_factory=dict)  # if mini takes a part of each split


def list_pictures(dataset: str | Path, *, profile: str, data_dir: Path, seed: int) -> Listing:
    """List the pictures of a data set by name, or of a folder of class folders.

    `seed` decides the splits that the data set does not bring, and which pictures of a large one
    the mini profile takes. Of a folder each picture is looked at: what cannot be used is in
    `left_out`, and the splits are made of the others. Raises `KitError` for a set that is unknown,
    refused for the assignment, or not on this machine.
    """
    if dataset == FLOWERS:
        return _drawn_flowers() if profile == "mini" else _flowers102(data_dir)
    if dataset in REFUSED:
        raise KitError(f"{dataset} is not allowed in this assignment: {REFUSED[dataset]}")
    if dataset in TORCHVISION_SETS:
        listing = _torchvision_set(str(dataset), data_dir, seed)
    else:
        listing = _class_folders(_own_folder(dataset, data_dir), seed, is_own=True)
    return _for_mini(listing, seed) if profile == "mini" else listing


def _own_folder(dataset: str | Path, data_dir: Path) -> Path:
    """A student's own folder: absolute, or below the data folder or that of the kit."""
    name = str(dataset).strip()
    with contextlib.suppress(RuntimeError, ValueError):  # no such home; no name at all
        for base in (data_dir, ROOT) if name else ():
            if (folder := base / Path(name).expanduser()).is_dir():
                return folder
    known = ", ".join([FLOWERS, *TORCHVISION_SETS])
    raise KitError(
        f"no data set {str(dataset)!r}: use one of {known}, or a folder of class folders that is "
        f"in {show_path(data_dir)} or has its whole path here"
    )


def _for_mini(listing: Listing, seed: int) -> Listing:
    """What the mini profile takes of pictures that are not drawn: few enough for minutes."""
    rng, classes = np.random.default_rng(seed), len(listing.class_names)
    splits = {}
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
    dataset: str, *, profile: str, data_dir: Path, seed: int, val_share: float
) -> Listing:
    """List "CIFAR10" or "CIFAR100" for an extension; on the mini profile, the small drawings.

    They lie in class folders below train/ and test/; `val_share` of train is set aside as val, by
    class and by `seed`. Raises `KitError` for another name, and for pictures that are not there.
    """
    if dataset not in SMALL_SETS:
        raise KitError(f"no data set {dataset!r} for an extension: use {' or '.join(SMALL_SETS)}")
    if not 0 < val_share < 1:
        raise KitError(f"val_share={val_share}: use a part of train between 0 and 1, such as 0.1")
    name, note = dataset, ""
    folder, classes = data_dir / SMALL_SETS[dataset][0], SMALL_SETS[dataset][1]
    mend = f"run `python -m helpers download --dataset {dataset}`, or use the mini profile"
    if profile == "mini":
        name, note = f"{dataset} (drawn stand-in)", MINI_NOTE
        folder, classes = SMALL_DRAWINGS, 10
        mend = "restore it with `git checkout -- data/mini/flowers-32`, or clone the kit again"
    if not folder.is_dir():
        raise KitError(f"{folder} is missing: {mend}")
    listing = _class_folders(folder, seed, {"train": 1 - val_share, "val": val_share})
    if len(listing.class_names) != classes:
        raise KitError(
            f"{folder} has {len(listing.class_names)} classes, {name} has {classes}: {mend}"
        )
    return replace(listing, name=name, note=note, side=SMALL_SIDE)


def _drawn_flowers() -> Listing:
    parts = {split: DrawnFlowers(split=split) for split in ("train", "val", "test")}
    root = MINI_FOLDER / "flowers-102" / "jpg"
    mend = "Restore them with `git checkout -- data/mini/flowers-102`, or clone the kit again"
    return _official("Flowers102 (drawn)", parts, root, MINI_NOTE, mend)


def _flowers102(data_dir: Path) -> Listing:
    if not flowers102_is_present(data_dir):
        raise KitError(
            f"the full profile needs {FLOWERS}, and {show_path(data_dir)} holds none of it: run "
            "`python -m helpers download`, or set KIT_DATA to the folder that holds flowers-102"
        )
    try:
        parts = {split: datasets.Flowers102(data_dir, split) for split in ("train", "val", "test")}
    except RuntimeError:
        raise KitError(
            f"a label file of Flowers102 in {data_dir / 'flowers-102'} is damaged (its md5 is not "
            "the published one): run `python -m helpers download` to replace it"
        ) from None
    mend = "Run `python -m helpers download` to replace them"
    return _official(FLOWERS, parts, data_dir / "flowers-102" / "jpg", mend=mend)


def _official(
    name: str,
    parts: dict[str, datasets.VisionDataset],
    root: Path,
    note: str = "",
    mend: str = MEND,
) -> Listing:
    splits = {split: _paths_and_labels(part) for split, part in parts.items()}
    return Listing(name, list(parts["train"].classes), splits, root, note, mend=mend)


def _paths_and_labels(dataset: datasets.VisionDataset) -> tuple[list[Path], list[int]]:
    """torchvision has no public list of a set's files; these are its names for it."""
    if hasattr(dataset, "samples"):
        paths, labels = zip(*dataset.samples, strict=True)
    else:
        paths = getattr(dataset, "_image_files", None) or dataset._images
        labels = dataset._labels
    return [Path(path) for path in paths], [int(label) for label in labels]


# The sets that the assignment allows beside Flowers102: their parts as torchvision names them.
# A part that must be divided further is named after its splits, as "train+val".
TORCHVISION_SETS: dict[str, Callable[..., dict[str, datasets.VisionDataset]]] = {
    "OxfordIIITPet": lambda root, **options: {
        "train+val": datasets.OxfordIIITPet(root, split="trainval", **options),
        "test": datasets.OxfordIIITPet(root, split="test", **options),
    },
    "DTD": lambda root, **options: {
        split: datasets.DTD(root, split=split, **options) for split in ("train", "val", "test")
    },
    "FGVCAircraft": lambda root, **options: {
        split: datasets.FGVCAircraft(root, split=split, **options)
        for split in ("train", "val", "test")
    },
    "EuroSAT": lambda root, **options: {"train+val+test": datasets.EuroSAT(root, **options)},
}


def _torchvision_set(name: str, data_dir: Path, seed: int) -> Listing:
    try:
        parts = TORCHVISION_SETS[name](data_dir, download=False)
    except (RuntimeError, OSError) as error:
        raise KitError(
            f"{name} is not complete in {data_dir} ({error}): run "
            f"`python -m helpers download --dataset {name}`"
        ) from None
    classes = list(next(iter(parts.values())).classes)
    files = {part: _paths_and_labels(dataset) for part, dataset in parts.items()}
    root = Path(next(iter(parts.values())).root)
    mend = f"Delete that folder, then run `python -m helpers download --dataset {name}`"
    splits = _complete_splits(files, seed, class_names=classes)
    return Listing(name, classes, splits, root, mend=mend, made_splits=_made_splits(files))


SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def _class_folders(
    folder: Path, seed: int, shares: Mapping[str, float] = SHARES, *, is_own: bool = False
) -> Listing:
    """A folder of class folders, or of train/, val/ and test/ that hold class folders.

    In a student's own one, copies and files that cannot be used are left out; in a published set
    the latter are an error. Splits that are missing are made, with `shares` of the pictures.
    """
    found = {split: folder / split for split in ("train", "val", "test")}
    found = {split: path for split, path in found.items() if path.is_dir()}
    if found and not {"train", "test"} <= set(found):
        raise KitError(f"{folder} has {' and '.join(found)}/ but needs both train/ and test/")
    names = {"train+val" if split == "train" and "val" not in found else split: path
             for split, path in found.items()} or {"train+val+test": folder}  # fmt: skip
    classes = sorted({path.name for top in names.values() for path in _subfolders(top)})
    if len(classes) < 2:
        raise KitError(
            f"{folder} has {len(classes)} class folder{'s' * (len(classes) != 1)}: "
            "a classifier needs at least 2, each with its pictures"
        )
    if odd := [name for name in classes if not _is_text(name)]:
        raise KitError(
            f"the name of a class folder in {folder} is no line of text: rename {odd[0]!a}"
        )
    unusable: dict[Path, str] = {}
    files = {part: _read_classes(top, classes, unusable) for part, top in names.items()}
    sizes: dict[Path, tuple[int, int]] = {}
    if is_own:
        sizes, damaged = sort_out([path for paths, _ in files.values() for path in paths],
                                  "checking pictures")  # fmt: skip
        unusable |= damaged
        files = {part: _without(unusable, *pairs) for part, pairs in files.items()}
        unusable |= _copies(files, folder)
        files = {part: _without(unusable, *pairs) for part, pairs in files.items()}
    left_out = [f"{_shown(path, folder)} ({reason})" for path, reason in sorted(unusable.items())]
    for part, (_, labels) in files.items():
        if absent := sorted(set(range(len(classes))) - set(labels)):
            raise KitError(_no_pictures(names[part] / classes[absent[0]], unusable, folder))
    if left_out and not is_own:
        raise KitError(f"{folder} is damaged: {left_out[0]}, {len(left_out)} in all")
    return Listing(
        folder.name,
        classes,
        _complete_splits(files, seed, shares, classes),
        folder,
        left_out=tuple(left_out),
        picture_sizes=sizes,
        made_splits=_made_splits(files),
    )


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir()
                if not path.name.startswith((".", "__MACOSX")) and path.is_dir()]  # fmt: skip
    except OSError as error:
        raise KitError(f"cannot read the folder {folder}: {error.strerror or error}") from None


def _read_classes(
    folder: Path, classes: Sequence[str], unusable: dict[Path, str]
) -> tuple[list[Path], list[int]]:
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(_pictures_below(folder / name, unusable))
        paths += found
        labels += [label] * len(found)
    return paths, labels


def _pictures_below(folder: Path, unusable: dict[Path, str]) -> list[Path]:
    """The picture files below a folder; what might be meant as one and is none is `unusable`.

    Hidden files, and those whose names do not say that they are pictures, do not count at all. A
    link to a folder is not followed: it may lead in a circle, or to another class.
    """
    found: list[Path] = []
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            kind = path.suffix.lower()
            if path.name.startswith("."):
                continue
            if path.is_symlink() and (path.is_dir() or not path.exists()):
                unusable[path] = "a link that leads nowhere, or to a folder"
            elif path.is_dir():
                found += _pictures_below(path, unusable)
            elif kind in OTHER_SUFFIXES:
                unusable[path] = f"{kind} is not read: save it as JPEG or PNG"
            elif kind in SUFFIXES and not path.is_file():
                unusable[path] = "no regular file"
            elif kind in SUFFIXES and not _is_text(path.name):
                unusable[path] = "its name is no line of text: rename it"
            elif kind in SUFFIXES:
                found.append(path)
    except (OSError, RuntimeError) as error:  # of a circle of links, Python 3.12 and older
        unusable[folder] = getattr(error, "strerror", None) or str(error)
    return found


def _is_text(name: str) -> bool:
    """Whether a name can be written down in a line: systems allow nearly any bytes."""
    return name == name.encode("utf-8", "replace").decode("utf-8") and len(name.splitlines()) == 1


def _shown(path: Path, root: Path) -> str:
    """A path below `root` that can be printed, whatever its name is."""
    name = path.relative_to(root).as_posix().encode("utf-8", "replace").decode("utf-8")
    return " ".join(name.splitlines())


def _without(
    unusable: Mapping[Path, str], paths: Sequence[Path], labels: Sequence[int]
) -> tuple[list[Path], list[int]]:
    kept = [index for index, path in enumerate(paths) if path not in unusable]
    return [paths[index] for index in kept], [labels[index] for index in kept]


def _copies(
    files: Mapping[str, tuple[Sequence[Path], Sequence[int]]], root: Path
) -> dict[Path, str]:
    """The files that are the same, byte for byte, as another one, and which that is.

    A copy in train of a test picture would give its class away. Of copies in one class the first is
    kept; of copies in several classes none is, because only their owner knows which one is right.
    """
    alike: dict[int, list[tuple[Path, int]]] = {}  # files of other sizes need not be read
    for paths, labels in files.values():
        for path, label in zip(paths, labels, strict=True):
            alike.setdefault(path.stat().st_size, []).append((path, label))
    same: dict[str, list[tuple[Path, int]]] = {}
    for pairs in alike.values():
        for path, label in pairs if len(pairs) > 1 else ():
            same.setdefault(sha256(path), []).append((path, label))
    found = {}
    for group in same.values():
        if len({label for _, label in group}) == 1:
            first, *copies = (path for path, _ in group)
            found |= {path: f"the same picture as {_shown(first, root)}" for path in copies}
            continue
        for path, label in group:
            other = next(one for one, its in group if its != label)
            found[path] = f"the same picture as {_shown(other, root)}, of another class"
    return found


def _no_pictures(folder: Path, unusable: Mapping[Path, str], root: Path) -> str:
    """What to say of a class folder without any picture that can be used."""
    faults = [f"{_shown(path, root)}: {reason}" for path, reason in sorted(unusable.items())
              if path.is_relative_to(folder)]  # fmt: skip
    if not faults:
        return f"class folder {folder} has no pictures ({', '.join(SUFFIXES)})"
    return f"class folder {folder} has no pictures that can be used ({faults[0]})"


def _complete_splits(
    files: dict[str, tuple[list[Path], list[int]]],
    seed: int,
    shares: Mapping[str, float] = SHARES,
    class_names: Sequence[str] | None = None,
) -> dict[str, tuple[list[Path], list[int]]]:
    """Divide each part named like "train+val" into its splits, class by class."""
    splits = {}
    for part, (paths, labels) in files.items():
        names = part.split("+")
        if len(names) == 1:
            splits[part] = (paths, labels)
            continue
        parts = stratified_split(labels, names, seed, shares, class_names)
        for name, chosen in zip(names, parts, strict=True):
            splits[name] = ([paths[i] for i in chosen], [labels[i] for i in chosen])
    return {split: splits[split] for split in SHARES}


def _made_splits(files: Mapping[str, object]) -> tuple[str, ...]:
    """The splits that come out of parts named like "train+val"."""
    return tuple(name for part in files if "+" in part for name in part.split("+"))


def stratified_split(
    labels: Sequence[int],
    names: Sequence[str],
    seed: int,
    shares: Mapping[str, float] = SHARES,
    class_names: Sequence[str] | None = None,
) -> list[list[int]]:
    """Divide samples among the named splits so that each class has its share in every one.

    Returns a sorted list of indices a name. The shares of train, val and test are 60 : 20 : 20,
    or as `shares` says. Raises `KitError` when a class has fewer samples than there are splits; it
    names the class by `class_names`, or by its number.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    chosen: list[list[int]] = [[] for _ in names]
    total = sum(shares[name] for name in names)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(names):
            name = label if class_names is None else repr(class_names[label])
            raise KitError(
                f"class {name} has {len(members)} picture{'s' * (len(members) != 1)}, too few to "
                f"have one in each of {', '.join(names)}: add pictures, or remove the class"
            )
        # Every split but the first gets its share and at least one; the first gets the rest.
        sizes = [max(1, int(len(members) * shares[name] / total)) for name in names[1:]]
        cuts = np.cumsum(sizes)
        groups = [members[cuts[-1] :], *np.split(members[: cuts[-1]], cuts[:-1])]
        for indices, group in zip(chosen, groups, strict=True):
            indices += group.tolist()
    return [sorted(indices) for indices in chosen]


def picture_ids(paths: Sequence[Path], root: Path) -> list[str]:
    """A name for each picture that is the same on every machine: its path below `root`."""
    ids = []
    for path in paths:
        with contextlib.suppress(ValueError):
            path = path.relative_to(root)
        ids.append(path.as_posix())
    return ids
