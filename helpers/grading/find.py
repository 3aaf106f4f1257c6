"""Which hand-ins are in a folder or zip, however a learning system has packed them."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..kit.errors import KitError
from ..kit.files import sha256
from .archive import JUNK, Archive, HandInError, InnerZip, Part, open_archive

DEEPEST = 4  # zips and folders around a hand-in
NOTHING = "no manifest.json and no notebook in it"


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

    def below(self, step: str) -> Place:
        """The place one step further in."""
        name = posixpath.join(self.name, step.partition(":")[2])
        return Place(self.path, (*self.steps, step), name)

    def with_fault(self, fault: str) -> Place:
        """The same place, which cannot be read."""
        return Place(self.path, self.steps, self.name, fault)


def _step(archive: Archive, step: str) -> Archive:
    kind, _, inner = step.partition(":")
    return InnerZip(archive, inner) if kind == "zip" else Part(archive, inner)


def content_hash(place: Place) -> str:
    """A hash of all that was handed in; of a single file without unpacking it."""
    digest = hashlib.sha256(place.name.encode("utf-8", "replace"))
    digest.update(place.fault.encode("utf-8", "replace"))
    if place.fault:
        return digest.hexdigest()
    if not place.steps and place.path.is_file():
        digest.update(sha256(place.path).encode())
        return digest.hexdigest()
    with place.open() as archive:
        for name in sorted(archive.names):
            digest.update(f"{name}\0".encode("utf-8", "replace"))
            digest.update(archive.digest(name).encode())
    return digest.hexdigest()


def find_hand_ins(path: Path, leave_out: Path | None = None) -> list[Place]:
    """Every hand-in below `path`, sorted by name: folders, zips, zips of zips, broken files.

    `leave_out` is the folder for the grades, which may lie in `path`. Whatever else lies there
    is a hand-in that cannot be read, so that nobody is lost. Raises `KitError` when `path` does
    not exist or holds nothing.
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
        yield place.with_fault(str(error))


def _look(archive: Archive, place: Place, depth: int) -> Iterator[Place]:
    """The hand-in that an archive is, or those that it holds."""
    root = hand_in_root(archive)
    if root is not None:
        inner = place.below(f"dir:{root}") if root else place
        yield Place(inner.path, inner.steps, place.name)
        return
    steps = _steps_within(archive)
    if not steps or depth >= DEEPEST:
        reason = NOTHING if archive.names else "it is empty"
        yield place.with_fault("; ".join([reason, *archive.faults]))
        return
    for step in steps:
        inner = place.below(step)
        try:
            with _step(archive, step) as part:
                yield from list(_look(part, inner, depth + 1))
        except HandInError as error:
            yield inner.with_fault(str(error))


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


def hand_in_root(archive: Archive) -> str | None:
    """The folder of an archive that a single hand-in begins in, "" for the top, None for none.

    A folder with a manifest, with a folder of notebooks, or with loose notebooks is a hand-in.
    """
    roots = {
        posixpath.dirname(name)
        for name in archive.names
        if posixpath.basename(name) == "manifest.json"
    }
    if not roots:
        parents = {posixpath.dirname(name) for name in archive.names if name.endswith(".ipynb")}
        roots = {re.sub(r"(^|/)notebooks$", "", parent) for parent in parents}
    if not roots:
        return None
    top = min(roots, key=lambda root: (len(root), root))
    inside = all(not top or root == top or root.startswith(f"{top}/") for root in roots)
    return top if inside else None


def guess_student(name: str) -> str | None:
    """The id in a name such as "anna_7_submission-s1234567.zip", None when there is none."""
    name = name[-300:]  # the search takes the square of its length
    found = re.findall(r"submission-([^/]+?)(?:\s*\(\d+\)|-\d)?(?:\.zip)?(?=/|$)", name)
    return found[-1] if found else None
