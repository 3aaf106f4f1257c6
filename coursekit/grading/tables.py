"""The tables for people: grades.csv, and points.csv, which is filled in while reading answers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coursekit.grading.cells import clean, decode
from coursekit.grading.gradebook import Grade, number
from coursekit.grading.rubric import Rubric
from helpers.errors import KitError
from helpers.lib.files import write_text

TO_READ = "to read"
_FORMULA = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # noqa: RUF001 (wide ones, too)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a table as UTF-8 with lines that every spreadsheet reads; raises `KitError`."""
    text = io.StringIO()
    table = ([harmless(cell) for cell in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(table)
    write_text(path, text.getvalue())


def harmless(cell: str) -> str:
    """A cell that every program reads; what a spreadsheet would compute gets an apostrophe."""
    cell = _CONTROL.sub(" ", clean(cell)).replace("\r", " ").replace("\n", " ")
    return f"'{cell}" if cell.lstrip().startswith(_FORMULA) else cell


def grades_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """The table of grades.csv: a heading, then a row a hand-in."""
    keys = [line.key for line in rubric.lines]
    first = ["student", "name", "hand_in", "status", "profile", "created", "late"]
    rows = [[*first, *keys, "total", "to_read", "of", "rerun", "remarks", "flags"]]
    for grade in grades:
        row = [grade.student, grade.name, grade.place, grade.status, grade.profile]
        row += [grade.created, grade.late]
        if grade.was_read:
            points = [grade.points(line) for line in rubric.lines]
            row += [TO_READ if one is None else number(one) for one in points]
            row += [grade.shown_total(rubric), number(grade.waiting(rubric))]
        else:  # nothing, not 0: it has not been graded
            row += [""] * (len(keys) + 2)
        flags = "; ".join(map(str, grade.flags))
        rows.append([*row, number(rubric.points), grade.rerun_text, grade.remarks, flags])
    return rows


def points_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """A table to fill in while reading: a row for each answer line, with space for the points."""
    rows = [["hand_in", "student", "line", "of", "points", "comment"]]
    for grade in grades:
        for line in rubric.lines:
            if line.key in grade.given or grade.points(line) is None:
                points, comment = grade.given.get(line.key, (None, ""))
                shown = "" if points is None else number(points)
                row = [grade.place, grade.student, line.key, number(line.points), shown, comment]
                rows.append(row)
    return rows


Given = dict[str, dict[str, tuple[float, str]]]


def read_points(path: Path, rubric: Rubric) -> Given:
    """Read what a person gave.

    Args:
        path: points.csv; some countries' spreadsheets save it with semicolons.
        rubric: whose lines it is about.

    Returns:
        By hand-in and key of the rubric's line, points and a comment; {} when there is no file.

    Raises:
        KitError: it names the line of the table and what is wrong with it.
    """
    if not path.exists():
        return {}
    try:
        text, _ = decode(path.read_bytes())
        head = text.partition("\n")[0]
        mark = ";" if head.count(";") > head.count(",") else ","
        rows = list(csv.DictReader(io.StringIO(text), delimiter=mark))
    except OSError as error:
        raise KitError(f"cannot read the points {path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise KitError(f"{path} is no table that can be read ({error})") from None
    lines = {line.key: line for line in rubric.lines}
    given: Given = {}
    for place, row in enumerate(rows, start=2):
        said = (row.get("points") or "").strip()
        if not said:
            continue
        key, hand_in = row.get("line") or "", (row.get("hand_in") or "").removeprefix("'")
        if key not in lines or not hand_in:
            raise KitError(f"{path}, line {place}: no line {key!r} in the rubric, or no hand_in")
        try:
            points = float(said.replace(",", "."))
        except ValueError:
            points = -1.0
        if not 0 <= points <= lines[key].points:
            most = number(lines[key].points)
            raise KitError(f"{path}, line {place}: points {said!r} are not within 0 and {most}")
        given.setdefault(hand_in, {})[key] = (points, (row.get("comment") or "").strip())
    return given


def give_points(
    grades: Sequence[Grade], given: Mapping[str, Mapping[str, tuple[float, str]]], path: Path
) -> None:
    """Put a person's points into the grade book; raises `KitError` for an unknown hand-in."""
    by_place = {harmless(grade.place).removeprefix("'"): grade for grade in grades}
    for place, lines in given.items():
        if place not in by_place:
            raise KitError(f"{path} has points for {place!r}, which is not among the hand-ins")
        by_place[place].given = dict(lines)
