"""Files that are never half-written: write beside the target, then rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import KitError

DISK_ERRORS = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "EIO", "ENOENT", "EISDIR")
} - {None}


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block ends well.

    When the block raises, the temporary file is removed and an earlier `path` stays as it was.
    Raises `KitError` when the file cannot be written (disk full, folder not writable).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise KitError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; a result is to be read by whoever reads its folder.
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in DISK_ERRORS:  # a network's errors are OSErrors too
            raise
        raise KitError(
            f"cannot write {path}: {error.strerror}; the earlier file, if any, is untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically; NaN and infinity are refused."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except ValueError:
        raise KitError(
            "nothing was written, because a number in it is NaN or infinite. Did the loss "
            "diverge? Run again with a lower learning rate"
        ) from None
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from `path`; raises `KitError` naming the file when it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KitError(
            f"cannot read {path}: {error}; delete it and run its notebook again"
        ) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
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
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise KitError(
            f"{what} is being written by another run: wait until it ends, or {instead}"
        ) from None
    try:
        yield
    finally:
        lock.release()
