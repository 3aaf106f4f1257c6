"""Which folder is which split, whatever people call it: `Train/`, `validation/`, `seg_test/` ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import KitError

NAMES = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "validate", "valset", "dev"),
    "test": ("test", "testing", "testset"),
}
EITHER = ("eval", "evaluation", "holdout")  # test beside a val, val beside a test
NOT_MEANT = (".", "__MACOSX", "@eaDir")  # what systems add: macOS, and Synology's thumbnails
DEEPEST = 4  # folders that may hold nothing but another one, as unzipping makes them


@dataclass(frozen=True)
class Parts:
    """The folders of a data set that hold its class folders, and what was decided about them."""

    root: Path  # that holds them
    tops: dict[str, Path]  # by the splits that they become, such as "train+val"
    notes: tuple[str, ...] = ()  # a line for each decision


def find_parts(folder: Path) -> Parts:
    """The folders that hold the class folders of each split; the folder itself when it has none.

    Splits are known by their names in any case, and by what is in them: class folders, while a
    class folder holds pictures. A missing val comes out of train, a missing test out of val, and
    all three out of a folder without splits, or with train alone.

    Raises:
        KitError: when it cannot be told which folder is meant.
    """
    root = entered(folder)
    notes = [] if root == folder else [f"{_below(root, folder)}/ is what {folder.name}/ holds"]
    found = _by_split(root)
    if not found:
        classes = [path.name for path in folders_in(root)]
        if len(classes) > 1 and all(map(_role, classes)):
            raise KitError(
                f"{' and '.join(f'{name}/' for name in classes)} in {root} hold pictures and no "
                "class folders: put the pictures of each class into a folder inside them, or, if "
                "these are your classes, call them otherwise"
            )
        return Parts(root, {"train+val+test": root}, tuple(notes))
    if "train" not in found:
        names = ", ".join(f"{path.name}/" for path in found.values())
        raise KitError(
            f"{folder} has {names} but no train/: add it, or rename the folders of the splits to "
            "train, val and test"
        )
    tops = {split: entered(path) for split, path in found.items()}
    notes += [
        f"{_below(top, folder)}/ is taken for {split}"
        for split, top in tops.items()
        if _below(top, root) != split
    ]
    for there, missing, meant in (
        ("train", ("val", "test"), "train+val+test"),
        ("train", ("val",), "train+val"),
        ("val", ("test",), "val+test"),
    ):
        if there in tops and not any(split in tops for split in missing):
            what = _below(tops[there], folder)
            notes.append(f"{' and '.join(missing)} missing: {what}/ is divided by class and seed")
            tops = {meant if split == there else split: top for split, top in tops.items()}
    return Parts(root, tops, tuple(notes))


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without those that systems add."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(NOT_MEANT))


def entered(folder: Path) -> Path:
    """The first folder below that holds more than one other folder: unzipping may nest them."""
    for _ in range(DEEPEST):
        inside = folders_in(folder)
        if len(inside) != 1 or not folders_in(inside[0]):
            return folder
        folder = inside[0]
    return folder


def _by_split(root: Path) -> dict[str, Path]:
    """The folders of the splits, in the order train, val, test; {} when there is none."""
    called: dict[str, list[Path]] = {}
    for path in folders_in(root):
        if (role := _role(path.name)) and folders_in(path):
            called.setdefault(role, []).append(path)
    if "either" in called and ("val" in called) != ("test" in called):
        called["test" if "val" in called else "val"] = called.pop("either")
    for role, paths in called.items():
        if role == "either":
            raise KitError(
                f"{paths[0]} may be val or test: rename it to the one that it is, and, if there is "
                "another folder like it, that one to the other"
            )
        if len(paths) > 1:
            names = " and ".join(f"{path.name}/" for path in paths)
            raise KitError(
                f"{root} has {names}, which all look like {role}: put their pictures into one, or "
                "rename what is not to be used"
            )
    return {role: called[role][0] for role in NAMES if role in called}


def _role(name: str) -> str:
    """The split that a folder's name speaks of: "train", "val", "test", "either" or ""."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    roles = [role for role, names in (*NAMES.items(), ("either", EITHER)) if words & set(names)]
    return roles[0] if len(roles) == 1 else ""


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def unused(root: Path, used: list[Path]) -> Iterator[Path]:
    """The files below `root` that are in none of the `used` folders, nor in what systems add."""
    for path in sorted(root.iterdir()):
        if path.name.startswith(NOT_MEANT) or path in used:
            continue
        if not path.is_dir():
            yield path
        elif not path.is_symlink():
            yield from unused(path, used)
