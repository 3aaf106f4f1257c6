"""The grade book: a row for every hand-in, a column for every line of the rubric."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursekit.grading.case import Case
from coursekit.grading.cells import clean, decode
from coursekit.grading.evidence import Finding, look
from coursekit.grading.read import accuracy_of, dig, number_of, text_of
from coursekit.grading.rerun import RAN, Rerun
from coursekit.grading.rubric import Line, Rubric
from coursekit.grading.similarity import Material, material_of
from coursekit.grading.tampering import Flag, flags_of
from coursekit.notebooks import METHOD_OF
from helpers.errors import KitError
from helpers.lib.files import write_text

TO_READ = "to read"
_FORMULA = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # noqa: RUF001 (wide ones, too)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass
class Run:
    """One method of one student, for the class as an experiment."""

    accuracy: float  # counted from the predictions
    val_accuracy: float | None
    seconds: float | None  # of training
    seed: str
    device: str
    profile: str
    data: str


@dataclass
class Grade:
    """Everything that is known of one hand-in when it has been looked at."""

    place: str
    student: str = ""
    name: str = ""
    profile: str = ""
    created: str = ""
    late: str = ""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the instructor alone
    findings: dict[str, Finding] = field(default_factory=dict)  # by the key of the rubric's line
    answers: dict[str, str] = field(default_factory=dict)  # by question
    runs: dict[str, Run] = field(default_factory=dict)  # by method
    flags: list[Flag] = field(default_factory=list)
    given: dict[str, tuple[float, str]] = field(default_factory=dict)  # a person's points, comment
    material: Material = field(default_factory=Material)
    page: str = ""  # the name of the feedback page, without its ending
    reruns: list[Rerun] = field(
        default_factory=list
    )  # of its notebooks; [] when none was asked for

    @property
    def was_read(self) -> bool:
        """Whether there was anything to grade; else a person has to ask for another file."""
        return bool(self.findings)

    @property
    def remarks(self) -> str:
        """What was noticed, for the instructor."""
        return "; ".join([*self.faults, *self.notes])

    def points(self, line: Line) -> float | None:
        """The points for a line, None while they wait for a person."""
        if line.key in self.given:
            return self.given[line.key][0]
        finding = self.findings.get(line.key, Finding(0))
        return None if finding.share is None else round(line.points * finding.share, 2)

    def total(self, rubric: Rubric) -> float:
        """The points that are settled."""
        return round(sum(self.points(line) or 0.0 for line in rubric.lines), 2)

    def shown_total(self, rubric: Rubric) -> str:
        """The total for a table, "" when there was nothing to grade, which is not 0."""
        return number(self.total(rubric)) if self.was_read else ""

    def waiting(self, rubric: Rubric) -> float:
        """The most points that a person may still give."""
        return sum(line.points for line in rubric.lines if self.points(line) is None)


def grade_case(case: Case, rubric: Rubric, template_code: Any) -> Grade:
    """Look at one hand-in by itself."""
    hand_in = case.hand_in
    grade = Grade(
        place=hand_in.place,
        student=hand_in.student,
        name=hand_in.name,
        profile=hand_in.profile,
        created=hand_in.created.isoformat(timespec="seconds") if hand_in.created else "",
        late=lateness(hand_in.created, rubric.due),
        faults=list(hand_in.faults),
    )
    if not hand_in.notebooks and not hand_in.records:
        return grade
    grade.findings = {line.key: look(case, line) for line in rubric.lines}
    grade.answers = case.answers
    grade.runs = dict(_runs(case))
    grade.flags = flags_of(case)
    grade.material = material_of(case, template_code)
    return grade


def _runs(case: Case) -> Iterable[tuple[str, Run]]:
    for method, record in case.hand_in.records.items():
        measured = case.measured(method)
        if measured is not None and not measured.fault and measured.total:
            yield (
                method,
                Run(
                    accuracy=measured.accuracy,
                    val_accuracy=accuracy_of(record, "val"),
                    seconds=number_of(record.get("training_seconds")),
                    seed=str(record.get("seed"))[:20],
                    device=text_of(dig(record, "machine", "device"))[:20],
                    profile=text_of(record.get("profile"))[:20],
                    data=text_of(dig(record, "data", "fingerprint"))[:64],
                ),
            )


def lateness(created: datetime.datetime | None, due: datetime.datetime | None) -> str:
    """How late a hand-in was packed, "" when it was in time or nobody asks."""
    if created is None or due is None or created <= due:
        return ""
    minutes = int((created - due).total_seconds() // 60)
    days, hours = divmod(minutes // 60, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def name_pages(grades: Sequence[Grade]) -> None:
    """Give each hand-in a file name of its own that every system allows."""
    taken: set[str] = set()
    for grade in grades:
        base = re.sub(r"[^A-Za-z0-9._-]+", "_", grade.student or grade.place).strip("._-")[:80]
        if not base or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", base):
            base = f"hand-in-{base}".rstrip("-")
        name, number = base, 1
        while name.lower() in taken:  # some systems do not tell "S1" from "s1"
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        grade.page = name


def note_doubles(grades: Sequence[Grade]) -> None:
    """Say so where several hand-ins name the same student."""
    owners: dict[str, list[Grade]] = {}
    for grade in grades:
        if grade.student:
            owners.setdefault(grade.student, []).append(grade)
    for student, several in owners.items():
        for grade in several:
            others = sorted(other.place for other in several if other is not grade)
            if others:
                # Not a fault: the student's page must not name what others have handed in.
                grade.notes.append(f"{student} handed in more than once: also {', '.join(others)}")


def grades_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """The table of grades.csv: a heading, then a row a hand-in."""
    head = ["student", "name", "hand_in", "status", "profile", "created", "late"]
    head += [line.key for line in rubric.lines]
    head += ["total", "to_read", "of", "rerun", "remarks", "flags"]
    rows = [head]
    for grade in grades:
        row = [grade.student, grade.name, grade.place, status(grade), grade.profile]
        row += [grade.created, grade.late]
        if grade.was_read:
            row += [_cell(grade.points(line)) for line in rubric.lines]
            row += [grade.shown_total(rubric), number(grade.waiting(rubric))]
        else:  # nothing, not 0: it has not been graded
            row += [""] * (len(rubric.lines) + 2)
        row += [number(rubric.points), rerun_text(grade)]
        row += [grade.remarks, "; ".join(flag_text(flag) for flag in grade.flags)]
        rows.append(row)
    return rows


def status(grade: Grade) -> str:
    """What a person has to do with a row."""
    if not grade.was_read:
        return "needs a person: could not be graded"
    if grade.flags:
        return "needs a person: look at the flags"
    return "graded with remarks" if grade.remarks else "graded"


def rerun_text(grade: Grade) -> str:
    """What came of executing a hand-in again, in one line; "" when nobody asked for it."""
    if not grade.reruns:
        return ""
    failed = [rerun for rerun in grade.reruns if rerun.outcome != RAN]
    ran = f"{len(grade.reruns) - len(failed)} of {len(grade.reruns)} notebooks ran"
    return "; ".join([ran, *(f"{rerun.notebook} {rerun.outcome}" for rerun in failed)])


def rerun_rows(grade: Grade) -> list[dict[str, str]]:
    """What came of each notebook, beside what was handed in, as rows of a table."""
    rows = []
    for rerun in grade.reruns:
        run = grade.runs.get(METHOD_OF.get(rerun.notebook, ""))
        rows.append(
            {
                "Notebook": rerun.notebook,
                "Outcome": rerun.outcome,
                "Seconds": number(rerun.seconds),
                "Accuracy, run again on mini": _percent(rerun.accuracy),
                "Accuracy, handed in": _percent(run.accuracy if run else None),
                "Handed in on": run.profile if run else "",
            }
        )
    return rows


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.1%}"


def flag_text(flag: Flag) -> str:
    """A flag as one line of text."""
    return f"[{flag.kind}] {flag.text}" + (f" (with {flag.other})" if flag.other else "")


def _cell(points: float | None) -> str:
    return TO_READ if points is None else number(points)


def number(value: float) -> str:
    """Points as a person writes them: "3", "2.5", "0.67"."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a table as UTF-8 with lines that every spreadsheet reads; raises `KitError`.

    A text that a spreadsheet would compute as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([harmless(cell) for cell in r] for r in rows)
    write_text(path, text.getvalue())


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs and every program reads."""
    cell = _CONTROL.sub(" ", clean(cell)).replace("\r", " ").replace("\n", " ")
    return f"'{cell}" if cell.lstrip().startswith(_FORMULA) else cell


def points_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """A table to fill in while reading: a row for each answer line, with room for the points."""
    rows = [["hand_in", "student", "line", "of", "points", "comment"]]
    for grade in grades:
        for line in rubric.lines:
            finding = grade.findings.get(line.key)
            open_line = finding is not None and finding.share is None
            if open_line or line.key in grade.given:
                points, comment = grade.given.get(line.key, (None, ""))
                shown = "" if points is None else number(points)
                row = [grade.place, grade.student, line.key, number(line.points), shown, comment]
                rows.append(row)
    return rows


def read_points(path: Path, rubric: Rubric) -> dict[str, dict[str, tuple[float, str]]]:
    """What a person gave: hand-in -> line of the rubric -> points and comment.

    Raises `KitError` that names the line of the table and what is wrong with it.
    """
    try:
        text, _ = decode(Path(path).read_bytes())
    except OSError as error:
        raise KitError(f"cannot read the points {path}: {error.strerror or error}") from None
    # Some countries' spreadsheets save with semicolons.
    mark = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    lines = {line.key: line for line in rubric.lines}
    given: dict[str, dict[str, tuple[float, str]]] = {}
    for place, row in enumerate(_rows(text, mark, path), start=2):
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
        comment = (row.get("comment") or "").strip()
        given.setdefault(hand_in, {})[key] = (points, comment)
    return given


def _rows(text: str, mark: str, path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(text), delimiter=mark))
    except csv.Error as error:
        raise KitError(f"{path} is no table that can be read ({error})") from None


def give_points(
    grades: Sequence[Grade], given: Mapping[str, Mapping[str, tuple[float, str]]], path: Path
) -> None:
    """Put a person's points into the grade book; raises `KitError` for an unknown hand-in."""
    by_place = {harmless(grade.place).removeprefix("'"): grade for grade in grades}
    for place, lines in given.items():
        if place not in by_place:
            raise KitError(f"{path} has points for {place!r}, which is not among the hand-ins")
        by_place[place].given = dict(lines)
