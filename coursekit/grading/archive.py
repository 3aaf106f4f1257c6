"""The files of a hand-in, zip or folder, behind limits. Nothing is ever unpacked to the disk."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

MB = 1 << 20
MOST_ENTRIES = 200_000  # of a whole class in one zip
MOST_FILES = 5_000  # in one hand-in; one by `python -m coursekit submit` has about twenty
MOST_BYTES = 2_048 * MB  # of one hand-in, unpacked
MOST_IN_ONE = 512 * MB
MOST_RATIO = 1_100  # unpacked to packed: deflate itself cannot do more than 1,032
IN_MEMORY = 8 * MB  # a zip within a zip goes to a temporary file above that
JUNK = re.compile(
    r"(^|/)(__MACOSX(/|$)|\.ipynb_checkpoints(/|$)|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)",
    re.IGNORECASE,
)
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError,
          NotImplementedError, MemoryError)  # fmt: skip


class HandInError(Exception):
    """A hand-in, or a file of it, cannot be read: the message is for the row in the grade book."""


class Archive(contextlib.ExitStack):
    """The regular files of a zip or folder by name, with "/" between folders.

    `names` gives each file's size in bytes. `faults` says what was left out and why. As a context
    manager it gives back what it holds open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, int] = {}
        self.faults: list[str] = []
        self.open: Callable[[str], IO[bytes]]

    def blocks(self, name: str, limit: int) -> Iterator[bytes]:
        """A file piece by piece; raises `HandInError` when it is damaged or over `limit` bytes."""
        seen = 0
        try:
            with self.open(name) as stream:
                while block := stream.read(MB):
                    seen += len(block)
                    if seen > limit:
                        size = f"{limit / MB:.0f} MB"
                        raise HandInError(f"{name} is larger than {size}: not read")
                    yield block
        except DAMAGE as error:
            raise HandInError(f"{name} cannot be read ({_reason(error)})") from None

    def read(self, name: str, limit: int) -> bytes:
        """A whole file; raises `HandInError` as `blocks` does."""
        return b"".join(self.blocks(name, limit))

    def digest(self, name: str) -> str:
        """The SHA-256 of a file, as 64 hexadecimal digits; raises `HandInError`."""
        digest = hashlib.sha256()
        for block in self.blocks(name, MOST_IN_ONE):
            digest.update(block)
        return digest.hexdigest()

    def check_size(self) -> None:
        """Raise `HandInError` when this holds more than the hand-in of one student may."""
        if len(self.names) > MOST_FILES:
            raise HandInError(f"it holds {len(self.names):,} files: not read")
        total = sum(self.names.values())
        if total > MOST_BYTES:
            raise HandInError(f"it unpacks to {total / MB:,.0f} MB: not read (a zip bomb?)")

    def add(self, name: str, size: int, verb: str) -> bool:
        """Whether a file is taken: it is neither an editor's nor too large."""
        if JUNK.search(name):
            return False
        if size > MOST_IN_ONE:
            self.faults.append(f"{name} {verb} {size / MB:,.0f} MB: not read")
            return False
        self.names[name] = size
        return True

    def part(self, folder: str) -> Archive:
        """The files below one folder, by their names from there."""
        part, prefix = Archive(), f"{folder}/"
        part.faults = self.faults
        part.open = lambda name: self.open(prefix + name)
        part.names = {
            name.removeprefix(prefix): size
            for name, size in self.names.items()
            if name.startswith(prefix)
        }
        return part

    def inner_zip(self, name: str) -> Archive:
        """A zip file that lies in this archive; raises `HandInError`."""
        with contextlib.ExitStack() as stack:
            copy = stack.enter_context(_Spooled(max_size=IN_MEMORY))
            for block in self.blocks(name, MOST_IN_ONE):
                copy.write(block)
            size = copy.tell()
            copy.seek(0)
            archive = _zip_archive(copy, size)
            archive.push(stack.pop_all())
        return archive


class _Spooled(tempfile.SpooledTemporaryFile):
    """A temporary file as zipfile needs it: before Python 3.11 it lacked a method."""

    def seekable(self) -> bool:
        """It always is."""
        return True


def open_archive(path: Path) -> Archive:
    """A hand-in on the disk; raises `HandInError` when it is neither a folder nor a zip."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise HandInError("it is a symbolic link: not followed")
        if stat.S_ISDIR(mode):
            return _folder_archive(path)
        if not stat.S_ISREG(mode):
            raise HandInError("it is neither a file nor a folder")
        if not (size := path.stat().st_size):
            raise HandInError("the file is empty")
        return _zip_archive(path, size)
    except OSError as error:
        raise HandInError(f"it cannot be read ({_reason(error)})") from None


def _folder_archive(folder: Path) -> Archive:
    """A folder on the disk. Links are never followed, and only regular files are opened."""
    archive = Archive()
    archive.open = lambda name: (folder / name).open("rb")
    for path in _walk(folder, archive.faults):
        archive.add(path.relative_to(folder).as_posix(), path.lstat().st_size, "has")
    return archive


def _walk(folder: Path, faults: list[str]) -> Iterator[Path]:
    """The regular files below a folder, sorted; what is something else is named in `faults`."""
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        faults.append(f"the folder {folder.name} cannot be read ({_reason(error)})")
        return
    for path in children:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            faults.append(f"{path.name} is a symbolic link: not followed")
        elif stat.S_ISDIR(mode):
            yield from _walk(path, faults)
        elif stat.S_ISREG(mode):
            yield path
        else:
            faults.append(f"{path.name} is no regular file: not read")


def _zip_archive(source: Path | IO[bytes], packed_size: int) -> Archive:
    """A zip file, read in place.

    Raises `HandInError` when it is no zip, is locked by a password, or would unpack to more than
    the limits allow.
    """
    with contextlib.ExitStack() as stack:
        try:
            packed = stack.enter_context(zipfile.ZipFile(source))
        except DAMAGE as error:
            raise HandInError(f"it is not a zip file that can be read ({_reason(error)})") from None
        _check_zip(packed.infolist(), packed_size)
        archive = Archive()
        entries: dict[str, zipfile.ZipInfo] = {}
        archive.open = lambda name: packed.open(entries[name])
        for entry in packed.infolist():
            _take(archive, entries, entry)
        archive.push(stack.pop_all())
    return archive


def _check_zip(entries: list[zipfile.ZipInfo], packed_size: int) -> None:
    """Raise `HandInError` when a zip promises more than it can hold."""
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_ENTRIES:
        raise HandInError(f"it holds {len(entries):,} entries: not read")
    if total > MOST_RATIO * packed_size:
        raise HandInError(f"it would unpack to {total / MB:,.0f} MB: not read (a zip bomb?)")
    if sum(entry.compress_size for entry in entries) > packed_size:  # the best known bomb
        raise HandInError("its entries overlap: not read (a zip bomb?)")


def _take(archive: Archive, entries: dict[str, zipfile.ZipInfo], entry: zipfile.ZipInfo) -> None:
    """Add an entry when it is a regular file inside the archive, else say what it is."""
    name = entry.filename.replace("\\", "/")
    if name.endswith("/") or JUNK.search(name):
        return
    if entry.flag_bits & 1:
        raise HandInError("it is locked by a password")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        archive.faults.append(f"the entry {name!r} points out of the hand-in: not read")
    elif kind not in (0, stat.S_IFREG):
        what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
        archive.faults.append(f"the entry {name!r} is {what}: not read")
    else:
        name = posixpath.normpath(name)
        if name in archive.names:
            archive.faults.append(f"it holds {name!r} more than once: the last one counts")
        if archive.add(name, entry.file_size, "unpacks to"):
            entries[name] = entry


def _reason(error: Any) -> str:
    """An error in few words, without the path that an OSError brings."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
