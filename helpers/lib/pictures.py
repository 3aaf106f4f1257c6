"""Picture files: checked before they are needed, decoded once, as many at a time as there are
processor threads."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from helpers.errors import KitError
from helpers.lib.progress import track

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
# Pictures, too, but of kinds that are not read on every machine.
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".nef",
                  ".arw")  # fmt: skip
# The first bytes of each kind that is read, for files whose ending says nothing.
FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
# As Pillow calls them, whatever the file is called; of its other readers some start programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
LONGEST_SHAPE = 20  # times as long as wide; decoded, a longer one would fill the memory
JPEG_END = b"\xff\xd9"
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners give a 16-bit file
HINT = "Repair or delete them, or fetch them again"

_T = Image.Transpose
# By the number that EXIF has for how a camera was held: what makes its picture upright.
TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE,
         6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}  # fmt: skip
SIDEWAYS = (_T.TRANSPOSE, _T.ROTATE_270, _T.TRANSVERSE, _T.ROTATE_90)  # these swap the sides


def looks_like_one(path: Path) -> bool:
    """Whether a file is meant as a picture that is read: by its ending, else by its first bytes."""
    kind = path.suffix.lower()
    if kind in SUFFIXES:
        return True
    if kind in OTHER_SUFFIXES or not path.is_file():
        return False
    first = _first_bytes(path)
    return first.startswith(FIRST_BYTES) or (first[:4], first[8:]) == (b"RIFF", b"WEBP")


def other_kind(path: Path) -> str:
    """What to do about a picture of a kind that is not read on every machine; "" for all others."""
    kind = path.suffix.lower()
    if kind not in OTHER_SUFFIXES and not (kind not in SUFFIXES and _is_heic(path)):
        return ""
    if kind in (".heic", ".heif") or kind not in OTHER_SUFFIXES:
        return "HEIC is not read: save it as JPEG (a phone's setting: Most Compatible)"
    return f"{kind} is not read: save it as JPEG or PNG"


def _is_heic(path: Path) -> bool:
    return path.is_file() and _first_bytes(path)[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1")


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(12)
    except OSError:  # it may not be read: it is named where it is opened
        return b""


def decode(path: Path, short_side: int, *, bits: int = 0) -> torch.Tensor:
    """Read a picture as uint8 of shape (3, height, width), scaled to `short_side` pixels.

    Upright, as its EXIF data say; white where transparent; of an animation the first picture. A
    picture of more than 8 bits is scaled from `bits`; 0: from as many as its own values need.
    """
    with opened(path) as image:
        turn = turn_of(image)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which costs that much less.
        wanted = scaled_size(image.size, short_side)
        image.draft("RGB", wanted)
        image = _as_rgb(image, bits).resize(wanted, Image.Resampling.BILINEAR)
        pixels = np.array(image if turn is None else image.transpose(turn))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_picture(path: Path, short_side: int) -> torch.Tensor:
    """A single picture of somebody's own, as `decode` gives it; raises `KitError` that says why it
    cannot be read."""
    hint = "save it as a JPEG or PNG, or name another file"
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise KitError(f"{path.name} is of a kind that is not read on every machine: {hint}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # of what can be used all the same
            return decode(path, short_side)
    except FileNotFoundError:
        raise KitError(f"there is no file {path}: is its name whole, with its ending?") from None
    except Exception as error:  # a damaged picture can fail in dozens of ways
        raise KitError(f"{path.name} cannot be read ({_reason(error)}): {hint}") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture of a kind and shape that can be used; raises `ValueError` for another."""
    with Image.open(path, formats=FORMATS) as image:
        if image.format == "TIFF":
            # Pillow turns this kind upright itself; older versions know its size only then.
            image.load()
        width, height = image.size
        if not 0 < max(image.size) <= LONGEST_SHAPE * min(image.size):
            raise ValueError(f"{width:,} x {height:,} pixels, too long and narrow to be a picture")
        if image.mode in ("F", "LAB"):
            raise ValueError(f"its pixels are of the kind {image.mode!r}: save it as JPEG or PNG")
        yield image


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How to turn a picture that was taken with the camera held otherwise."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # damaged EXIF data do not spoil the picture
        exif.load(image.info.get("exif", b""))
        return TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    return None


def _as_rgb(image: Image.Image, bits: int = 0) -> Image.Image:
    """A picture as RGB: 16 bits cut down to 8, and white where it is transparent."""
    if image.mode.startswith("I"):  # 16 bits: Pillow would cut every value off at 255
        largest = 2 ** (bits or bits_of(image)) - 1
        shades = np.asarray(image).astype(np.int64) * 255 // largest
        image = Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def bits_of(image: Image.Image) -> int:
    """How many bits the values of a 16-bit picture need: many such files hold 8, 10 or 12 only."""
    largest = int(np.asarray(image).max(initial=0))
    return next(bits for bits in (*BITS, 32) if largest < 2**bits)


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
    *,
    bits: int = 0,
) -> None:
    """Decode every picture and hand it to `put` with its index; threads do, in any order."""
    _, faults = for_each(lambda path: decode(path, short_side, bits=bits), paths, description, put)
    _refuse(faults, paths, HINT)


def check_all(
    paths: Sequence[Path], description: str, *, hint: str = HINT
) -> list[tuple[int, int]]:
    """(width, height) of every picture; raises `KitError` that names each damaged one.

    Reads the header and, of a JPEG, the end, where one that is cut short has no mark.
    """
    sizes, faults = for_each(_size, paths, description)
    _refuse(faults, paths, hint)
    return sizes


def _size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture, from its header, and from its end if it is a JPEG."""
    with opened(path) as image:
        size = image.size[::-1] if turn_of(image) in SIDEWAYS else image.size
        if image.format in ("JPEG", "MPO"):
            with path.open("rb") as stream:  # some cameras append a few bytes after the end mark
                stream.seek(max(0, path.stat().st_size - 1024))
                is_ended = JPEG_END in stream.read()
            if not is_ended:
                image.load()
    return size


def for_each(
    read: Callable[[Path], Any],
    paths: Sequence[Path],
    description: str,
    put: Callable[[int, Any], None] | None = None,
) -> tuple[list[Any], dict[int, str]]:
    """What `read` gives for each path, or `put` takes, and by index what kept it from that."""
    faults: dict[int, str] = {}

    def attempt(index: int, path: Path) -> Any:
        try:
            value = read(path)
        except Exception as error:  # a damaged picture can fail in dozens of ways
            faults[index] = _reason(error)
            return None
        return value if put is None else put(index, value)

    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        # What Pillow only warns of, large pictures and damaged EXIF data, is used all the same.
        warnings.filterwarnings("ignore", module="PIL")
        values = pool.map(attempt, range(len(paths)), paths)
        return list(track(values, description, len(paths))), faults


def _reason(error: Exception) -> str:
    """An error in few words, without the path that some bring."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture that can be read, or empty"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"more than {most} million pixels: save it smaller"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refuse(faults: Mapping[int, str], paths: Sequence[Path], hint: str) -> None:
    """Raise `KitError` that names the first of the pictures that cannot be read, if any."""
    if faults:
        root = Path(os.path.commonpath([path.parent for path in paths]))
        named = [
            f"{paths[index].relative_to(root).as_posix()} ({fault})"
            for index, fault in sorted(faults.items())
        ]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise KitError(
            f"{len(named)} of {len(paths)} pictures in {root} cannot be read: "
            f"{', '.join(named[:3])}{more}. {hint}"
        )
