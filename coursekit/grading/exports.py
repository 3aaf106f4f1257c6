"""Tables for learning systems. Only settled points are in them: read the answers first.

A hand-in that names no student cannot be imported and is left out; grades.csv has it. Of a
student with several, the last one packed counts. One that could not be graded has no points,
which is not 0 points. docs/grading.md says where the columns come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coursekit.grading.gradebook import Grade, number
from coursekit.grading.rubric import Rubric, points_of
from coursekit.grading.tables import write_csv


def write_exports(folder: Path, grades: Sequence[Grade], rubric: Rubric) -> None:
    """Write canvas.csv, moodle.csv and nbgrader.csv into `folder`."""
    counted = latest(grades)
    write_csv(folder / "canvas.csv", canvas_rows(counted, rubric))
    write_csv(folder / "moodle.csv", moodle_rows(counted, rubric))
    write_csv(folder / "nbgrader.csv", nbgrader_rows(counted, rubric))


def latest(grades: Sequence[Grade]) -> list[Grade]:
    """One hand-in a student, the last one packed, in the order of the students."""
    chosen: dict[str, Grade] = {}
    for grade in filter(lambda grade: grade.student, grades):
        before = chosen.setdefault(grade.student, grade)
        if (grade.was_read, grade.created) >= (before.was_read, before.created):
            chosen[grade.student] = grade
    return list(chosen.values())


def canvas_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """Canvas, "Import grades". The second row says how many points are possible.

    Canvas looks a student up by ID, then by the SIS columns, then by name; there is one id here,
    put into SIS Login ID.
    """
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", rubric.title]]
    rows.append(["    Points Possible", "", "", "", "", number(rubric.points)])
    for grade in grades:
        total = grade.shown_total(rubric)  # an empty cell is no score
        rows.append([grade.name or grade.student, "", "", grade.student, "", total])
    return rows


def moodle_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """Moodle, "Import > CSV file": ID number, the assignment, and its feedback.

    Who has no points is left out, since Moodle takes an empty grade of a new item for 0.
    """
    rows = [["ID number", rubric.title, "Feedback"]]
    for grade in filter(lambda grade: grade.was_read, grades):
        parts = [
            f"task {section.task}: {number(grade.settled(section.lines))}/"
            f"{number(points_of(section.lines))}"
            for section in rubric.sections
        ]
        rows.append([grade.student, grade.shown_total(rubric), "; ".join(parts)])
    return rows


def nbgrader_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """The columns of `nbgrader export`'s grades.csv. No points are ever taken for lateness."""
    head = "assignment,duedate,timestamp,student_id,last_name,first_name,email,raw_score"
    rows = [f"{head},late_submission_penalty,score,max_score".split(",")]
    due = rubric.due.isoformat(sep=" ") if rubric.due else ""
    for grade in grades:
        total, created = grade.shown_total(rubric), grade.created.replace("T", " ")
        first, _, last = grade.name.rpartition(" ")
        score = [total, "0", total, number(rubric.points)]
        rows.append([rubric.title, due, created, grade.student, last, first, "", *score])
    return rows
