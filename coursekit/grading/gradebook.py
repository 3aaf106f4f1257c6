"""The grade book: what is known of each hand-in, and the points that follow from it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from coursekit.grading.case import Case
from coursekit.grading.evidence import Finding, look
from coursekit.grading.material import Material, material_of
from coursekit.grading.rerun import RAN, Rerun
from coursekit.grading.rubric import Line, Rubric
from coursekit.grading.tampering import Flag, flags_of
from coursekit.grading.values import dig, number_of, text_of
from coursekit.notebooks import METHOD_OF

_NO_FILE_NAME = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # on Windows


@dataclass
class Run:
    """One method of one student, for the class as an experiment."""

    accuracy: float  # counted from the predictions
    seconds: float | None  # of training
    profile: str
    data: str  # fingerprint


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
    reruns: list[Rerun] = field(default_factory=list)  # of its notebooks; [] when not wanted

    @property
    def was_read(self) -> bool:
        """Whether there was anything to grade; else a person has to ask for another file."""
        return bool(self.findings)

    @property
    def remarks(self) -> str:
        """What was noticed, for the instructor."""
        return "; ".join([*self.faults, *self.notes])

    @property
    def status(self) -> str:
        """What a person has to do with it."""
        if not self.was_read:
            return "needs a person: could not be graded"
        if self.flags:
            return "needs a person: look at the flags"
        return "graded with remarks" if self.remarks else "graded"

    def points(self, line: Line) -> float | None:
        """The points for a line, None while they wait for a person."""
        if line.key in self.given:
            return self.given[line.key][0]
        finding = self.findings.get(line.key, Finding(0))
        return None if finding.fraction is None else round(line.points * finding.fraction, 2)

    def settled(self, lines: Sequence[Line]) -> float:
        """The points for lines, as far as they are settled."""
        return round(sum(self.points(line) or 0.0 for line in lines), 2)

    def total(self, rubric: Rubric) -> float:
        """The points that are settled."""
        return self.settled(rubric.lines)

    def shown_total(self, rubric: Rubric) -> str:
        """The total for a table, "" when there was nothing to grade, which is not 0."""
        return number(self.total(rubric)) if self.was_read else ""

    def waiting(self, rubric: Rubric) -> float:
        """The most points that a person may still give."""
        return sum(line.points for line in rubric.lines if self.points(line) is None)

    @property
    def rerun_text(self) -> str:
        """What came of executing it again, in one line; "" when nobody wanted it."""
        if not self.reruns:
            return ""
        failed = [rerun for rerun in self.reruns if rerun.outcome != RAN]
        ran = f"{len(self.reruns) - len(failed)} of {len(self.reruns)} notebooks ran"
        return "; ".join([ran, *(f"{rerun.notebook} {rerun.outcome}" for rerun in failed)])

    def rerun_rows(self) -> list[dict[str, str]]:
        """What came of each notebook, beside what was handed in, as rows of a table."""
        rows = []
        for rerun in self.reruns:
            run = self.runs.get(METHOD_OF.get(rerun.notebook, ""))
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


def number(value: float) -> str:
    """Points as a person writes them: "3", "2.5", "0.67"."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def grade_case(case: Case, rubric: Rubric, template_code: np.ndarray) -> Grade:
    """Look at one hand-in by itself; `template_code` is what `material_of` needs."""
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
    if hand_in.notebooks or hand_in.records:
        grade.findings = {line.key: look(case, line) for line in rubric.lines}
        grade.answers = case.answers
        grade.runs = dict(_runs(case))
        grade.flags = flags_of(case)
        grade.material = material_of(case, template_code)
    return grade


def _runs(case: Case) -> Iterator[tuple[str, Run]]:
    for method, record in case.hand_in.records.items():
        measured = case.measured(method)
        if measured is not None and not measured.fault and measured.total:
            seconds = number_of(record.get("training_seconds"))
            profile = text_of(record.get("profile"))[:20]
            data = text_of(dig(record, "data", "fingerprint"))[:64]
            yield method, Run(measured.accuracy, seconds, profile, data)


def lateness(created: datetime.datetime | None, due: datetime.datetime | None) -> str:
    """How late a hand-in was packed, "" when it was in time or nobody cares."""
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
        if not base or _NO_FILE_NAME.fullmatch(base):
            base = f"hand-in-{base}".rstrip("-")
        name, count = base, 1
        while name.lower() in taken:  # some systems do not tell "S1" from "s1"
            count += 1
            name = f"{base}-{count}"
        taken.add(name.lower())
        grade.page = name


def note_doubles(grades: Sequence[Grade]) -> None:
    """Say so where several hand-ins name the same student."""
    owners: dict[str, list[Grade]] = {}
    for grade in grades:
        owners.setdefault(grade.student, []).append(grade)
    owners.pop("", None)
    for student, several in owners.items():
        for grade in several:
            others = sorted(other.place for other in several if other is not grade)
            if others:
                # Not a fault: the student's page must not name what others have handed in.
                grade.notes.append(f"{student} handed in more than once: also {', '.join(others)}")
