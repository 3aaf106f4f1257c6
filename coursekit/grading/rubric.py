"""The rubric: sections for the tasks of the assignment, lines with points, what each looks at."""

from __future__ import annotations

import datetime
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.errors import KitError
from helpers.lib.records import FRACTION, TEXT, a_list, an_object, first_fault
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
MOST_POINTS = 1_000_000
_POINTS = {
    "type": "number",
    "minimum": 0,
    "maximum": MOST_POINTS,
    "description": f"a number in 0 ... {MOST_POINTS:,}",
}
_COMMON = {
    "key": {**TEXT, "minLength": 1},
    "title": TEXT,
    "points": _POINTS,
    "look": {"enum": list(LOOKS), "description": f"one of {', '.join(LOOKS)}"},
    "hint": TEXT,
}
_BANDS = {**a_list(a_list(FRACTION, 2)), "minItems": 1, "description": "pairs [accuracy, fraction]"}
_SETTINGS = {
    "notebook": TEXT,
    "method": {"enum": list(METHODS), "description": f"one of {', '.join(METHODS)}"},
    "calls": a_list(TEXT),
    "questions": a_list({"type": "integer", "description": "a number"}),
    "bands": _BANDS,
}
_LINES = {**a_list(an_object({})), "minItems": 1}
_SECTION = an_object({"title": TEXT, "line": _LINES}, optional=["title"])
_SECTIONS = {**a_list(_SECTION), "minItems": 1}
_RUBRIC = an_object({"title": TEXT, "section": _SECTIONS}, optional=["title"])


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
    bands: tuple[tuple[float, float], ...] = ()  # (accuracy, fraction of the points), rising
    hint: str = ""  # told to a student who does not get all of it


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

    @property
    def lines(self) -> list[Line]:
        return [line for section in self.sections for line in section.lines]

    @property
    def points(self) -> float:
        return points_of(self.lines)


def points_of(lines: Sequence[Line]) -> float:
    """The points that lines of a rubric are worth."""
    return sum(line.points for line in lines)


def read_rubric(path: Path | None = None) -> Rubric:
    """Read a rubric.

    Args:
        path: a TOML file; None is default_rubric.toml, whose head explains what may stand there.

    Returns:
        Its sections, each with its lines.

    Raises:
        KitError: it names the line and the setting that is wrong.
    """
    path = Path(path or DEFAULT)
    try:
        raw = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise KitError(f"cannot read the rubric {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"the rubric {path} is not valid TOML: {error}") from None
    try:
        _check(raw, _RUBRIC, "it is no rubric")
        sections = tuple(map(_section, raw["section"]))
        keys = [line.key for section in sections for line in section.lines]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise KitError(f"two lines have the key {twice[0]!r}: give each its own")
        return Rubric(raw.get("title", "The assignment"), _due(raw.get("due")), sections)
    except KitError as error:
        raise KitError(f"the rubric {path}: {error}") from None


def _check(raw: Any, schema: dict[str, Any], where: str) -> None:
    if fault := first_fault(raw, schema):
        raise KitError(f"{where}: {fault} (see {DEFAULT.name} for an example)")


def _due(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime.datetime):
        raise KitError(f"due = {value!r} is no time: write it as 2026-05-31T23:59:00+02:00")
    return value.replace(tzinfo=value.tzinfo or datetime.timezone.utc)


def _section(raw: dict[str, Any]) -> Section:
    task = str(raw.get("task", "?"))
    return Section(task, raw.get("title", f"Task {task}"), tuple(map(_line, raw["line"])))


def _line(raw: dict[str, Any]) -> Line:
    look = raw.get("look")
    needed = LOOKS.get(look, ()) if isinstance(look, str) else ()
    settings = {**_COMMON, **{name: _SETTINGS[name] for name in needed}}
    schema = {**an_object(settings, optional=["title", "hint"]), "additionalProperties": False}
    _check(raw, schema, f"line {raw.get('key', '?')!s:.60}")
    lists = {name: tuple(raw.get(name, ())) for name in ("calls", "questions")}
    bands = tuple((accuracy, fraction) for accuracy, fraction in raw.get("bands", ()))
    if not all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(bands)):
        raise KitError(f"line {raw['key']}: bands = {raw['bands']!r:.80} must be rising")
    return Line(**{"title": raw["key"], **raw, **lists, "bands": bands})


def fraction_of(accuracy: float, bands: Sequence[tuple[float, float]]) -> float:
    """The fraction of the points for an accuracy: straight between bands, level outside them."""
    before = bands[0]
    if accuracy <= before[0]:
        return before[1]
    for band in bands[1:]:
        if accuracy <= band[0]:
            part = (accuracy - before[0]) / (band[0] - before[0])
            return before[1] + part * (band[1] - before[1])
        before = band
    return before[1]
