"""Picture files: checked before they are needed, decoded once, as many at a time as there are
processor threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .errors import KitError
from .progress import track

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
JPEG_END = b"\xff\xd9"


def decode(path: Path, short_side: int) -> torch.Tensor:
    """Read a picture as uint8 of shape (3, height, width), scaled to `short_side` pixels."""
    with Image.open(path) as image:
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which costs that much less.
        wanted = scaled_size(image.size, short_side)
        image.draft("RGB", wanted)
        if image.mode.startswith("I"):  # 16 bits: Pillow would cut every value off at 255
            image = Image.fromarray(np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8))
        pixels = np.array(image.convert("RGB").resize(wanted, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(width, height) after scaling so that the shorter of the two becomes `short_side`."""
    scale = short_side / min(size)
    width, height = (max(short_side, round(side * scale)) for side in size)
    return width, height


def decode_each(
    paths: Sequence[Path],
    short_side: int,
    put: Callable[[int, torch.Tensor], None],
    description: str,
) -> None:
    """Decode every picture and hand it to `put` with its index; threads call `put`, in any order.

    Raises `KitError` that names each picture that cannot be read.
    """
    _for_each(lambda index, path: put(index, decode(path, short_side)), paths, description)


def check_all(paths: Sequence[Path], description: str) -> list[tuple[int, int]]:
    """(width, height) of every picture; raises `KitError` that names each damaged one.

    Reads the header and, of a JPEG, the end: a picture cut short is found now and not in the
    middle of a training run.
    """
    return _for_each(lambda index, path: _check(path), paths, description)


def _check(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        size = image.size
        if image.format == "JPEG" and not _jpeg_is_ended(path):
            image.load()
    return size


def _jpeg_is_ended(path: Path) -> bool:
    """Whether the end mark is near the end; some cameras append a few bytes after it."""
    with path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - 1024))
        return JPEG_END in stream.read()


def _for_each(work: Callable[[int, Path], object], paths: Sequence[Path], description: str) -> list:
    faults: list[str] = []

    def attempt(index: int, path: Path) -> object:
        try:
            return work(index, path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            faults.append(f"{path.name} ({error})")
            return None

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        done = list(track(pool.map(attempt, range(len(paths)), paths), description, len(paths)))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise KitError(
            f"{len(faults)} of {len(paths)} pictures in {paths[0].parent} cannot be read: "
            f"{', '.join(sorted(faults)[:3])}{more}. Delete and download them again"
        )
    return done
