"""What a hand-in is: the names and the manifest of a submission-ID.zip, and how to write one.

manifest.json                     what the hand-in holds, and what it lacks
notebooks/01_dataset_tour.ipynb   ... to 06, as saved
results/<method>/record.json      and predictions.csv, as `save_result` writes them
results/log.jsonl                 what ran, see helpers/lib/cell_log.py
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.lib.cell_log import LOG_NAME
from helpers.lib.files import written_atomically

SCHEMA = 1
NOTEBOOKS = (
    "01_dataset_tour.ipynb",
    "02_batchnorm_cnn.ipynb",
    "03_resnet18_finetune.ipynb",
    "04_resnet18_feature_extractor.ipynb",
    "05_efficientnet_b5_finetune.ipynb",
    "06_comparison.ipynb",
)
MANIFEST = "manifest.json"
LOG = f"results/{LOG_NAME}"
RESULT_FILES = ("record.json", "predictions.csv")

LONGEST_NAME = 64
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
# Windows takes these for devices, whatever follows their first dot.
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|COM\d|LPT\d)(?:\..*)?", re.IGNORECASE)
_DATE_IN_ZIP = (1980, 1, 1, 0, 0, 0)  # of every file, so that equal content makes equal bytes


def notebook_path(name: str) -> str:
    """Where a notebook is in a hand-in."""
    return f"notebooks/{name}"


def result_path(method: str, name: str) -> str:
    """Where a file of a method's result is in a hand-in."""
    return f"results/{method}/{name}"


# The manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Who handed in what, when, and whether it was complete."""

    schema: int = SCHEMA
    kit: str  # version
    student: str  # the id as the student gave it, see `safe_name`
    name: str | None
    created: str  # ISO 8601, UTC
    profile: str  # "mini" or "full"
    complete: bool
    missing: list[str]  # plain sentences; [] when complete
    machine: dict[str, Any]
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> SHA-256

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


_TYPES: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "kit": (str,),
    "student": (str,),
    "name": (str, type(None)),
    "created": (str,),
    "profile": (str,),
    "complete": (bool,),
    "missing": (list,),
    "machine": (dict,),
    "files": (dict,),
}


def manifest_faults(values: Mapping[str, Any]) -> list[str]:
    """What of a manifest is not as this version of the kit writes it, a sentence each."""
    if values.get("schema") != SCHEMA:
        return [f"{MANIFEST} is of another version of the kit: schema {values.get('schema')!r:.40}"]
    faults = [
        f"{MANIFEST} has no usable {name!r}: {values.get(name)!r:.80}"
        for name, types in _TYPES.items()
        if type(values.get(name)) not in types
    ]
    if not faults:
        texts = [*values["missing"], *values["files"].values()]
        if not all(isinstance(text, str) for text in texts):
            faults.append(f"{MANIFEST} has a damaged list")
        if not _is_time(values["created"]):
            faults.append(f"{MANIFEST} does not say when it was packed: {values['created']!r:.80}")
    return faults


def _is_time(text: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


# The file


def safe_name(student: str) -> str:
    """An id as a part of a file name that every system takes: plain characters, at most 64.

    An id that is one already is its own name. Any other one gets the beginning of its hash, so
    that two ids do not end up under one name.
    """
    plain = bool(_PLAIN_NAME.fullmatch(student)) and not _DEVICE.fullmatch(student)
    if plain and len(student) <= LONGEST_NAME:
        return student
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    letters = re.sub(r"[^A-Za-z0-9_-]+", "_", student)[: LONGEST_NAME - 9].strip("-")
    return f"{letters or 'id'}-{digest}"


def handin_name(student: str) -> str:
    """The file name of a student's hand-in."""
    return f"submission-{safe_name(student)}.zip"


def write_handin(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write the hand-in of a manifest and its files into `folder`; returns its path.

    The hashes of `files` (path in the hand-in -> content) are put into the manifest. Files come
    sorted and with a fixed date. Raises `KitError` when it cannot be written.
    """
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())}
    text = dataclasses.replace(manifest, files=hashes).as_json()
    content = {**files, MANIFEST: text.encode()}
    target = folder / handin_name(manifest.student)
    with written_atomically(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path, data in sorted(content.items()):
            info = zipfile.ZipInfo(path, _DATE_IN_ZIP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return target
