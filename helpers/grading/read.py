"""One hand-in, read: its manifest, notebooks, records, predictions and log. Nothing is run.

Whatever is missing or damaged becomes a sentence in `faults`, and the rest is read all the same.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import json
import math
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..recipes import METHODS
from .archive import MB, MOST_IN_ONE, Archive, HandInError
from .cells import PLAIN, Notebook, clean, closest, decode, parse_json, parse_notebook
from .find import Place, guess_student
from .handin import MANIFEST, manifest_faults
from .slim import slim_json

MOST_JSON = 4 * MB
MOST_ROWS = 100_000  # of a table of predictions
MOST_LOG = 16 * MB
MOST_FAULTS = 30  # that are told
LEAST_LIKENESS = 0.2  # of a notebook to the template that a renamed one may be
TEXT_LIMIT = 200  # characters of an id or a name
LONGEST_PICTURE = 1_000  # characters of a picture's id: a path, and a file's name may have 255


@dataclass
class Predictions:
    """The table of one method's predictions, a line a test picture."""

    pictures: list[str]
    labels: np.ndarray  # (pictures,) as the student's file has them
    guesses: np.ndarray  # (pictures,)
    chances: np.ndarray  # (pictures,) probability of the guess in 1/10,000, as it is written
    sha256: str

    @property
    def correct(self) -> int:
        return int((self.labels == self.guesses).sum())


@dataclass
class LogLine:
    """One executed cell, as the log has it."""

    notebook: str
    cell: str
    count: int | None
    time: datetime.datetime | None
    seconds: float
    ok: bool
    session: str


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
    log: list[LogLine] | None = None
    changed: list[str] = field(default_factory=list)  # files that are not what the manifest says
    faults: list[str] = field(default_factory=list)

    @property
    def profile(self) -> str:
        """The profile of its records, "" when there is none or they disagree."""
        profiles = {text_of(record.get("profile")) for record in self.records.values()}
        return profiles.pop() if len(profiles) == 1 else ""


def read_hand_in(place: Place, templates: dict[str, Notebook]) -> HandIn:
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
    hand_in.faults = [_shown(fault, 300) for fault in hand_in.faults[:MOST_FAULTS]]
    hand_in.faults += [f"and {more} more"] * (more > 0)
    return hand_in


def _find_student(hand_in: HandIn) -> None:
    """The id from the manifest, else from the records, else from the file's name."""
    ids = [hand_in.manifest.get("student")]
    ids += [record.get("student") for record in hand_in.records.values()]
    known = [text_of(value)[:TEXT_LIMIT] for value in ids if text_of(value)]
    hand_in.student = known[0] if known else guess_student(hand_in.place) or ""
    if len(set(known)) > 1:
        hand_in.faults.append(f"it names several students: {', '.join(sorted(set(known)))}")
    if not known:
        hand_in.faults.append("it names no student" + (
            f"; the name of its file says {hand_in.student}" if hand_in.student else ""
        ))  # fmt: skip


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


def _read_notebooks(archive: Archive, hand_in: HandIn, templates: dict[str, Notebook]) -> None:
    """Every notebook file, put to the template it belongs to: by its name, else by its cells."""
    candidates: dict[str, list[tuple[float, Notebook]]] = {}
    for name in sorted(name for name in archive.names if name.lower().endswith(".ipynb")):
        notebook = _notebook_of(archive, name, hand_in)
        if notebook is None:
            continue
        number, likeness = closest(notebook, templates)
        if likeness < LEAST_LIKENESS:
            hand_in.faults.append(f"{name} is none of the assignment's notebooks")
            continue
        candidates.setdefault(number, []).append((likeness, notebook))
        if posixpath.basename(name) != templates[number].name:
            hand_in.faults.append(f"{name} is taken for {templates[number].name}, renamed")
    for number, template in templates.items():
        found = candidates.get(number, [])
        if not found:
            hand_in.faults.append(f"{template.name} is missing")
            continue
        if len(found) > 1:
            names = ", ".join(notebook.name for _, notebook in found)
            hand_in.faults.append(f"{template.name} is there {len(found)} times: {names}")
        named = [one for one in found if posixpath.basename(one[1].name) == template.name]
        hand_in.notebooks[number] = max(named or found, key=lambda one: one[0])[1]


def _notebook_of(archive: Archive, name: str, hand_in: HandIn) -> Notebook | None:
    cut = False
    try:
        if archive.names[name] <= PLAIN:
            data = archive.read(name, PLAIN)
        else:
            with archive.reading(name, MOST_IN_ONE) as stream:
                data, cut = slim_json(stream.read)
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
    ends = (f"/{method}/record.json", f"{method}/record.json")
    names = sorted(n for n in archive.names if n == ends[1] or n.endswith(ends[0]))
    if not names:
        hand_in.faults.append(f"results/{method}/record.json is missing")
        return
    record = _json_of(archive, names[0], hand_in)
    if record is None:
        return
    hand_in.records[method] = record
    hand_in.faults += [f"{names[0]}: {fault}" for fault in record_faults(record, method)]
    table = posixpath.join(posixpath.dirname(names[0]), "predictions.csv")
    if table not in archive.names:
        hand_in.faults.append(f"{table} is missing")
        return
    try:
        data = archive.read(table, 64 * MB)
        hand_in.predictions[method] = parse_predictions(data, archive.digest(table))
    except HandInError as error:
        hand_in.faults.append(f"{table}: {error}")


def parse_predictions(data: bytes, sha256: str) -> Predictions:
    """The table of predictions from the bytes of its file; raises `HandInError`."""
    text, _ = decode(data)
    try:
        rows = csv.reader(io.StringIO(text))
        head = next(rows, [])
        columns = [head.index(name) for name in ("picture", "label", "prediction", "probability")]
        taken = list(itertools.islice(rows, MOST_ROWS + 1))
        if len(taken) > MOST_ROWS:
            raise HandInError(f"more than {MOST_ROWS:,} lines")
        pictures, labels, guesses, chances = ([row[column] for row in taken] for column in columns)
        if max(map(len, pictures), default=0) > LONGEST_PICTURE:
            raise HandInError("a picture has too long a name")
        probability = np.array(chances, dtype=float)
        if not np.isfinite(probability).all():
            raise HandInError("a probability is not a number")
        return Predictions(
            pictures,
            np.array(labels, dtype=np.int32),
            np.array(guesses, dtype=np.int32),
            np.rint(np.clip(probability, 0, 1) * 10_000).astype(np.int16),
            sha256,
        )
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise HandInError(f"its lines are not as the kit writes them ({error})") from None


def _read_log(archive: Archive, hand_in: HandIn) -> None:
    names = sorted(name for name in archive.names if re.search(r"(^|/)log\.jsonl$", name))
    if not names:
        hand_in.faults.append("results/log.jsonl is missing")
        return
    try:
        text, _ = decode(archive.read(names[0], MOST_LOG))
    except HandInError as error:
        hand_in.faults.append(f"{names[0]}: {error}")
        return
    hand_in.log, damaged = [], 0
    for line in filter(str.strip, text.splitlines()):
        try:
            raw = json.loads(line)
            hand_in.log.append(_log_line(raw))
        except (ValueError, AttributeError, RecursionError):
            damaged += 1
    if damaged:
        hand_in.faults.append(f"{names[0]}: {damaged} of its lines are damaged")


def _log_line(raw: dict[str, Any]) -> LogLine:
    return LogLine(
        notebook=posixpath.basename(text_of(raw.get("notebook"))),
        cell=text_of(raw.get("cell")),
        count=raw.get("count") if isinstance(raw.get("count"), int) else None,
        time=time_of(raw.get("time")),
        seconds=number_of(raw.get("seconds")) or 0.0,
        ok=raw.get("ok") is True,
        session=text_of(raw.get("session")),
    )


def _check_hashes(archive: Archive, hand_in: HandIn) -> None:
    """Note the files that are not what the manifest says; those it does not name are let be."""
    files = hand_in.manifest.get("files")
    if not isinstance(files, dict):
        return
    for name, wanted in sorted(files.items()):
        if name not in archive.names:
            hand_in.faults.append(f"{text_of(name)[:TEXT_LIMIT]} is in the manifest but not there")
        elif archive.digest(name) != wanted:
            hand_in.changed.append(name)


def record_faults(record: dict[str, Any], method: str) -> list[str]:
    """What is wrong with a record's numbers, a sentence each."""
    faults = []
    if record.get("schema") != 1 or record.get("method") != method:
        faults.append(f"it is no record of {method} by this version of the kit")
    for path, most in (
        (("test", "accuracy"), 1.0), (("val", "accuracy"), 1.0), (("training_seconds",), math.inf),
        (("test", "correct"), math.inf), (("test", "total"), math.inf), (("epochs",), math.inf),
    ):  # fmt: skip
        value = dig(record, *path)
        number = number_of(value)
        if number is None or not 0 <= number <= most:
            limits = "between 0 and 1" if most == 1 else "that is not negative"
            faults.append(f"{'.'.join(path)} is {_shown(repr(value))}, not a number {limits}")
    return faults


def dig(value: Any, *path: str) -> Any:
    """A value deep in nested objects, None when there is no such path."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_of(value: Any) -> float | None:
    """A finite number, None for anything else (texts and truth values are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def accuracy_of(record: dict[str, Any] | None, split: str = "test") -> float | None:
    """The accuracy in a record, None when it is none."""
    value = number_of(dig(record, split, "accuracy"))
    return value if value is not None and 0 <= value <= 1 else None


def text_of(value: Any) -> str:
    """A text that can be written as UTF-8, "" for anything else."""
    return clean(value) if isinstance(value, str) else ""


def time_of(value: Any) -> datetime.datetime | None:
    """A time with its zone (UTC when none is named), None when it is none."""
    try:
        # Python 3.10 does not know the "Z" of ISO 8601.
        time = datetime.datetime.fromisoformat(re.sub("Z$", "+00:00", text_of(value)))
        time = time.replace(tzinfo=time.tzinfo or datetime.timezone.utc)
        return time.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        return None


def _shown(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
