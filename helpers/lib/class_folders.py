"""Folders of class folders, a student's own and published ones: every picture with its split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers.errors import KitError
from helpers.lib.checked import Looked, sort_out
from helpers.lib.files import sha256
from helpers.lib.pictures import HINT, SUFFIXES, looks_like_one, other_kind
from helpers.lib.split_folders import NOT_MEANT, find_parts, folders_in, unused

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
    bits: int = 0  # that the values of 16-bit pictures need at most; 0: there are none
    hint: str = HINT  # what to do about a damaged picture
    side: int = 0  # pixels of square pictures that are kept as they are; 0: all sizes
    made_splits: tuple[str, ...] = ()  # the splits that the data set does not bring
    all_sizes: Mapping[str, int] = field(default_factory=dict)  # if mini takes a few of each split
    notes: tuple[str, ...] = ()  # which folder was taken for what, where that was to be decided

    def named_labels(self) -> dict[str, list[tuple[str, int]]]:
        """The (picture id, label) pairs of every split."""
        return {
            split: list(zip(picture_ids(paths, self.root), labels, strict=True))
            for split, (paths, labels) in self.splits.items()
        }


def list_class_folders(
    folder: Path,
    seed: int,
    fractions: Mapping[str, float] = FRACTIONS,
    *,
    is_own: bool = False,
    memory: Path | None = None,
) -> Listing:
    """List a folder of class folders, or of train/, val/ and test/ that hold class folders.

    The splits may have other names, see `find_parts`; missing ones are made by `seed`, of
    `fractions`; `memory` is a file as for `sort_out`. Of a student's own folder (`is_own`) files
    that cannot be used, and copies, are left out; in a published set the former are an error.
    Raises `KitError` when it is no such folder, and when a class has too few pictures.
    """
    parts = find_parts(folder)
    tops = parts.tops
    classes = sorted({path.name for top in tops.values() for path in folders_in(top)})
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
    files: dict[str, Pairs] = {}
    if is_own:
        class_folders = [top / name for top in tops.values() for name in classes]
        unusable |= _in_no_class(folder, class_folders)
    for part, top in tops.items():
        of_class = [_pictures_below(top / name, unusable) for name in classes]
        labels = [label for label, paths in enumerate(of_class) for _ in paths]
        files[part] = ([path for paths in of_class for path in paths], labels)
    good: dict[Path, Looked] = {}
    if is_own:
        every = [path for paths, _ in files.values() for path in paths]
        good, damaged = sort_out(every, "checking pictures", memory=memory)
        files = _without(damaged, files)
        copies = _copies(files, folder)
        files = _without(copies, files)
        unusable |= damaged | copies
    left_out = [f"{_shown(path, folder)} ({reason})" for path, reason in sorted(unusable.items())]
    for part, (_, labels) in files.items():
        if absent := sorted(set(range(len(classes))) - set(labels)):
            raise KitError(_no_pictures(tops[part] / classes[absent[0]], unusable, folder))
    if left_out and not is_own:
        raise KitError(f"{folder} is damaged: {left_out[0]}, {len(left_out)} in all")
    return Listing(
        folder.name,
        classes,
        complete_splits(files, seed, classes, fractions),
        folder,
        left_out=tuple(left_out),
        picture_sizes={path: look.size for path, look in good.items()},
        bits=(bits := max((look.bits for look in good.values()), default=0)),
        made_splits=made_splits(files),
        notes=(*parts.notes, *([_shades(bits)] if 0 < bits < 16 else [])),
    )


def _shades(bits: int) -> str:
    """What is done with 16-bit files that do not use all of their range."""
    return f"pictures of 16 bits hold values up to {2**bits - 1:,}: that is taken for white"


def _in_no_class(folder: Path, class_folders: list[Path]) -> dict[Path, str]:
    """The folders with pictures that belong to no class, and single ones, with the reason."""
    counts = Counter(path.parent for path in unused(folder, class_folders) if looks_like_one(path))
    return {
        where: f"{count:,} picture{'s' * (count != 1)} in no class folder of any split"
        for where, count in counts.items()
    }


def _pictures_below(folder: Path, unusable: dict[Path, str]) -> list[Path]:
    """The picture files below a folder; what might be meant as one and is none is `unusable`.

    By their endings, and without a known one by their first bytes: phones and browsers write
    `.jfif`, `.JPG_large`, or no ending at all.
    """
    found = []
    for path in sorted(folder.rglob("*")):  # follows no link to a folder
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(NOT_MEANT) for part in parts):
            continue
        if fault := other_kind(path):
            unusable[path] = fault
        elif path.suffix.lower() in SUFFIXES and not path.is_file():
            unusable[path] = "no regular file, or a link that leads nowhere"
        elif not looks_like_one(path):
            continue
        elif not _is_text(path.name):
            unusable[path] = "its name is no line of text: rename it"
        else:
            found.append(path)
    return found


def _is_text(name: str) -> bool:
    """Whether a name can be written down in a line: systems allow nearly any bytes."""
    return name == name.encode("utf-8", "replace").decode("utf-8") and len(name.splitlines()) == 1


def _shown(path: Path, root: Path) -> str:
    """A path below `root` that can be printed, whatever its name is."""
    name = path.relative_to(root).as_posix().encode("utf-8", "replace").decode("utf-8")
    return " ".join(name.splitlines())


def _without(unusable: Mapping[Path, str], files: Mapping[str, Pairs]) -> dict[str, Pairs]:
    """The same files and labels, but for those that cannot be used."""
    kept: dict[str, Pairs] = {}
    for part, (paths, labels) in files.items():
        places = [index for index, path in enumerate(paths) if path not in unusable]
        kept[part] = ([paths[index] for index in places], [labels[index] for index in places])
    return kept


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
    for (first, first_label), *others in same.values():
        strangers = [path for path, label in others if label != first_label]
        for path, label in [(first, first_label), *others] if strangers else others:
            other = strangers[0] if strangers and label == first_label else first
            text = f"the same picture as {_shown(other, root)}"
            found[path] = text + ", of another class" * bool(strangers)
    return found


def _no_pictures(folder: Path, unusable: Mapping[Path, str], root: Path) -> str:
    """What to say of a class folder without any picture that can be used."""
    inside = sorted(path for path in unusable if path.is_relative_to(folder))
    if not inside:
        return f"class folder {folder} has no pictures ({', '.join(SUFFIXES)})"
    fault = f"{_shown(inside[0], root)}: {unusable[inside[0]]}"
    return f"class folder {folder} has no pictures that can be used ({fault})"


def complete_splits(
    files: Mapping[str, Pairs],
    seed: int,
    class_names: Sequence[str],
    fractions: Mapping[str, float] = FRACTIONS,
) -> dict[str, Pairs]:
    """Divide each part named like "train+val" into its splits, class by class."""
    splits: dict[str, Pairs] = {}
    for part, (paths, labels) in files.items():
        names = part.split("+")
        parts = stratified_split(labels, names, seed, class_names, fractions)
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
    class_names: Sequence[str],
    fractions: Mapping[str, float],
) -> list[list[int]]:
    """Sorted indices for each of `names`, so that each class has the same fraction in every split.

    `seed` decides which sample goes where; every split gets at least one of each class, and
    `KitError` is raised when a class has too few.
    """
    rng, of_label = np.random.default_rng(seed), np.asarray(labels)
    chosen: list[list[int]] = [[] for _ in names]
    total = sum(fractions.get(name, 0) for name in names)
    for label in np.unique(of_label):
        members = rng.permutation(np.flatnonzero(of_label == label))
        if len(members) < len(names):
            raise KitError(
                f"class {class_names[label]!r} has {len(members)} "
                f"picture{'s' * (len(members) != 1)}, too few to have one in each of "
                f"{', '.join(names)}: add pictures, or remove the class"
            )
        # Every split but the first gets its fraction and at least one; the first gets the rest.
        sizes = [max(1, int(len(members) * fractions[name] / total)) for name in names[1:]]
        *others, rest = np.split(members, np.cumsum(sizes, dtype=int))
        for indices, group in zip(chosen, [rest, *others], strict=True):
            indices += group.tolist()
    return [sorted(indices) for indices in chosen]


def picture_ids(paths: Sequence[Path], root: Path) -> list[str]:
    """A name for each picture that is the same on every machine: its path below `root`."""
    return [
        (path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths
    ]
