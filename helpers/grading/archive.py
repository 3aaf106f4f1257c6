"""The files of a hand-in, zip or folder, behind limits. Nothing is ever unpacked to the disk."""

from __future__ import annotations

import hashlib
import posixpath
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MB = 1 << 20
MOST_ENTRIES = 200_000  # of a whole class in one zip
MOST_FILES = 5_000  # in one hand-in; the kit's own have about twenty
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


class Archive:
    """The regular files of a zip or folder by name, with "/" between folders.

    `names` gives each file's size in bytes. `faults` says what was left out and why. Use it as a
    context manager.
    """

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.faults: list[str] = []

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held open."""

    def open(self, name: str) -> IO[bytes]:
        """One of `names`, to be read from its beginning."""
        raise NotImplementedError

    def read(self, name: str, limit: int) -> bytes:
        """A whole file; raises `HandInError` when it is damaged or larger than `limit` bytes."""
        with self.reading(name, limit) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise HandInError(f"{name} is larger than {limit / MB:.0f} MB: not read")
        return data

    def reading(self, name: str, limit: int) -> Reading:
        """A file to be read piece by piece; every fault in it is raised as `HandInError`."""
        return Reading(self, name, limit)

    def digest(self, name: str) -> str:
        """The SHA-256 of a file, as 64 hexadecimal digits; raises `HandInError`."""
        digest = hashlib.sha256()
        with self.reading(name, MOST_IN_ONE) as stream:
            while block := stream.read(MB):
                digest.update(block)
        return digest.hexdigest()

    def check_size(self) -> None:
        """Raise `HandInError` when this holds more than the hand-in of one student may."""
        if len(self.names) > MOST_FILES:
            raise HandInError(f"it holds {len(self.names):,} files: not read")
        total = sum(self.names.values())
        if total > MOST_BYTES:
            raise HandInError(f"it unpacks to {total / MB:,.0f} MB: not read (a zip bomb?)")


class Reading:
    """An open file of an archive that never gives more than its limit, nor an unknown error."""

    def __init__(self, archive: Archive, name: str, limit: int) -> None:
        self.archive, self.name, self.limit, self.seen = archive, name, limit, 0

    def __enter__(self) -> Reading:
        try:
            self.stream = self.archive.open(self.name)
        except DAMAGE as error:
            raise HandInError(f"{self.name} cannot be opened ({_reason(error)})") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end; raises `HandInError` when there are too many."""
        try:
            block = self.stream.read(size)
        except DAMAGE as error:
            raise HandInError(f"{self.name} cannot be read ({_reason(error)})") from None
        self.seen += len(block)
        if self.seen > self.limit + 1:
            raise HandInError(f"{self.name} is larger than {self.limit / MB:.0f} MB: not read")
        return block


class FolderArchive(Archive):
    """A folder on the disk. Links are never followed, and only regular files are opened."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for path in _walk(folder, self.faults):
            name = path.relative_to(folder).as_posix()
            if JUNK.search(name):
                continue
            size = path.lstat().st_size
            if size > MOST_IN_ONE:
                self.faults.append(f"{name} has {size / MB:,.0f} MB: not read")
                continue
            self.names[name] = size

    def open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("rb")


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


class ZipArchive(Archive):
    """A zip file, or a zip file within one, read in place.

    Raises `HandInError` when it is no zip, is locked by a password, or would unpack to more than
    the limits allow.
    """

    def __init__(self, source: Path | IO[bytes], packed_size: int) -> None:
        super().__init__()
        try:
            self.zip = zipfile.ZipFile(source)
        except DAMAGE as error:
            raise HandInError(f"it is not a zip file that can be read ({_reason(error)})") from None
        try:
            self._list(packed_size)
        except BaseException:
            self.close()
            raise

    def _list(self, packed_size: int) -> None:
        entries = self.zip.infolist()
        total = sum(entry.file_size for entry in entries)
        packed = sum(entry.compress_size for entry in entries)
        if len(entries) > MOST_ENTRIES:
            raise HandInError(f"it holds {len(entries):,} entries: not read")
        if total > MOST_RATIO * packed_size:
            raise HandInError(f"it would unpack to {total / MB:,.0f} MB: not read (a zip bomb?)")
        if packed > packed_size:  # entries that share their bytes: the best known bomb
            raise HandInError("its entries overlap: not read (a zip bomb?)")
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            self._take(entry)

    def _take(self, entry: zipfile.ZipInfo) -> None:
        """Add an entry when it is a regular file inside the archive, else say what it is."""
        name = entry.filename.replace("\\", "/")
        if name.endswith("/") or JUNK.search(name):
            return
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.flag_bits & 1:
            raise HandInError("it is locked by a password")
        if is_outside(name):
            self.faults.append(f"the entry {name!r} points out of the hand-in: not read")
        elif kind not in (0, stat.S_IFREG):
            what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
            self.faults.append(f"the entry {name!r} is {what}: not read")
        elif entry.file_size > MOST_IN_ONE:
            self.faults.append(f"{name} unpacks to {entry.file_size / MB:,.0f} MB: not read")
        else:
            name = posixpath.normpath(name)
            if name in self.names:
                self.faults.append(f"it holds {name!r} more than once: the last one counts")
            self.entries[name] = entry
            self.names[name] = entry.file_size

    def open(self, name: str) -> IO[bytes]:
        return self.zip.open(self.entries[name])

    def close(self) -> None:
        self.zip.close()


def is_outside(name: str) -> bool:
    """Whether the name of an entry leads out of the folder that it would be unpacked to."""
    return name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/")


class _Spooled(tempfile.SpooledTemporaryFile):
    """A temporary file as zipfile needs it: before Python 3.11 it lacked a method."""

    def seekable(self) -> bool:
        """It always is."""
        return True


class InnerZip(ZipArchive):
    """A zip file that lies in another archive."""

    def __init__(self, outer: Archive, name: str) -> None:
        self.copy = _Spooled(max_size=IN_MEMORY)
        try:
            with outer.reading(name, MOST_IN_ONE) as stream:
                while block := stream.read(MB):
                    self.copy.write(block)
            size = self.copy.tell()
            self.copy.seek(0)
            super().__init__(self.copy, size)
        except BaseException:
            self.copy.close()
            raise

    def close(self) -> None:
        super().close()
        self.copy.close()


class Part(Archive):
    """The files below one folder of another archive, by their names from there."""

    def __init__(self, whole: Archive, folder: str) -> None:
        super().__init__()
        self.whole, self.prefix = whole, f"{folder}/"
        self.faults = whole.faults
        self.names = {
            name.removeprefix(self.prefix): size
            for name, size in whole.names.items()
            if name.startswith(self.prefix)
        }

    def open(self, name: str) -> IO[bytes]:
        return self.whole.open(self.prefix + name)


def open_archive(path: Path) -> Archive:
    """A hand-in on the disk; raises `HandInError` when it is neither a folder nor a zip."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise HandInError("it is a symbolic link: not followed")
        if stat.S_ISDIR(mode):
            return FolderArchive(path)
        if not stat.S_ISREG(mode):
            raise HandInError("it is neither a file nor a folder")
        size = path.stat().st_size
        if size == 0:
            raise HandInError("the file is empty")
        return ZipArchive(path, size)
    except OSError as error:
        raise HandInError(f"it cannot be read ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    """An error in few words, without the path that an OSError brings."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
