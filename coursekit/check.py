"""What this machine has and lacks, line by line, with what to do about it.

Packages are imported where they are used: what is missing must not keep the rest from being said.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import KitError
from helpers.lib.folders import ROOT, folders, show_path

OLDEST_PYTHON = (3, 10)
INSTALL = "run `python -m pip install -r requirements.txt` in the folder of the kit"
DOWNLOAD = "run `python -m coursekit download`"
LEAST_MEMORY, LEAST_DISK, FULL_DISK = 3e9, 0.8e9, 2e9  # bytes; checkpoints included


@dataclass(frozen=True)
class Line:
    """One finding: "ok", "missing" (only the full profile needs it) or "problem"."""

    status: str
    text: str
    stops_mini: bool = False

    def __str__(self) -> str:
        return f"[{self.status}]".ljust(10) + self.text


def check_machine(dataset: str | None = None) -> int:
    """Print what this machine has and lacks; returns 0 when the mini profile can run, else 1.

    With `dataset`, or when notebook 01 has chosen another one than Flowers102, each of its pictures
    is looked at, too, and those that cannot be used are named.
    """
    lines: list[Line] = []
    checks: tuple[Callable[[], Iterator[Line]], ...] = (
        _python,
        _packages,
        _device,
        _memory,
        _disk,
        _mini_data,
        _flowers,
        _weights,
        _leftovers,
        _kernel,
        _folders,
        functools.partial(_pictures, dataset),
    )
    for check in checks:
        try:
            found = list(check())
        except ImportError as error:  # named by the check of the packages, with the remedy
            found = [Line("problem", f"cannot look further: {error}", stops_mini=True)]
            found = [line for line in found if line not in lines]  # told once for all checks
        for line in found:
            print(line)
        lines += found
    stopped = any(line.stops_mini for line in lines)
    print("The mini profile cannot run yet: see above." if stopped else "The mini profile can run.")
    return int(stopped)


def _python() -> Iterator[Line]:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info >= OLDEST_PYTHON:
        yield Line("ok", text)
    else:
        yield Line("problem", f"{text}: the kit needs Python {oldest} or newer", stops_mini=True)


def _packages() -> Iterator[Line]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        yield Line("problem", f"requirements.txt cannot be read: {error.strerror}")
        return
    for line in lines:
        wanted = line.partition("#")[0].strip()
        if not wanted or wanted.startswith("-"):
            continue
        try:
            yield _package(Requirement(wanted))
        except InvalidRequirement:
            yield Line("problem", f"requirements.txt: {wanted!r} is no requirement: fetch it again")


def _package(wanted) -> Line:
    """The finding about one line of requirements.txt."""
    if wanted.marker is not None and not wanted.marker.evaluate():
        return Line("ok", f"{wanted.name}: not needed here")
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return Line("problem", f"{wanted.name} is not installed: {INSTALL}", stops_mini=True)
    if wanted.specifier.contains(version, prereleases=True):
        return Line("ok", f"{wanted.name} {version}")
    text = f"{wanted.name} {version}, but {wanted.specifier} is wanted: {INSTALL}"
    return Line("problem", text, stops_mini=True)


def _device() -> Iterator[Line]:
    import torch

    from helpers.results import device_name
    from helpers.workspace import choose_device, choose_precision

    device = choose_device(None)
    precision = str(choose_precision(device)).removeprefix("torch.")
    yield Line(
        "ok",
        f"device {device} ({device_name(device)}), {torch.get_num_threads()} threads, {precision}",
    )
    if device.type == "cpu":
        yield Line("ok", "no GPU: the mini profile takes minutes, the full one about two hours")


def _memory() -> Iterator[Line]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return  # Windows does not tell
    if size >= LEAST_MEMORY:
        yield Line("ok", f"memory {size / 1e9:.1f} GB")
    else:
        yield Line("problem", f"memory {size / 1e9:.1f} GB is little: close other programs")


def _disk() -> Iterator[Line]:
    for folder in dict.fromkeys(map(_existing, folders())):
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:.1f} GB free in {show_path(folder)}"
        if free < LEAST_DISK:
            yield Line("problem", f"{text}: make room for {LEAST_DISK / 1e9} GB", stops_mini=True)
        elif free < FULL_DISK:
            yield Line("missing", f"{text}: the full profile needs {FULL_DISK / 1e9} GB, make room")
        else:
            yield Line("ok", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _mini_data() -> Iterator[Line]:
    from helpers.lib.flowers import DrawnFlowers
    from helpers.lib.weights import DRAWN, find_drawn

    try:
        pictures = sum(len(DrawnFlowers(split=split)) for split in ("train", "val", "test"))
        networks = [name for name in DRAWN if find_drawn(name)]
        yield Line("ok", f"mini profile: {pictures} drawings, weights of {', '.join(networks)}")
    except KitError as error:
        yield Line("problem", f"mini profile: {error}", stops_mini=True)


def _flowers() -> Iterator[Line]:
    from helpers.lib.downloads import damaged_flowers
    from helpers.lib.flowers import flowers102_is_present

    data_dir, _ = folders()
    place = show_path(data_dir)
    try:
        if flowers102_is_present(data_dir):
            damaged = damaged_flowers(data_dir / "flowers-102")
            if damaged:
                text = f"damaged files: {len(damaged):,}, such as {damaged[0].name}"
                yield Line("problem", f"Flowers102 in {place}: {text}; to replace them, {DOWNLOAD}")
            else:
                yield Line("ok", f"Flowers102: complete in {place}")
        else:
            yield Line("missing", f"Flowers102: not in {place}; for the full profile {DOWNLOAD}")
    except KitError as error:
        yield Line("problem", str(error))


def _weights() -> Iterator[Line]:
    from helpers.lib.weights import IMAGENET

    folders()
    for name, file in IMAGENET.items():
        place = show_path(file.path)
        if not file.path.exists():
            text = f"weights of {name}: not in {place}; for the full profile {DOWNLOAD}"
            yield Line("missing", text)
        elif file.is_published():
            yield Line("ok", f"weights of {name}: {place}")
        else:
            yield Line(
                "problem",
                f"weights of {name}: {place} is not the published file; to replace it, {DOWNLOAD}",
            )


def _leftovers() -> Iterator[Line]:
    """What is kept of interrupted downloads, what killed runs have left, and what can go."""
    from helpers.lib.downloads import OWN_MIRROR
    from helpers.lib.weights import IMAGENET

    data_dir, results = folders()
    if os.environ.get(OWN_MIRROR):
        yield Line("ok", f"downloads ask {OWN_MIRROR} first: {os.environ[OWN_MIRROR]}")
    checkpoints = {file.path.parent for file in IMAGENET.values()}
    found = [path for place in (data_dir, results, *checkpoints) for path in place.rglob("*.part")]
    parts = {path: path.stat().st_size / 1e6 for path in found if path.is_file()}
    for path, size in parts.items():
        if not path.name.startswith("."):
            text = f"{size:,.1f} MB of {path.stem} are kept of a download: it goes on from there"
            yield Line("ok", text)
    unfinished = {path: size for path, size in parts.items() if path.name.startswith(".")}
    if unfinished:
        text = f"files that were not finished: {len(unfinished)}, {sum(unfinished.values()):,.1f} "
        text += f"MB, such as {show_path(next(iter(unfinished)))}; delete them when nothing runs"
        yield Line("ok", text)
    decoded = [path.stat().st_size for path in (data_dir / "decoded").glob("*.pixels")]
    if decoded:
        text = f"{sum(decoded) / 1e6:,.1f} MB of decoded pictures in {show_path(data_dir)}/decoded"
        yield Line("ok", f"{text}: they save time, and may be deleted")


def _kernel() -> Iterator[Line]:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = "run `python -m ipykernel install --sys-prefix`"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv
    except NoSuchKernel:
        yield Line("problem", f"Jupyter has no kernel 'python3': {mend}", stops_mini=True)
        return
    # A bare "python" means the interpreter that Jupyter itself runs on. Folders are compared, not
    # files: in a virtual environment the interpreter is a link to that of the system.
    own = Path(sys.executable).parent.resolve()
    python = Path(command[0])
    if not python.is_absolute() or python.parent.resolve() == own:
        yield Line("ok", "Jupyter kernel python3 is this Python")
    else:
        yield Line(
            "problem", f"Jupyter's kernel python3 is another Python ({show_path(python)}): {mend}"
        )


def _folders() -> Iterator[Line]:
    from coursekit.notebooks import NOTEBOOK_FOLDER, notebook_paths

    _, results = folders()
    count = len(notebook_paths())
    if not count:
        text = f"no notebook in {show_path(NOTEBOOK_FOLDER)}: fetch the kit again"
        yield Line("problem", text, stops_mini=True)
    elif _is_writable(NOTEBOOK_FOLDER):
        yield Line("ok", f"{count} notebooks, in a folder that can be written")
    else:
        text = f"{show_path(NOTEBOOK_FOLDER)} cannot be written: copy the kit to a folder of yours"
        yield Line("problem", text)
    if _is_writable(_existing(results)):
        yield Line("ok", f"results go to {show_path(results)}")
    else:
        text = f"{show_path(results)} cannot be written: set KIT_RESULTS to a folder of yours"
        yield Line("problem", text, stops_mini=True)


def _pictures(dataset: str | None) -> Iterator[Line]:
    """Every picture of a data set or folder that cannot be used, and how many can.

    Without one, of the one that notebook 01 has chosen; nothing when that is Flowers102.
    """
    from helpers.lib.identity import FLOWERS
    from helpers.lib.pictures import check_all
    from helpers.lib.sources import list_pictures
    from helpers.workspace import choose_profile, chosen_dataset

    data_dir, results = folders()
    try:
        if dataset is None:
            dataset = chosen_dataset(results)
            if dataset == FLOWERS:
                return
            yield Line("ok", f"the notebooks use the data set {dataset}")
        # Of pictures that are not drawn, the mini profile would take a part only.
        profile = choose_profile(None, data_dir)[0] if dataset == FLOWERS else "full"
        listing = list_pictures(dataset, profile=profile, data_dir=data_dir, seed=0)
        paths = [path for paths, _ in listing.splits.values() for path in paths]
        if not listing.picture_sizes:
            check_all(paths, "checking pictures", mend=listing.mend)
    except KitError as error:
        yield Line("problem", str(error))
        return
    for line in listing.left_out:
        yield Line("problem", f"left out of {listing.name}: {line}")
    yield Line("ok", f"{listing.name}: {len(paths):,} pictures of "
                     f"{len(listing.class_names)} classes can be used")  # fmt: skip


def _is_writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
