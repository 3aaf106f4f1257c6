"""The rubric: sections for the tasks of the assignment, lines with points, what each looks at."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.errors import KitError
from helpers.recipes import METHODS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = Path(__file__).with_name("default_rubric.toml")
# What a line may look at, and the settings that each of them needs.
LOOKS: dict[str, tuple[str, ...]] = {
    "profile": (),
    "fingerprint": (),
    "sizes": ("notebook",),
    "ran": ("notebook",),
    "figures": ("notebook", "calls"),
    "printed": ("notebook", "calls"),
    "history": ("method",),
    "epochs": ("method", "notebook"),
    "printed_accuracy": ("method", "notebook"),
    "predictions": ("method",),
    "accuracy": ("method", "bands"),
    "table": ("notebook",),
    "answers": ("notebook", "questions"),
}
OPTIONAL = ("hint",)
MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Line:
    """One line of the rubric: so many points for what `look` finds."""

    key: str
    title: str
    points: float
    look: str
    notebook: str = ""  # its number, as "03"
    method: str = ""
    calls: tuple[str, ...] = ()  # names of functions whose cells are looked at
    questions: tuple[int, ...] = ()
    bands: tuple[tuple[float, float], ...] = ()  # (accuracy, share of the points), rising
    hint: str = ""  # told to a student who does not get all of it

    @property
    def is_read(self) -> bool:
        """Whether a person reads it; the machine gives no points for it."""
        return self.look == "answers"


@dataclass(frozen=True)
class Section:
    """One task of the assignment."""

    task: str
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Rubric:
    """A whole rubric."""

    title: str
    due: datetime.datetime | None
    sections: tuple[Section, ...]
    digest: str = field(default="", compare=False)  # SHA-256 of its file

    @property
    def lines(self) -> list[Line]:
        return [line for section in self.sections for line in section.lines]

    @property
    def points(self) -> float:
        return sum(line.points for line in self.lines)

    @property
    def machine_points(self) -> float:
        """The points that do not wait for a person."""
        return sum(line.points for line in self.lines if not line.is_read)


def read_rubric(path: Path | None = None) -> Rubric:
    """Read a rubric, the default one without `path`.

    Raises `KitError` that names the line and the setting that is wrong.
    """
    path = Path(path or DEFAULT)
    try:
        data = path.read_bytes()
        raw = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise KitError(f"cannot read the rubric {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"the rubric {path} is not valid TOML: {error}") from None
    try:
        sections = tuple(_section(section) for section in _tables(raw, "section", "the rubric"))
        keys = [line.key for section in sections for line in section.lines]
        for key in keys:
            if keys.count(key) > 1:
                raise KitError(f"two lines have the key {key!r}: give each its own")
        return Rubric(
            title=str(raw.get("title", "The assignment")),
            due=_due(raw.get("due")),
            sections=sections,
            digest=hashlib.sha256(data).hexdigest(),
        )
    except KitError as error:
        raise KitError(f"the rubric {path}: {error}") from None


def _due(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime.datetime):
        raise KitError(f"due = {value!r} is no time: write it as 2026-05-31T23:59:00+02:00")
    return value.replace(tzinfo=value.tzinfo or datetime.timezone.utc)


def _tables(raw: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    tables = raw.get(name)
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise KitError(f"{where} has no [[{name}]]: see {DEFAULT.name} for an example")
    return tables


def _section(raw: dict[str, Any]) -> Section:
    task = str(raw.get("task", "?"))
    lines = tuple(_line(line) for line in _tables(raw, "line", f"section {task}"))
    return Section(task, str(raw.get("title", f"Task {task}")), lines)


def _line(raw: dict[str, Any]) -> Line:
    key = raw.get("key")
    if not isinstance(key, str) or not key:
        raise KitError(f"a line has no key: {raw!r}")
    where = f"line {key}"
    look, points = raw.get("look"), raw.get("points")
    if not isinstance(look, str) or look not in LOOKS:
        raise KitError(f"{where}: look = {look!r} is unknown: use one of {', '.join(LOOKS)}")
    if type(points) not in (int, float) or not 0 <= points <= MOST_POINTS:
        raise KitError(f"{where}: points = {points!r} is no number in 0 ... {MOST_POINTS:,}")
    needed = LOOKS[look]
    _check_names(raw, where, needed)
    if "method" in needed and raw["method"] not in list(METHODS):
        raise KitError(f"{where}: unknown method {raw['method']!r}: use {', '.join(METHODS)}")
    return Line(
        key=key,
        title=str(raw.get("title", key)),
        points=float(points),
        look=look,
        notebook=str(raw.get("notebook", "")),
        method=str(raw.get("method", "")),
        calls=tuple(_list(raw, "calls", str, where)),
        questions=tuple(_list(raw, "questions", int, where)),
        bands=_bands(raw.get("bands"), where) if "bands" in needed else (),
        hint=str(raw.get("hint", "")),
    )


def _check_names(raw: dict[str, Any], where: str, needed: Iterable[str]) -> None:
    missing = [name for name in needed if name not in raw]
    if missing:
        raise KitError(f"{where}: look = {raw['look']!r} needs {' and '.join(missing)}")
    unknown = sorted(set(raw) - {"key", "title", "points", "look", *needed, *OPTIONAL})
    if unknown:
        raise KitError(f"{where}: {', '.join(unknown)} is not used by look = {raw['look']!r}")


def _list(raw: dict[str, Any], name: str, kind: type, where: str) -> list[Any]:
    values = raw.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise KitError(f"{where}: {name} = {values!r} is no list of {kind.__name__}")
    return values


def _bands(value: Any, where: str) -> tuple[tuple[float, float], ...]:
    try:
        bands = tuple((float(accuracy), float(share)) for accuracy, share in value)
    except (TypeError, ValueError, OverflowError):
        bands = ()
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(bands))
    if not bands or not rising or not all(0 <= x <= 1 for band in bands for x in band):
        raise KitError(
            f"{where}: bands = {value!r} must be pairs of accuracy and share in 0 ... 1, rising"
        )
    return bands


def share_of(accuracy: float, bands: tuple[tuple[float, float], ...]) -> float:
    """The share of the points for an accuracy: straight between the bands, level outside them."""
    before = bands[0]
    if accuracy <= before[0]:
        return before[1]
    for band in bands[1:]:
        if accuracy <= band[0]:
            part = (accuracy - before[0]) / (band[0] - before[0])
            return before[1] + part * (band[1] - before[1])
        before = band
    return before[1]
