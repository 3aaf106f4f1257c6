"""One hand-in, read: its manifest, notebooks, records, predictions and log. Nothing is run.

Whatever is missing or damaged becomes a sentence in `faults`, and the rest is read all the same.
"""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coursekit.grading.archive import MB, MOST_IN_ONE, Archive, HandInError
from coursekit.grading.cells import (
    PLAIN,
    Notebook,
    closest,
    decode,
    parse_json,
    parse_notebook,
)
from coursekit.grading.find import Place, guess_student
from coursekit.grading.slim import slim_json
from coursekit.grading.values import text_of, time_of
from coursekit.handin.log import read_log
from coursekit.handin.package import MANIFEST, manifest_faults
from helpers.lib.cell_log import Entry
from helpers.lib.records import SCHEMAS, Predictions, parse_predictions, record_fault
from helpers.recipes import METHODS

MOST_JSON = 4 * MB
MOST_TABLE = 64 * MB
MOST_LOG = 16 * MB
MOST_FAULTS = 30  # that are told
LEAST_LIKENESS = 0.2  # of a notebook to the template that a renamed one may be
TEXT_LIMIT = 200  # characters of an id or a name
NETWORKS = (".pt", ".pt2")  # endings of files that a grader has no business with


@dataclass
class HandIn:
    """All that was handed in, as far as it can be read."""

    place: str  # its name among the hand-ins
    student: str = ""
    name: str = ""
    created: datetime.datetime | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    notebooks: dict[str, Notebook] = field(default_factory=dict)  # by number, as "03"
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # by method
    predictions: dict[str, Predictions] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)  # of the tables of predictions, by method
    log: list[Entry] | None = None
    changed: list[str] = field(default_factory=list)  # files that are not what the manifest says
    faults: list[str] = field(default_factory=list)

    @property
    def profile(self) -> str:
        """The profile of its records, "" when there is none or they disagree."""
        profiles = {text_of(record.get("profile")) for record in self.records.values()}
        return profiles.pop() if len(profiles) == 1 else ""


def read_hand_in(place: Place, templates: Mapping[str, Notebook]) -> HandIn:
    """Read a hand-in; never raises for what a student handed in."""
    hand_in = HandIn(place.name)
    try:
        with place.open() as archive:
            archive.check_size()
            hand_in.faults += archive.faults
            _read_manifest(archive, hand_in)
            _read_notebooks(archive, hand_in, templates)
            for method in METHODS:
                _read_result(archive, hand_in, method)
            _read_log(archive, hand_in)
            _check_hashes(archive, hand_in)
    except HandInError as error:
        hand_in.faults.append(f"it could not be read: {error}")
    _find_student(hand_in)
    more = len(hand_in.faults) - MOST_FAULTS
    hand_in.faults = [_shown(fault) for fault in hand_in.faults[:MOST_FAULTS]]
    hand_in.faults += [f"and {more} more"] * (more > 0)
    return hand_in


def _shown(text: str) -> str:
    return text if len(text) <= 300 else f"{text:.297}..."


def _find_student(hand_in: HandIn) -> None:
    """The id from the manifest, else from the records, else from the file's name."""
    ids = [hand_in.manifest.get("student")]
    ids += [record.get("student") for record in hand_in.records.values()]
    known = [text_of(value)[:TEXT_LIMIT] for value in ids if text_of(value)]
    hand_in.student = known[0] if known else guess_student(hand_in.place)
    if len(set(known)) > 1:
        hand_in.faults.append(f"it names several students: {', '.join(sorted(set(known)))}")
    if not known:
        said = f"; the name of its file says {hand_in.student}" if hand_in.student else ""
        hand_in.faults.append(f"it names no student{said}")


def _read_manifest(archive: Archive, hand_in: HandIn) -> None:
    manifest = _json_of(archive, MANIFEST, hand_in)
    if manifest is None:
        return
    hand_in.manifest = manifest
    hand_in.name = text_of(manifest.get("name"))[:TEXT_LIMIT]
    hand_in.created = time_of(manifest.get("created"))
    hand_in.faults += manifest_faults(manifest)
    if manifest.get("complete") is not True:
        missing = manifest.get("missing")
        said = [text_of(line)[:TEXT_LIMIT] for line in missing] if isinstance(missing, list) else []
        hand_in.faults.append("; ".join(["it was handed in incomplete", *filter(None, said)]))


def _json_of(archive: Archive, name: str, hand_in: HandIn) -> dict[str, Any] | None:
    """An object from a JSON file; None, and a fault, when there is none."""
    if name not in archive.names:
        hand_in.faults.append(f"{name} is missing")
        return None
    try:
        value, oddity = parse_json(archive.read(name, MOST_JSON))
    except HandInError as error:
        hand_in.faults.append(f"{name}: {error}")
        return None
    if oddity:
        hand_in.faults.append(f"{name}: {oddity}")
    if not isinstance(value, dict):
        hand_in.faults.append(f"{name} holds no object")
        return None
    return value


def _read_notebooks(archive: Archive, hand_in: HandIn, templates: Mapping[str, Notebook]) -> None:
    """Every notebook file, put to the template it belongs to: by its name, else by its cells."""
    candidates: dict[str, list[tuple[float, Notebook]]] = {number: [] for number in templates}
    for name in sorted(name for name in archive.names if name.lower().endswith(".ipynb")):
        notebook = _notebook_of(archive, name, hand_in)
        if notebook is None:
            continue
        number, likeness = closest(notebook, templates)
        if likeness < LEAST_LIKENESS:
            hand_in.faults.append(f"{name} is none of the assignment's notebooks")
            continue
        candidates[number].append((likeness, notebook))
        if posixpath.basename(name) != templates[number].name:
            hand_in.faults.append(f"{name} is read as {templates[number].name}, renamed")
    for number, found in candidates.items():
        wanted = templates[number].name
        if not found:
            hand_in.faults.append(f"{wanted} is missing")
            continue
        if len(found) > 1:
            names = ", ".join(notebook.name for _, notebook in found)
            hand_in.faults.append(f"{wanted} is there {len(found)} times: {names}")
        named = [one for one in found if posixpath.basename(one[1].name) == wanted]
        hand_in.notebooks[number] = max(named or found, key=lambda one: one[0])[1]


def _notebook_of(archive: Archive, name: str, hand_in: HandIn) -> Notebook | None:
    cut = False
    try:
        if archive.names[name] <= PLAIN:
            data = archive.read(name, PLAIN)
        else:
            data, cut = slim_json(archive.blocks(name, MOST_IN_ONE))
        notebook = parse_notebook(name, data)
    except HandInError as error:
        hand_in.faults.append(f"{name}: {error}")
        return None
    if cut:
        size = archive.names[name] / MB
        notebook.faults.append(f"it has {size:,.0f} MB: the longest outputs were left out")
    hand_in.faults += [f"{name}: {fault}" for fault in notebook.faults]
    return notebook


def _read_result(archive: Archive, hand_in: HandIn, method: str) -> None:
    """A method's record and predictions, wherever below results/ they lie."""
    ending = f"/{method}/record.json"
    names = sorted(name for name in archive.names if f"/{name}".endswith(ending))
    if not names:
        hand_in.faults.append(f"results{ending} is missing")
        return
    record = _json_of(archive, names[0], hand_in)
    if record is None:
        return
    hand_in.records[method] = record
    if record.get("schema") not in SCHEMAS or record.get("method") != method:
        hand_in.faults.append(f"{names[0]}: it is no record of {method} that can be read here")
    if fault := record_fault(record):
        hand_in.faults.append(f"{names[0]}: {fault}")
    table = posixpath.join(posixpath.dirname(names[0]), "predictions.csv")
    if table not in archive.names:
        hand_in.faults.append(f"{table} is missing")
        return
    try:
        hand_in.hashes[method] = archive.digest(table)
        hand_in.predictions[method] = predictions_of(archive.read(table, MOST_TABLE))
    except HandInError as error:
        hand_in.faults.append(f"{table}: {error}")


def predictions_of(data: bytes) -> Predictions:
    """The table of predictions from the bytes of its file; raises `HandInError`."""
    try:
        return parse_predictions(decode(data)[0])
    except ValueError as error:
        raise HandInError(str(error)) from None


def _read_log(archive: Archive, hand_in: HandIn) -> None:
    names = sorted(name for name in archive.names if re.search(r"(^|/)log\.jsonl$", name))
    if not names:
        hand_in.faults.append("results/log.jsonl is missing")
        return
    try:
        hand_in.log, damaged = read_log(decode(archive.read(names[0], MOST_LOG))[0])
    except HandInError as error:
        hand_in.faults.append(f"{names[0]}: {error}")
        return
    if damaged:
        hand_in.faults.append(f"{names[0]}: {damaged} of its lines are damaged")


def _check_hashes(archive: Archive, hand_in: HandIn) -> None:
    """Note the files that are not what the manifest says; those it does not name are let be."""
    files = hand_in.manifest.get("files")
    for name, wanted in sorted(files.items()) if isinstance(files, dict) else ():
        if name not in archive.names:
            hand_in.faults.append(f"{text_of(name)[:TEXT_LIMIT]} is in the manifest but not there")
        elif not name.endswith(NETWORKS) and archive.digest(name) != wanted:
            hand_in.changed.append(name)
