"""Downloads that end in the right file or in one clear line."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from torchvision import datasets
from tqdm import tqdm

from .errors import KitError
from .files import written_atomically
from .flowers import LABEL_FILES, NUM_PICTURES, flowers102_is_present

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 16


def fetch(
    url: str,
    path: Path,
    *,
    what: str,
    sha256_prefix: str = "",
    md5: str = "",
    timeout: float = TIMEOUT,
) -> None:
    """Download `url` to `path`, with a progress bar, through a temporary file that is checked.

    `sha256_prefix` (the first hexadecimal digits) or `md5` must match. Raises `KitError` that says
    what failed and where to put the file by hand; an earlier `path` is then untouched.
    """
    by_hand = f"Try again, or fetch it with a browser from {url} and save it as {path}"
    try:
        with written_atomically(path) as temporary:
            digests = _stream(url, temporary, what, timeout)
            expected = sha256_prefix or md5
            if expected and not digests["sha256" if sha256_prefix else "md5"].startswith(expected):
                raise KitError(
                    f"the download of {what} has another hash than {expected}...: it is damaged or "
                    f"was replaced, and was not kept. {by_hand}"
                )
    except urllib.error.HTTPError as error:
        raise KitError(f"cannot download {what}: the server says {error.code}. {by_hand}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise KitError(f"cannot download {what}: {reason}. {by_hand}") from None


def _stream(url: str, path: Path, what: str, timeout: float) -> dict[str, str]:
    """Copy `url` to `path` and return the hashes of what arrived; a short body is an error."""
    hashes = {"sha256": hashlib.sha256(), "md5": hashlib.md5()}
    request = urllib.request.Request(url, headers={"User-Agent": "transfer-learning-kit"})
    with urllib.request.urlopen(request, timeout=timeout) as answer, path.open("wb") as stream:
        total = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, desc=what, unit="B", unit_scale=True) as bar:
            while block := answer.read(BLOCK):
                stream.write(block)
                bar.update(len(block))
                for digest in hashes.values():
                    digest.update(block)
            if total and bar.n != total:
                raise http.client.IncompleteRead(b"", total - bar.n)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def download_flowers102(data_dir: Path, *, url_prefix: str | None = None) -> None:
    """Fetch what is missing of Flowers102 (345 MB), check every file, and unpack the pictures.

    Addresses and md5s are torchvision's own. `url_prefix` takes the files from elsewhere, as from
    a mirror. Raises `KitError` when a file cannot be had.
    """
    source = datasets.Flowers102
    prefix = url_prefix or source._download_url_prefix
    folder = data_dir / "flowers-102"
    for key, name in (("label", LABEL_FILES[0]), ("setid", LABEL_FILES[1])):
        if not _has_md5(folder / name, source._file_dict[key][1]):
            fetch(prefix + name, folder / name, md5=source._file_dict[key][1], what=name)
    pictures = folder / "jpg"
    if not pictures.is_dir() or len(list(pictures.glob("image_*.jpg"))) < NUM_PICTURES:
        archive_name, md5 = source._file_dict["image"]
        archive = folder / archive_name
        if not _has_md5(archive, md5):
            fetch(prefix + archive_name, archive, md5=md5, what="8,189 flower pictures")
        _unpack(archive, folder)
    flowers102_is_present(data_dir)


def _has_md5(path: Path, md5: str) -> bool:
    return path.is_file() and hashlib.md5(path.read_bytes()).hexdigest() == md5


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the target, then move: an interrupted run leaves no half-filled jpg/."""
    beside = folder / "jpg.part"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.unpack_archive(archive, beside, filter="data")
    shutil.rmtree(folder / "jpg", ignore_errors=True)
    (beside / "jpg").rename(folder / "jpg")
    shutil.rmtree(beside)
    archive.unlink()


def download_torchvision_set(name: str, data_dir: Path) -> None:
    """Fetch another data set of the assignment with torchvision's own code and checks."""
    from .sources import TORCHVISION_SETS

    if name not in TORCHVISION_SETS:
        raise KitError(f"no data set {name!r}: use Flowers102, {', '.join(TORCHVISION_SETS)}")
    try:
        TORCHVISION_SETS[name](data_dir, download=True)
    except (OSError, RuntimeError) as error:
        raise KitError(f"cannot download {name}: {error}. Try again later") from None
