"""Decoded pictures, kept so that none is decoded twice: in memory, or in a file that is mapped."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from helpers.errors import KitError, WriteError
from helpers.lib.files import written_atomically
from helpers.lib.pictures import decode_each, scaled_size

IN_MEMORY = 200e6  # bytes; a larger split goes to a file, which later notebooks find there
MANY = 10_000  # pictures; so does a split of more, for decoding them takes long, small or not
SPARE_DISK = 1e9  # bytes that such a file must leave free
VERSION = "2"  # of the decoding: with another one, files of the old one are not used


class PictureStore:
    """The decoded pictures of a split: uint8, scaled to a short side, in the order of `paths`.

    Nothing is decoded before the first picture is asked for, or the store is sent to another
    process. A small split is kept in memory. A large one is written once to a file in `folder` and
    mapped: the system keeps in memory what fits, and all notebooks share it. The file's name holds
    a hash of all that decides its content, so changed pictures are decoded anew. Memory is used
    without `folder`, where the disk is too full, and after the file was deleted while in use.

    Args:
        paths: The picture files.
        sizes: (width, height) of each, in pixels.
        short_side: Pixels that the shorter side of each is scaled to.
        name: That of the data set and split.
        folder: Where large splits are kept.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
        *,
        short_side: int,
        name: str = "",
        folder: Path | None = None,
    ) -> None:
        self.paths, self.short_side, self.name, self.folder = list(paths), short_side, name, folder
        self.shapes = [(3, *reversed(scaled_size(size, short_side))) for size in sizes]
        lengths = torch.tensor([0, *(height * width * 3 for _, height, width in self.shapes)])
        self.starts = lengths.cumsum(0).tolist()
        self._pixels: torch.Tensor | None = None  # when they are kept in memory
        self._file: Path | None = None  # when they are kept on disk

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process gets: pictures that are decoded, so that it need not do it."""
        self._all()
        return self.__dict__

    @property
    def num_bytes(self) -> int:
        """What all pictures take."""
        return self.starts[-1]

    def __getitem__(self, index: int) -> torch.Tensor:
        """One picture: uint8 of shape (3, height, width), a view of the store; do not change it."""
        return self._all()[self.starts[index] : self.starts[index + 1]].view(self.shapes[index])

    def _all(self) -> torch.Tensor:
        """The pixels of all pictures in one row, decoded if they are not there yet."""
        if self._pixels is None and (self._file is None or not self._file.is_file()):
            with torch.inference_mode(False):  # the first to ask may be in it, later ones not
                self._load()
        if self._pixels is not None:
            return self._pixels
        # Mapped for one picture, which takes less than a tenth of a millisecond: of a mapping
        # that stays, all that was ever looked at would count as memory of this process.
        return torch.from_file(
            str(self._file), shared=False, size=self.num_bytes, dtype=torch.uint8
        )

    def _load(self) -> None:
        is_small = self.num_bytes <= IN_MEMORY and len(self.paths) <= MANY
        # A file that is gone is not written again: it may be outdated for another process, whose
        # own would be for this one, and each would go on deleting what the other has decoded.
        was_deleted, self._file = self._file is not None, None
        if self.folder is not None and not is_small and not was_deleted:
            self._file = self._decoded_file(self.folder)
        if self._file is None:
            self._pixels = self._decode_into_memory()

    def _decoded_file(self, folder: Path) -> Path | None:
        """The file of the decoded pictures, written if need be; None where that cannot be done."""
        prefix = f"{re.sub('[^a-z0-9]+', '-', self.name.lower())}-{self.short_side}"
        path = folder / f"{prefix}-{self.key()}.pixels"
        if not path.is_file() or path.stat().st_size != self.num_bytes:
            if not _has_space(folder, self.num_bytes + SPARE_DISK):
                return None
            try:
                self._decode_into_file(path)
            except WriteError as error:  # a quota, say: it is not seen before it is reached
                print(f"note: {error}; memory is used instead", file=sys.stderr)
                return None
            _forget([other for other in folder.glob(f"{prefix}-*.pixels") if other != path])
        return path

    def key(self) -> str:
        """A hash of the names, lengths and dates of the files, and of how they are decoded."""
        lines = [f"{VERSION} {self.short_side} {len(self.paths)}"]
        for path in self.paths:
            try:
                status = path.stat()
            except OSError as error:
                raise KitError(
                    f"{path} cannot be read any more ({error.strerror}): put it back, or run the "
                    "notebook again without it"
                ) from None
            lines.append(f"{path.resolve()}\t{status.st_size}\t{status.st_mtime_ns}")
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _decode_into_memory(self) -> torch.Tensor:
        pixels = torch.empty(self.num_bytes, dtype=torch.uint8)

        def put(index: int, picture: torch.Tensor) -> None:
            self._check_shape(index, picture)
            pixels[self.starts[index] : self.starts[index + 1]] = picture.flatten()

        decode_each(self.paths, self.short_side, put, f"decoding {self.name}".strip())
        return pixels

    def _decode_into_file(self, path: Path) -> None:
        lock = Lock()  # several threads decode, one at a time writes
        with written_atomically(path) as temporary, temporary.open("wb") as stream:

            def put(index: int, picture: torch.Tensor) -> None:
                self._check_shape(index, picture)
                with lock:
                    stream.seek(self.starts[index])
                    stream.write(picture.numpy().tobytes())

            decode_each(self.paths, self.short_side, put, f"decoding {self.name}".strip())

    def _check_shape(self, index: int, picture: torch.Tensor) -> None:
        if picture.shape != self.shapes[index]:
            raise KitError(
                f"{self.paths[index]} changed after it was checked: run the notebook again"
            )


def _has_space(folder: Path, num_bytes: float) -> bool:
    """Whether a folder, made if need be, can be written and has so much space left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return shutil.disk_usage(folder).free >= num_bytes
    except OSError:
        return False


def _forget(outdated: Sequence[Path]) -> None:
    """Delete files of pictures that have changed since; one that is in use may stay (Windows)."""
    for path in outdated:
        with contextlib.suppress(OSError):
            path.unlink()
