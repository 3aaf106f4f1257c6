"""Folders of class folders, a student's own and published ones: every picture with its split."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers.errors import KitError
from helpers.lib.files import sha256
from helpers.lib.pictures import HINT, OTHER_SUFFIXES, SUFFIXES, sort_out

Pairs = tuple[list[Path], list[int]]  # pictures and their labels
FRACTIONS: Mapping[str, float] = {"train": 0.6, "val": 0.2, "test": 0.2}  # of splits that are made


@dataclass(frozen=True)
class Listing:
    """The files and labels of a data set, split by split; nothing is decoded yet."""

    name: str
    class_names: list[str]
    splits: dict[str, Pairs]  # "train", "val", "test"
    root: Path  # picture ids are paths below it
    note: str = ""  # what a figure of it must say, "" when nothing
    left_out: tuple[str, ...] = ()  # files of a folder that cannot be used, with the reason
    picture_sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict)  # if looked at
    hint: str = HINT  # what to do about a damaged picture
    side: int = 0  # pixels of square pictures that are kept as they are; 0: all sizes
    made_splits: tuple[str, ...] = ()  # the splits that the data set does not bring
    all_sizes: Mapping[str, int] = field(default_factory=dict)  # if mini takes a few of each split


def list_class_folders(
    folder: Path, seed: int, fractions: Mapping[str, float] = FRACTIONS, *, is_own: bool = False
) -> Listing:
    """List a folder of class folders, or of train/, val/ and test/ that hold class folders.

    Args:
        folder: The folder; its name becomes that of the data set.
        seed: Decides the splits that are missing.
        fractions: Of the pictures, for the splits that are made.
        is_own: It is a student's own: files that cannot be used, and copies, are left out. In a
            published set the former are an error, and copies are not looked for.

    Raises:
        KitError: It is no such folder, a class has too few pictures, or a published set is damaged.
    """
    found = {split: folder / split for split in FRACTIONS if (folder / split).is_dir()}
    if found and not {"train", "test"} <= set(found):
        raise KitError(f"{folder} has {' and '.join(found)}/ but needs both train/ and test/")
    tops = {"train+val" if split == "train" and "val" not in found else split: path
            for split, path in found.items()} or {"train+val+test": folder}  # fmt: skip
    classes = sorted({path.name for top in tops.values() for path in _subfolders(top)})
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
    files = {part: _read_classes(top, classes, unusable) for part, top in tops.items()}
    sizes: dict[Path, tuple[int, int]] = {}
    if is_own:
        sizes, damaged = sort_out([path for paths, _ in files.values() for path in paths],
                                  "checking pictures")  # fmt: skip
        unusable |= damaged
        files = {part: _without(unusable, *pairs) for part, pairs in files.items()}
        unusable |= _copies(files, folder)
        files = {part: _without(unusable, *pairs) for part, pairs in files.items()}
    left_out = [f"{_shown(path, folder)} ({fault})" for path, fault in sorted(unusable.items())]
    for part, (_, labels) in files.items():
        if absent := sorted(set(range(len(classes))) - set(labels)):
            raise KitError(_no_pictures(tops[part] / classes[absent[0]], unusable, folder))
    if left_out and not is_own:
        raise KitError(f"{folder} is damaged: {left_out[0]}, {len(left_out)} in all")
    return Listing(
        folder.name,
        classes,
        complete_splits(files, seed, fractions, classes),
        folder,
        left_out=tuple(left_out),
        picture_sizes=sizes,
        made_splits=made_splits(files),
    )


def _subfolders(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(hidden) and p.is_dir()]
    except OSError as error:
        raise KitError(f"cannot read the folder {folder}: {error.strerror or error}") from None


def _read_classes(folder: Path, classes: Sequence[str], unusable: dict[Path, str]) -> Pairs:
    """The pictures of each class, and their labels."""
    found = [sorted(_pictures_below(folder / name, unusable)) for name in classes]
    labels = [label for label, paths in enumerate(found) for _ in paths]
    return [path for paths in found for path in paths], labels


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


def _without(unusable: Mapping[Path, str], paths: Sequence[Path], labels: Sequence[int]) -> Pairs:
    kept = [index for index, path in enumerate(paths) if path not in unusable]
    return [paths[index] for index in kept], [labels[index] for index in kept]


def _copies(files: Mapping[str, Pairs], root: Path) -> dict[Path, str]:
    """The files that are the same, byte for byte, as another one, and which that is.

    A copy in train of a test picture would give its class away. Of copies in one class the first is
    kept; of copies in several classes none is, because only their owner knows which one is right.
    """
    by_size: dict[int, list[tuple[Path, int]]] = {}  # files of other sizes need not be read
    for paths, labels in files.values():
        for path, label in zip(paths, labels, strict=True):
            by_size.setdefault(path.stat().st_size, []).append((path, label))
    same: dict[str, list[tuple[Path, int]]] = {}
    for pairs in by_size.values():
        for path, label in pairs if len(pairs) > 1 else ():
            same.setdefault(sha256(path), []).append((path, label))
    found: dict[Path, str] = {}
    for group in same.values():
        first, first_label = group[0]
        if all(label == first_label for _, label in group):
            found |= {path: f"the same picture as {_shown(first, root)}" for path, _ in group[1:]}
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


def complete_splits(
    files: Mapping[str, Pairs],
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
    class_names: Sequence[str] | None = None,
) -> dict[str, Pairs]:
    """Divide each part named like "train+val" into its splits, class by class."""
    splits: dict[str, Pairs] = {}
    for part, (paths, labels) in files.items():
        names = part.split("+")
        if len(names) == 1:
            splits[part] = (paths, labels)
            continue
        parts = stratified_split(labels, names, seed, fractions, class_names)
        for name, chosen in zip(names, parts, strict=True):
            splits[name] = ([paths[i] for i in chosen], [labels[i] for i in chosen])
    return {split: splits[split] for split in FRACTIONS}


def made_splits(files: Mapping[str, object]) -> tuple[str, ...]:
    """The splits that come out of parts named like "train+val"."""
    return tuple(name for part in files if "+" in part for name in part.split("+"))


def stratified_split(
    labels: Sequence[int],
    names: Sequence[str],
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
    class_names: Sequence[str] | None = None,
) -> list[list[int]]:
    """Divide samples among splits so that each class has the same fraction in every one.

    Args:
        labels: The class of each sample, by number.
        names: The splits; every one gets at least one sample of each class.
        seed: Decides which sample goes where.
        fractions: Of the samples for each split, of which those of `names` count.
        class_names: By which messages call a class; without them it is called by its number.

    Returns:
        A sorted list of indices for each of `names`.

    Raises:
        KitError: A class has fewer samples than there are splits.
    """
    rng, of_label = np.random.default_rng(seed), np.asarray(labels)
    chosen: list[list[int]] = [[] for _ in names]
    total = sum(fractions[name] for name in names)
    for label in np.unique(of_label):
        members = rng.permutation(np.flatnonzero(of_label == label))
        if len(members) < len(names):
            name = label if class_names is None else repr(class_names[label])
            raise KitError(
                f"class {name} has {len(members)} picture{'s' * (len(members) != 1)}, too few to "
                f"have one in each of {', '.join(names)}: add pictures, or remove the class"
            )
        # Every split but the first gets its fraction and at least one; the first gets the rest.
        sizes = [max(1, int(len(members) * fractions[name] / total)) for name in names[1:]]
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
