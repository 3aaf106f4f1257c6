"""Downloads that end in the right file or in one clear line, and go on where they stopped."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import shutil
import socket
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torchvision import datasets
from tqdm import tqdm

from .errors import KitError, WriteError
from .files import hash_of, only_writer, why_unwritten
from .flowers import NUM_PICTURES, flowers102_is_present
from .label_files import LABEL_FILES
from .pictures import sort_out
from .progress import track

# Other hosts of the same files, by how the publisher's addresses begin. The hash decides whether a
# file is taken, so a mirror need not be trusted. ResNet18's weights have no other host.
MIRRORS = {
    "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/": (
        "https://paddlemodels.bj.bcebos.com/flowers/",
    ),
    "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/": (
        "https://publicmodels.blob.core.windows.net/container/aa/",
    ),
}
OWN_MIRROR = "KIT_MIRROR"  # the variable that names a folder on a server of one's own, asked first

TIMEOUT = 30.0  # seconds in which hardly anything arrives
SLOWEST = 1_000  # bytes a second: less than that is hardly anything
ROUNDS = 4  # through all addresses, before it is given up
PAUSE = 1.0  # seconds after the first round; each later pause is twice as long
LONGEST_PAUSE = 30.0  # seconds that a server may ask us to wait
PROGRESS = 1 << 20  # bytes: an attempt that brought so many counts as none
BLOCK = 1 << 16


class _AttemptError(Exception):
    """An attempt failed. `is_final`: the same address would fail again; `wait`: seconds until."""

    def __init__(self, reason: str, *, is_final: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.is_final, self.wait = is_final, wait


@dataclass
class _Download:
    """One file on its way: what arrived stands in `part`, and every attempt goes on from there."""

    what: str
    part: Path
    method: str  # of the hash
    digest: str  # that it must begin with
    timeout: float
    bar: tqdm = field(init=False)

    @property
    def received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def is_right(self) -> bool:
        """Whether what arrived has the hash of the whole file."""
        return self.part.exists() and hash_of(self.part, self.method).startswith(self.digest)

    def attempt(self, url: str) -> None:
        """Fetch what is missing from one address; raises `_AttemptError` if that is not right."""
        kept = self.received
        try:
            self._receive(url, kept)
        except urllib.error.HTTPError as error:
            if error.code == 416 and self.is_right():  # nothing was missing any more
                return
            if error.code == 416:
                self.part.unlink(missing_ok=True)
            raise _refusal(error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if why_unwritten(error):
                raise
            reason = getattr(error, "reason", None) or error
            is_final = isinstance(reason, ssl.SSLCertVerificationError)
            text = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
            raise _AttemptError(text, is_final=is_final) from None
        except ValueError as error:  # no address at all, or an answer that is no HTTP
            raise _AttemptError(str(error), is_final=True) from None
        if not self.is_right():
            self.part.unlink()
            raise _AttemptError(
                f"what arrived has another hash than {self.digest}...: it is damaged or was "
                "replaced, and was not kept",
                is_final=not kept,  # it may be the part from another time that was wrong
            )

    def _receive(self, url: str, kept: int) -> None:
        """Append the answer to `part`, or begin anew where the server cannot go on."""
        request = urllib.request.Request(url, headers={"User-Agent": "transfer-learning-kit"})
        if kept:
            request.add_header("Range", f"bytes={kept}-")
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            if answer.status != 206:  # all of it comes again
                kept = 0
            length = answer.headers.get("Content-Length") or ""
            total = kept + int(length) if length.isdigit() else None
            self.bar.total = total
            self.bar.n = kept
            if total and shutil.disk_usage(self.part.parent).free < total - kept:
                raise WriteError(
                    f"no room for {self.what}: it takes {total / 1e6:,.0f} MB in {self.part.parent}"
                )
            with self.part.open("ab" if kept else "wb") as stream:
                for block in self._blocks(answer):
                    stream.write(block)
                    self.bar.update(len(block))
            if total is not None and self.received < total:
                raise _AttemptError(f"it ended {total - self.received:,} bytes too early")

    def _blocks(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """What arrives, piece by piece; raises `TimeoutError` when next to nothing does."""
        since, arrived = time.monotonic(), 0
        while block := answer.read1(BLOCK):
            yield block
            arrived += len(block)
            seconds = time.monotonic() - since
            if seconds > self.timeout:
                if arrived < SLOWEST * seconds:
                    raise TimeoutError(f"only {arrived:,} bytes came in {seconds:.0f} s")
                since, arrived = time.monotonic(), 0


def _refusal(error: urllib.error.HTTPError) -> _AttemptError:
    """What an error status means: whether to ask again, and when."""
    if 300 <= error.code < 400:
        return _AttemptError("it redirects in a loop, or to nowhere", is_final=True)
    wait = _seconds_until(error.headers.get("Retry-After") or "")
    if wait > LONGEST_PAUSE:
        return _AttemptError(f"the server says {error.code}, wait {wait:,.0f} s", is_final=True)
    passing = error.code in (408, 416, 425, 429) or error.code >= 500
    return _AttemptError(f"the server says {error.code}", is_final=not passing, wait=wait)


def _seconds_until(text: str) -> float:
    """Seconds that a Retry-After header asks for: it has a number or a date; 0 for neither."""
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def fetch(
    url: str,
    path: Path,
    *,
    what: str,
    sha256_prefix: str = "",
    md5: str = "",
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> None:
    """Download `url`, or the same file from a mirror, to `path`, with a progress bar.

    `sha256_prefix` (the first hexadecimal digits) or `md5` must match: it decides which file is
    the right one. What arrives stands in `path`.part; an interrupted download goes on from there,
    and only the right file gets its name. Faults that may pass are met with up to 4 rounds through
    all addresses, `pause` seconds after the first and twice as long after each other. Raises
    `KitError` that says what failed and where to put the file by hand; an earlier `path` is then
    untouched.
    """
    part = path.with_name(f"{path.name}.part")
    method, digest = ("sha256", sha256_prefix) if sha256_prefix else ("md5", md5)
    download = _Download(what, part, method, digest.lower(), timeout)
    lock = path.with_name(f".{path.name}.lock")
    with only_writer(lock, path.name, "stop that one"):
        try:
            with tqdm(desc=what, unit="B", unit_scale=True) as download.bar:
                faults = _try_all(download, addresses(url), pause)
            if not faults:
                part.chmod(0o644)
                part.replace(path)
                return
        except OSError as error:
            raise WriteError(
                f"cannot write {path}: {error.strerror or error}; when that is mended, run this "
                "again: it goes on where it stopped"
            ) from error
    if not download.received:
        part.unlink(missing_ok=True)
    kept = f" ({download.received:,} bytes are kept)" if download.received else ""
    said = "; ".join(f"{_host(one)}: {reason}" for one, reason in faults.items())
    raise KitError(
        f"cannot download {what}: {said}. Try again{kept}, or fetch it with a browser from {url} "
        f"and save it as {path}, then run this again"
    )


def addresses(url: str) -> list[str]:
    """Where a file can be had, in the order in which they are tried."""
    own = os.environ.get(OWN_MIRROR, "").strip()
    found = [f"{own.rstrip('/')}/{url.rpartition('/')[2]}"] if own else []
    found.append(url)
    for beginning, others in MIRRORS.items():
        if url.startswith(beginning):
            found += [other + url.removeprefix(beginning) for other in others]
    return found


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0] or url


def _try_all(download: _Download, urls: list[str], pause: float) -> dict[str, str]:
    """Try the addresses in turn; {} when the file is there, else what was wrong with each."""
    faults: dict[str, str] = {}
    hopeful, rounds = list(urls), 0
    while True:
        wait, before = pause * 2**rounds, download.received
        for url in list(hopeful):
            try:
                download.attempt(url)
                return {}
            except _AttemptError as failure:
                faults[url] = str(failure)
                wait = max(wait, failure.wait)
                if failure.is_final:
                    hopeful.remove(url)
        if download.received - before < PROGRESS:
            rounds += 1
        if not hopeful or rounds >= ROUNDS:
            return faults
        reason = faults[hopeful[-1]]
        tqdm.write(f"{download.what}: {reason}; trying again in {wait:.0f} s", file=sys.stderr)
        time.sleep(wait)


def download_flowers102(data_dir: Path, *, url_prefix: str | None = None) -> None:
    """Fetch what is missing or damaged of Flowers102 (345 MB), check it, and unpack the pictures.

    Addresses and md5s are torchvision's own. `url_prefix` takes the files from elsewhere, as from
    a mirror. Raises `KitError` when a file cannot be had.
    """
    source = datasets.Flowers102
    prefix = url_prefix or source._download_url_prefix
    folder = data_dir / "flowers-102"
    damaged = damaged_flowers(folder)
    if pictures := [path for path in damaged if path.suffix == ".jpg"]:
        print(f"{len(pictures):,} pictures are damaged, such as {pictures[0]}: fetching them again")
    for name, md5 in _label_files().items():
        if folder / name in damaged:
            fetch(prefix + name, folder / name, md5=md5, what=name)
    if pictures or len(list((folder / "jpg").glob("image_*.jpg"))) < NUM_PICTURES:
        archive_name, md5 = source._file_dict["image"]
        archive = folder / archive_name
        if not _has_md5(archive, md5):
            fetch(prefix + archive_name, archive, md5=md5, what="8,189 flower pictures")
        _unpack(archive, folder)
    flowers102_is_present(data_dir)


def _has_md5(path: Path, md5: str) -> bool:
    return path.is_file() and hash_of(path, "md5") == md5


def damaged_flowers(folder: Path) -> list[Path]:
    """The label files that are not the published ones, or not there, and pictures cut short."""
    labels = [
        folder / name for name, md5 in _label_files().items() if not _has_md5(folder / name, md5)
    ]
    _, pictures = sort_out(sorted((folder / "jpg").glob("image_*.jpg")), "checking pictures")
    return labels + sorted(pictures)


def _label_files() -> dict[str, str]:
    """The names of the label files, and their md5s."""
    published = datasets.Flowers102._file_dict
    keys = zip(("label", "setid"), LABEL_FILES, strict=True)
    return {name: published[key][1] for key, name in keys}


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the target, then move: an interrupted run leaves no half-filled jpg/."""
    beside = folder / "jpg.part"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.unpack_archive(archive, beside, filter="data")
        shutil.rmtree(folder / "jpg", ignore_errors=True)
        (beside / "jpg").rename(folder / "jpg")
        archive.unlink()
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WriteError(
            f"cannot unpack {archive} ({reason}): make room in {folder}, then run "
            "`python -m helpers download` again: the archive is kept"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def download_torchvision_set(name: str, data_dir: Path) -> None:
    """Fetch another data set of the assignment with torchvision's own code and checks.

    Raises `KitError` when it cannot be had, also when the server falls silent.
    """
    from .sources import TORCHVISION_SETS

    if name not in TORCHVISION_SETS:
        raise KitError(f"no data set {name!r}: use Flowers102, {', '.join(TORCHVISION_SETS)}")
    with _fetching(name, f"delete what there is of it in {data_dir}"):
        TORCHVISION_SETS[name](data_dir, download=True)


@contextlib.contextmanager
def _fetching(name: str, else_: str) -> Iterator[None]:
    """In the block, torchvision downloads: not waiting for ever, and failing with one `KitError`.

    `else_` is what to do when trying again does not help.
    """
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException,
            tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise KitError(
            f"cannot download {name}: {str(error) or type(error).__name__}. Try again later; if it "
            f"stays so, {else_}"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)


def download_small_set(name: str, data_dir: Path) -> None:
    """Fetch CIFAR10 or CIFAR100 with torchvision's own code and checks, and write class folders.

    The pictures go to `data_dir`/cifar-10-folders/train/<class>/00000.png ... and so on, once; what
    was fetched for them is deleted then. An interrupted run leaves no half-filled folder, and the
    next one does not fetch again what it has. Raises `KitError` when the set cannot be had.
    """
    from .sources import SMALL_SETS

    final = data_dir / SMALL_SETS[name][0]
    if final.is_dir():
        return
    fetched, beside = (final.with_name(f"{final.name}.{part}") for part in ("download", "part"))
    shutil.rmtree(beside, ignore_errors=True)
    with _fetching(name, f"put its archive into {fetched}"):
        for split in ("train", "test"):
            pictures = getattr(datasets, name)(fetched, train=split == "train", download=True)
            _write_class_folders(pictures, beside / split, f"writing {split} pictures of {name}")
        beside.rename(final)
    shutil.rmtree(fetched, ignore_errors=True)


def _write_class_folders(pictures: datasets.VisionDataset, folder: Path, what: str) -> None:
    """Write each picture of a torchvision set as `folder`/<class>/<number>.png."""
    for number, (picture, label) in enumerate(track(pictures, what, len(pictures))):
        path = folder / pictures.classes[label] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
