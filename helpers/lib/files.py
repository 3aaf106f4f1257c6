"""Files that are never half-written: write beside the target, then rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from helpers.errors import KitError, WriteError

DISK_ERRORS = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "ENOENT", "EISDIR")
} - {None}
TORCH_WRITER = ("inline_container", "PytorchStreamWriter", "iostream error")


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block ends well.

    When the block raises, the temporary file is removed and an earlier `path` stays as it was.
    Raises `WriteError` when the file cannot be written (disk full, folder not writable).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; a result is to be read by whoever reads its folder.
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # A network's errors are OSErrors too, and torch tells of a full disk by a RuntimeError.
        by_torch = any(word in str(error) for word in TORCH_WRITER)
        if not by_torch and getattr(error, "errno", None) not in DISK_ERRORS:
            raise
        reason = getattr(error, "strerror", None) or "torch could not write all of it"
        raise WriteError(
            f"cannot write {path}: {reason}; the earlier file, if any, is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise `WriteError` unless files can be written to a folder, or to where it will be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise WriteError(
            f"results cannot be written to {folder} ({error.strerror or error}): allow it, or set "
            "KIT_RESULTS to a folder that can be written"
        ) from None


def save_tensors(content: Any, path: Path) -> None:
    """Write as `torch.save` does, and raise `OSError` when the end is lost on a full disk."""
    import torch

    torch.save(content, path)
    if not zipfile.is_zipfile(path):  # what makes it one stands at its end
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically; NaN and infinity are refused."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """`value` as indented JSON; raises `KitError` when a number in it is NaN or infinite."""
    try:
        return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except ValueError:
        raise KitError(
            "nothing was written, because a number in it is NaN or infinite. Did the loss "
            "diverge? Run again with a lower learning rate"
        ) from None


def read_json(path: Path) -> Any:
    """Read JSON from `path`; raises `KitError` naming the file when it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise KitError(
            f"cannot read {path}: {error}; delete it and run its notebook again"
        ) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    return hash_of(path, "sha256")


def hash_of(path: Path, method: str) -> str:
    """A hash of a file in hexadecimal digits; `method` is "sha256" or "md5"."""
    digest = hashlib.new(method, usedforsecurity=False)
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def only_writer(
    path: Path, what: str, instead: str = "set KIT_RESULTS to another folder for this one"
) -> Iterator[None]:
    """Hold the lock file `path` during the block; raises `KitError` when somebody else holds it.

    The system frees the lock when its process ends, however it ends, so none is left behind.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise KitError(
            f"{what} is being written by another run: wait until it ends, or {instead}"
        ) from None
    except OSError as error:
        raise WriteError(
            f"cannot write in {path.parent}: {error.strerror or error}: choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
