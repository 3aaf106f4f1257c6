"""The command `download`: data sets and pretrained weights, whole, or one clear line."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from torchvision import datasets

from helpers.errors import KitError, WriteError
from helpers.lib.checked import sort_out
from helpers.lib.fetch import TIMEOUT, fetch
from helpers.lib.files import hash_of
from helpers.lib.flowers import NUM_PICTURES, flowers102_is_present
from helpers.lib.folders import folders
from helpers.lib.label_files import LABEL_FILES
from helpers.lib.progress import track
from helpers.lib.sources import SMALL_SETS, TORCHVISION_SETS
from helpers.lib.weights import IMAGENET, fetch_weights


def download(dataset: str = "Flowers102", *, weights_only: bool = False) -> int:
    """Fetch what is missing of a data set and of the ImageNet weights, item by item.

    Args:
        dataset: "Flowers102", or another set of the assignment or the extensions, by name.
        weights_only: Leave the data set out.

    Returns:
        0, or 1 when an item could not be had; the others were fetched all the same.

    Raises:
        KitError: There is no such data set.
    """
    data_dir, _ = folders()
    items: dict[str, Callable[[], object]] = {}
    if not weights_only:
        items[dataset] = _fetcher(dataset, data_dir)
    for network in IMAGENET:
        items[f"weights of {network}"] = lambda network=network: fetch_weights(network)  # type: ignore[misc]
    failures = []
    for name, fetch_item in items.items():
        try:
            fetch_item()
            print(f"{name}: complete")
        except KitError as error:
            failures.append(f"{name}: {error}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return int(bool(failures))


def _fetcher(dataset: str, data_dir: Path) -> Callable[[], object]:
    """What fetches a data set."""
    if dataset == "Flowers102":
        return lambda: download_flowers102(data_dir)
    if dataset in TORCHVISION_SETS:
        return lambda: _download_torchvision_set(dataset, data_dir)
    if dataset in SMALL_SETS:
        return lambda: _download_small_set(dataset, data_dir)
    known = ", ".join(["Flowers102", *TORCHVISION_SETS, *SMALL_SETS])
    raise KitError(f"no data set {dataset!r}: use one of {known}")


def download_flowers102(data_dir: Path) -> None:
    """Fetch what is missing or damaged of Flowers102 (345 MB), check it, and unpack the pictures.

    Addresses and MD5s are torchvision's own.

    Raises:
        KitError: A file cannot be had, or not be unpacked.
    """
    prefix, folder = datasets.Flowers102._download_url_prefix, data_dir / "flowers-102"
    damaged = damaged_flowers(folder)
    if pictures := [path for path in damaged if path.suffix == ".jpg"]:
        print(f"{len(pictures):,} pictures are damaged, such as {pictures[0]}: fetching them again")
    for name, md5 in _label_files().items():
        if folder / name in damaged:
            fetch(prefix + name, folder / name, md5=md5, what=name)
    if pictures or len(list((folder / "jpg").glob("image_*.jpg"))) < NUM_PICTURES:
        archive_name, md5 = datasets.Flowers102._file_dict["image"]
        archive = folder / archive_name
        if not _has_md5(archive, md5):
            fetch(prefix + archive_name, archive, md5=md5, what="8,189 flower pictures")
        _unpack(archive, folder)
    flowers102_is_present(data_dir)


def damaged_flowers(folder: Path) -> list[Path]:
    """The label files that are missing or not the published ones, and pictures cut short."""
    labels = [
        folder / name for name, md5 in _label_files().items() if not _has_md5(folder / name, md5)
    ]
    _, pictures = sort_out(sorted((folder / "jpg").glob("image_*.jpg")), "checking pictures")
    return labels + sorted(pictures)


def _has_md5(path: Path, md5: str) -> bool:
    return path.is_file() and hash_of(path, "md5") == md5


def _label_files() -> dict[str, str]:
    """The names of the label files, and their MD5s."""
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
            f"cannot unpack {archive} ({reason}): free some space in {folder}, then run "
            "`python -m coursekit download` again: the archive is kept"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _download_torchvision_set(name: str, data_dir: Path) -> None:
    """Fetch another data set of the assignment with torchvision's own code and checks."""
    with _fetching(name, f"delete what there is of it in {data_dir}"):
        TORCHVISION_SETS[name](data_dir, download=True)


@contextlib.contextmanager
def _fetching(name: str, hint: str) -> Iterator[None]:
    """In the block, torchvision downloads: not waiting for ever, and failing with one `KitError`.

    `hint` is what to do when trying again does not help.
    """
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException,
            tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise KitError(
            f"cannot download {name}: {str(error) or type(error).__name__}. Try again later; if it "
            f"stays so, {hint}"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)


def _download_small_set(name: str, data_dir: Path) -> None:
    """Fetch CIFAR10 or CIFAR100 with torchvision's own code and checks, and write class folders.

    The pictures go to `data_dir`/cifar-10-folders/train/<class>/00000.png and so on, and what was
    fetched for them is deleted then. An interrupted run leaves no half-filled folder, and the next
    one uses what was fetched.
    """
    final = data_dir / SMALL_SETS[name][0]
    if final.is_dir():
        return
    fetched, beside = (final.with_name(f"{final.name}.{part}") for part in ("download", "part"))
    shutil.rmtree(beside, ignore_errors=True)
    with _fetching(name, f"put its archive into {fetched}"):
        for split in ("train", "test"):
            pictures = getattr(datasets, name)(fetched, train=split == "train", download=True)
            what = f"writing {split} pictures of {name}"
            for number, (picture, label) in enumerate(track(pictures, what, len(pictures))):
                path = beside / split / pictures.classes[label] / f"{number:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
        beside.rename(final)
    shutil.rmtree(fetched, ignore_errors=True)
