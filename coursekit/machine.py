"""What `check` finds once the packages are there: device, space, data, weights, kernel, folders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from coursekit.check import Finding
from coursekit.download import damaged_flowers
from coursekit.notebooks import NOTEBOOK_FOLDER, notebook_paths
from helpers.errors import KitError
from helpers.lib.devices import choose_device, choose_precision, device_name, name_of
from helpers.lib.fetch import OWN_MIRROR
from helpers.lib.flowers import DrawnFlowers, flowers102_is_present
from helpers.lib.folders import folders, show_path, weights_dir
from helpers.lib.identity import FLOWERS
from helpers.lib.pictures import check_all
from helpers.lib.sources import list_pictures
from helpers.lib.weights import DRAWN, IMAGENET, find_drawn
from helpers.workspace import choose_profile, chosen_dataset

DOWNLOAD = "run `python -m coursekit download`"
LEAST_MEMORY, LEAST_DISK, FULL_DISK = 3e9, 0.8e9, 2e9  # bytes; checkpoints included


def findings(dataset: str | None) -> Iterator[Finding]:
    """All of them, in the order in which they are told; `dataset` as `check_machine` says."""
    yield from _device()
    yield from _disk()
    yield _mini_data()
    yield _flowers()
    yield from _weights()
    yield from _leftovers()
    yield _kernel()
    yield from _folders()
    yield from _pictures(dataset)


def _device() -> Iterator[Finding]:
    device = choose_device(None)
    precision = name_of(choose_precision(device))
    name, threads = device_name(device), torch.get_num_threads()
    yield "ok", f"device {device} ({name}), {threads} threads, {precision}"
    if device.type == "cpu":
        yield "ok", "no GPU: the mini profile takes minutes, the full one about two hours"
    size = psutil.virtual_memory().total
    if size >= LEAST_MEMORY:
        yield "ok", f"memory {size / 1e9:.1f} GB"
    else:
        yield "problem", f"memory {size / 1e9:.1f} GB is little: close other programs"


def _disk() -> Iterator[Finding]:
    for folder in dict.fromkeys(map(_existing, folders())):
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:.1f} GB free in {show_path(folder)}"
        if free < LEAST_DISK:
            yield "stop", f"{text}: free {LEAST_DISK / 1e9} GB"
        elif free < FULL_DISK:
            yield "missing", f"{text}: the full profile needs {FULL_DISK / 1e9} GB"
        else:
            yield "ok", text


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _mini_data() -> Finding:
    try:
        pictures = sum(len(DrawnFlowers(split=split)) for split in ("train", "val", "test"))
        networks = [name for name in DRAWN if find_drawn(name)]
    except KitError as error:
        return "stop", f"mini profile: {error}"
    return "ok", f"mini profile: {pictures} drawings, weights of {', '.join(networks)}"


def _flowers() -> Finding:
    data_dir, _ = folders()
    place = show_path(data_dir)
    try:
        if not flowers102_is_present(data_dir):
            return "missing", f"Flowers102: not in {place}; for the full profile {DOWNLOAD}"
    except KitError as error:
        return "problem", str(error)
    if damaged := damaged_flowers(data_dir / "flowers-102"):
        text = f"damaged files: {len(damaged):,}, such as {damaged[0].name}"
        return "problem", f"Flowers102 in {place}: {text}; to replace them, {DOWNLOAD}"
    return "ok", f"Flowers102: complete in {place}"


def _weights() -> Iterator[Finding]:
    for name, file in IMAGENET.items():
        place = f"weights of {name}: {show_path(file.path)}"
        if not file.path.exists():
            yield "missing", f"{place} is not there; for the full profile {DOWNLOAD}"
        elif file.is_published():
            yield "ok", place
        else:
            yield "problem", f"{place} is not the published file; to replace it, {DOWNLOAD}"


def _leftovers() -> Iterator[Finding]:
    """What is kept of interrupted downloads, and what can go."""
    data_dir, _ = folders()
    if mirror := os.environ.get(OWN_MIRROR):
        yield "ok", f"downloads ask {OWN_MIRROR} first: {mirror}"
    found = [path for place in (data_dir, weights_dir()) for path in place.rglob("*.part")]
    for path in found:
        if not path.name.startswith("."):
            kept = f"{_megabytes(path)} of {path.stem} are kept of a download"
            yield "ok", f"{kept}: it goes on from there"
    decoded = data_dir / "decoded"
    if pixels := list(decoded.glob("*.pixels")):
        text = f"{_megabytes(*pixels)} of decoded pictures in {show_path(decoded)}"
        yield "ok", f"{text}: they save time, and may be deleted"


def _megabytes(*paths: Path) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:,.1f} MB"


def _kernel() -> Finding:
    hint = "run `python -m ipykernel install --sys-prefix`"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv
    except NoSuchKernel:
        return "stop", f"Jupyter has no kernel 'python3': {hint}"
    # A bare "python" means the interpreter that Jupyter itself runs on. Folders are compared, not
    # files: in a virtual environment the interpreter is a link to that of the system.
    own, python = Path(sys.executable).parent.resolve(), Path(command[0])
    if not python.is_absolute() or python.parent.resolve() == own:
        return "ok", "Jupyter kernel python3 is this Python"
    return "problem", f"Jupyter's kernel python3 is another Python ({show_path(python)}): {hint}"


def _folders() -> Iterator[Finding]:
    _, results = folders()
    if os.access(NOTEBOOK_FOLDER, os.W_OK):
        yield "ok", f"{len(notebook_paths())} notebooks, in a folder that can be written"
    else:
        place = show_path(NOTEBOOK_FOLDER)
        yield "problem", f"{place} cannot be written: copy the kit to a folder of yours"
    if os.access(_existing(results), os.W_OK):
        yield "ok", f"results go to {show_path(results)}"
    else:
        text = f"{show_path(results)} cannot be written"
        yield "stop", f"{text}: set KIT_RESULTS to a folder of yours"


def _pictures(dataset: str | None) -> Iterator[Finding]:
    """Every picture of a data set or folder that cannot be used, and how many can."""
    data_dir, results = folders()
    try:
        if dataset is None:
            dataset = chosen_dataset(results)
            if dataset == FLOWERS:
                return
            yield "ok", f"the notebooks use the data set {dataset}"
        # Of pictures that are not drawn, the mini profile would take a part only.
        profile = choose_profile(None, data_dir)[0] if dataset == FLOWERS else "full"
        listing = list_pictures(dataset, profile=profile, data_dir=data_dir, seed=0)
        paths = [path for paths, _ in listing.splits.values() for path in paths]
        if not listing.picture_sizes:
            check_all(paths, "checking pictures", hint=listing.hint)
    except KitError as error:
        yield "problem", str(error)
        return
    for note in listing.notes:
        yield "ok", f"{listing.name}: {note}"
    for line in listing.left_out:
        yield "problem", f"left out of {listing.name}: {line}"
    classes = f"{len(listing.class_names)} classes"
    sizes = ", ".join(f"{len(files):,} {split}" for split, (files, _) in listing.splits.items())
    yield "ok", f"{listing.name}: {len(paths):,} pictures of {classes} can be used ({sizes})"
