"""Decoded pictures, kept so that none is decoded twice: in memory, or in a file that is mapped."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
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
    `sizes` are the (width, height) of each picture file, in pixels, `bits` as for `decode`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
        *,
        short_side: int,
        name: str = "",
        folder: Path | None = None,
        bits: int = 0,
    ) -> None:
        self.paths, self.short_side, self.name, self.folder = list(paths), short_side, name, folder
        self.bits = bits
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
            try:
                self._file = self._decoded_file(self.folder)
            except (OSError, WriteError) as error:  # no space, say, or a folder to read only
                print(f"note: {error}; memory is used instead", file=sys.stderr)
        if self._file is None:
            pixels = torch.empty(self.num_bytes, dtype=torch.uint8)

            def put(start: int, picture: torch.Tensor) -> None:
                pixels[start : start + picture.numel()] = picture.flatten()

            self._decode(put)
            self._pixels = pixels

    def _decoded_file(self, folder: Path) -> Path:
        """The file of the decoded pictures, written if need be."""
        prefix = f"{re.sub('[^a-z0-9]+', '-', self.name.lower())}-{self.short_side}"
        path = folder / f"{prefix}-{self.key()}.pixels"
        if path.is_file() and path.stat().st_size == self.num_bytes:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < self.num_bytes + SPARE_DISK:
            raise WriteError(f"{folder} has too little space for decoded pictures")
        lock = Lock()  # several threads decode, one at a time writes
        with written_atomically(path) as temporary, temporary.open("wb") as stream:

            def put(start: int, picture: torch.Tensor) -> None:
                with lock:
                    stream.seek(start)
                    stream.write(picture.numpy().tobytes())

            self._decode(put)
        for other in folder.glob(f"{prefix}-*.pixels"):  # of pictures that have changed since
            if other != path:
                with contextlib.suppress(OSError):  # one that is in use may stay (Windows)
                    other.unlink()
        return path

    def _decode(self, put: Callable[[int, torch.Tensor], None]) -> None:
        """Decode every picture, and hand each to `put` with the place of its first byte."""

        def check_and_put(index: int, picture: torch.Tensor) -> None:
            if picture.shape != self.shapes[index]:
                raise KitError(
                    f"{self.paths[index]} changed after it was checked: run the notebook again"
                )
            put(self.starts[index], picture)

        description = f"decoding {self.name}".strip()
        decode_each(self.paths, self.short_side, check_and_put, description, bits=self.bits)

    def key(self) -> str:
        """A hash of the names, lengths and dates of the files, and of how they are decoded."""
        lines = [f"{VERSION} {self.short_side} {self.bits} {len(self.paths)}"]
        for path in self.paths:
            status = path.stat()
            lines.append(f"{path.resolve()}\t{status.st_size}\t{status.st_mtime_ns}")
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]
