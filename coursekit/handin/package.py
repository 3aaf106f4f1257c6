"""What a hand-in is: the manifest of a submission-ID.zip, and how to write one.

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
_DATE_IN_ZIP = (1980, 1, 1, 0, 0, 0)  # of every file, so that equal content makes equal bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Who handed in what, when, and whether it was complete."""

    schema: int = SCHEMA
    kit: str  # version
    student: str  # the id as the student gave it
    name: str | None
    created: str  # ISO 8601, UTC
    profile: str  # "mini" or "full"
    complete: bool
    missing: list[str]  # plain sentences; [] when complete
    machine: dict[str, Any]
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> SHA-256

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


_TYPES: dict[type | tuple[type, ...], tuple[str, ...]] = {
    str: ("kit", "student", "created", "profile"),
    (str, type(None)): ("name",),
    bool: ("complete",),
    list: ("missing",),
    dict: ("machine", "files"),
}


def manifest_faults(values: Mapping[str, Any]) -> list[str]:
    """What of a manifest is not as this version of the kit writes it, a sentence each."""
    if values.get("schema") != SCHEMA:
        return [f"{MANIFEST} is of another version of the kit: schema {values.get('schema')!r:.40}"]
    faults = [
        f"{MANIFEST} has no usable {name!r}: {values.get(name)!r:.80}"
        for kind, names in _TYPES.items()
        for name in names
        if name not in values or not isinstance(values[name], kind)
    ]
    if faults:
        return faults
    if not all(isinstance(one, str) for one in (*values["missing"], *values["files"].values())):
        faults.append(f"{MANIFEST} has a damaged list")
    try:
        has_zone = datetime.datetime.fromisoformat(values["created"]).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        faults.append(f"{MANIFEST} does not say when it was packed: {values['created']!r:.80}")
    return faults


def handin_name(student: str) -> str:
    """The file name of a student's hand-in.

    An id of plain characters stands in it as it is. Any other one gets the beginning of its hash,
    so that two ids do not end up under one name.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", student)[:64]
    if plain != student:
        plain += f"-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"submission-{plain}.zip"


def write_handin(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write the hand-in of a manifest and its files, sorted and with a fixed date.

    Args:
        folder: Where to.
        manifest: It gets the hashes of the files.
        files: From the path in the hand-in to the content.

    Returns:
        The path of the zip file.

    Raises:
        KitError: It cannot be written.
    """
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())}
    text = dataclasses.replace(manifest, files=hashes).as_json()
    target = folder / handin_name(manifest.student)
    with written_atomically(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path, data in sorted({**files, MANIFEST: text.encode()}.items()):
            info = zipfile.ZipInfo(path, _DATE_IN_ZIP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return target
