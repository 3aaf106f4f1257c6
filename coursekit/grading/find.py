"""Which hand-ins are in a folder or zip, however a learning system has packed them."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from coursekit.grading.archive import JUNK, Archive, HandInError, open_archive
from helpers.errors import KitError

DEEPEST = 4  # zips and folders around a hand-in


@dataclass(frozen=True)
class Place:
    """Where a hand-in lies: a path on the disk, then the zips and folders within, outermost first.

    A step that begins with "zip:" is a zip file of the archive so far, "dir:" a folder of it.
    """

    path: Path
    steps: tuple[str, ...] = ()
    name: str = ""  # below the folder of all hand-ins: how a row names it
    fault: str = ""  # why it cannot be read; "" when it can

    @contextlib.contextmanager
    def open(self) -> Iterator[Archive]:
        """Its files; raises `HandInError` when they cannot be read."""
        if self.fault:
            raise HandInError(self.fault)
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(open_archive(self.path))
            for step in self.steps:
                archive = stack.enter_context(_step(archive, step))
            yield archive


def _step(archive: Archive, step: str) -> Archive:
    kind, _, inner = step.partition(":")
    return archive.inner_zip(inner) if kind == "zip" else archive.part(inner)


def content_hash(place: Place) -> str:
    """A hash of the names and bytes that were handed in; raises `HandInError`."""
    digest = hashlib.sha256(place.name.encode("utf-8", "replace"))
    with place.open() as archive:
        for name in sorted(archive.names):
            digest.update(f"\0{name}\0{archive.digest(name)}".encode("utf-8", "replace"))
    return digest.hexdigest()


def find_hand_ins(path: Path, leave_out: Path | None = None) -> list[Place]:
    """Find every hand-in: folders, zips, zips of zips, broken files.

    Args:
        path: a folder or zip of hand-ins, or a single hand-in. Whatever else lies there is a
            hand-in that cannot be read, so that nobody is lost.
        leave_out: the folder for the grades, which may lie in `path`.

    Returns:
        Their places, sorted by name.

    Raises:
        KitError: `path` does not exist or holds nothing.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise KitError(f"no folder or zip {path}: give the place of the hand-ins")
        is_class = path.is_dir() and not _is_one_hand_in(path)
        here = _children(path, leave_out) if is_class else [Place(path.resolve(), name=path.name)]
        places = [place for one in here for place in _at(one)]
    except OSError as error:
        raise KitError(f"cannot read {path}: {error.strerror or error}") from None
    if not places:
        raise KitError(f"{path} holds no hand-in: expected zips or folders, one a student")
    return sorted(places, key=lambda place: place.name)


def _is_one_hand_in(folder: Path) -> bool:
    names = ("manifest.json", "notebooks")
    return any((folder / name).exists() for name in names) or any(folder.glob("*.ipynb"))


def _children(folder: Path, leave_out: Path | None) -> Iterator[Place]:
    """Every file and folder in a folder on the disk is the place of at least one hand-in."""
    for path in sorted(folder.iterdir()):
        hidden = JUNK.search(path.name) or path.name.startswith(".")
        if not hidden and (leave_out is None or path.resolve() != leave_out.resolve()):
            yield Place(path, name=path.name)


def _at(place: Place) -> Iterator[Place]:
    try:
        with place.open() as archive:
            yield from list(_look(archive, place, 0))
    except HandInError as error:
        yield replace(place, fault=str(error))


def _look(archive: Archive, place: Place, depth: int) -> Iterator[Place]:
    """The hand-in that an archive is, or those that it holds."""
    root = _hand_in_root(archive)
    if root is not None:
        yield replace(place, steps=(*place.steps, f"dir:{root}")) if root else place
        return
    steps = _steps_within(archive)
    if not steps or depth >= DEEPEST:
        reason = "no manifest.json and no notebook in it" if archive.names else "it is empty"
        yield replace(place, fault="; ".join([reason, *archive.faults]))
    for step in steps if depth < DEEPEST else ():
        name = posixpath.join(place.name, step.partition(":")[2])
        inner = replace(place, steps=(*place.steps, step), name=name)
        try:
            with _step(archive, step) as part:
                yield from list(_look(part, inner, depth + 1))
        except HandInError as error:
            yield replace(inner, fault=str(error))


def _steps_within(archive: Archive) -> list[str]:
    """The zips and folders of an archive that hand-ins may lie in.

    Beside several of them another file is somebody's hand-in, too, though it cannot be read.
    """
    is_zip = [name for name in archive.names if name.lower().endswith(".zip")]
    if not is_zip and not any(name.endswith(".ipynb") for name in archive.names):
        return []
    folders = sorted({name.split("/")[0] for name in archive.names if "/" in name})
    files = sorted(name for name in archive.names if "/" not in name)
    if len(folders) + len(is_zip) < 2:
        files = [name for name in files if name in is_zip]
    return [f"dir:{name}" for name in folders] + [f"zip:{name}" for name in files]


def _hand_in_root(archive: Archive) -> str | None:
    """The folder of an archive that a single hand-in begins in, "" for the top, None for none.

    A folder with a manifest, with a folder of notebooks, or with loose notebooks is a hand-in.
    """
    names = [posixpath.split(name) for name in archive.names]
    roots = {folder for folder, name in names if name == "manifest.json"}
    if not roots:
        parents = {folder for folder, name in names if name.endswith(".ipynb")}
        roots = {re.sub(r"(^|/)notebooks$", "", parent) for parent in parents}
    if not roots:
        return None
    top = min(roots, key=lambda root: (len(root), root))
    inside = all(not top or root == top or root.startswith(f"{top}/") for root in roots)
    return top if inside else None


def guess_student(name: str) -> str:
    """The id in a name such as "anna_7_submission-s1234567.zip", "" when there is none."""
    name = name[-300:]  # the search takes the square of its length
    found = re.findall(r"submission-([^/]+?)(?:\s*\(\d+\)|-\d)?(?:\.zip)?(?=/|$)", name)
    return found[-1] if found else ""
