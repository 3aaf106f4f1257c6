"""Which picture files of a folder can be used: each is decoded once to see it, and it is kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import __version__ as DECODER

from helpers.errors import KitError, WriteError
from helpers.lib.files import read_json, write_text
from helpers.lib.pictures import SIDEWAYS, bits_of, for_each, opened, turn_of


class Looked(NamedTuple):
    """What was found in a picture file that was decoded once, to see whether it can be."""

    size: tuple[int, int]  # (width, height) in pixels, upright
    bits: int  # of its values, where that is more than a byte can hold; else 0


def sort_out(
    paths: Sequence[Path], description: str, *, memory: Path | None = None
) -> tuple[dict[Path, Looked], dict[Path, str]]:
    """What is in the pictures that can be decoded, and of the others what is wrong.

    Each is really decoded: the end of a file says nothing about its middle. `memory` is a file in
    which that is kept, so that a later call decodes only what is new or has changed.
    """
    known = _remembered(memory)
    keys = {path: _key(path) for path in paths}
    new = [path for path in paths if keys[path] not in known]
    looks, faults = for_each(_look, new, description) if new else ([], {})
    for index, (path, look) in enumerate(zip(new, looks, strict=True)):
        known[keys[path]] = faults.get(index) or [*look.size, look.bits]
    if new and memory is not None:
        with contextlib.suppress(WriteError):  # then the next call decodes them again
            write_text(memory, json.dumps({"by": DECODER, "files": known}))
    found = {path: known[keys[path]] for path in paths}
    good = {
        path: Looked((what[0], what[1]), what[2])
        for path, what in found.items()
        if not isinstance(what, str)
    }
    return good, {path: what for path, what in found.items() if isinstance(what, str)}


def _remembered(memory: Path | None) -> dict[str, Any]:
    """What an earlier call has found, by the key of each file; {} when nothing is kept."""
    if memory is None or not memory.is_file():
        return {}
    with contextlib.suppress(KitError, OSError):
        kept = read_json(memory)
        if isinstance(kept, dict) and kept.get("by") == DECODER:
            return dict(kept["files"])
    return {}


def _key(path: Path) -> str:
    """What tells a file from another, and from itself after a change."""
    try:
        status = path.stat()
    except OSError:
        return f"{path}"
    text = str(path.resolve()).encode("utf-8", "surrogatepass").hex()
    return f"{text}\t{status.st_size}\t{status.st_mtime_ns}"


def _look(path: Path) -> Looked:
    """Decode a picture, as small as that can be done, and say what it is."""
    with opened(path) as image:
        turned = turn_of(image) in SIDEWAYS
        size = image.size[::-1] if turned else image.size
        image.draft("RGB", (1, 1))  # a JPEG is read to its end all the same
        image.load()
        return Looked(size, bits_of(image) if image.mode.startswith("I") else 0)
