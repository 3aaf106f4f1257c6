"""Tables for learning systems. Only settled points are in them: read the answers first.

A hand-in that names no student cannot be imported and is left out; grades.csv has it. Of a
student with several, the last one packed counts. One that could not be graded has no points,
which is not 0 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coursekit.grading.gradebook import Grade, number, write_csv
from coursekit.grading.rubric import Rubric


def write_exports(folder: Path, grades: Sequence[Grade], rubric: Rubric) -> None:
    """Write canvas.csv, moodle.csv and nbgrader.csv into `folder`."""
    counted = latest(grades)
    write_csv(folder / "canvas.csv", canvas_rows(counted, rubric))
    write_csv(folder / "moodle.csv", moodle_rows(counted, rubric))
    write_csv(folder / "nbgrader.csv", nbgrader_rows(counted, rubric))


def latest(grades: Sequence[Grade]) -> list[Grade]:
    """One hand-in a student, the last one packed, in the order of the students."""
    chosen: dict[str, Grade] = {}
    for grade in grades:
        before = chosen.get(grade.student)
        newer = before is None or (grade.was_read, grade.created) >= (
            before.was_read,
            before.created,
        )
        if grade.student and newer:
            chosen[grade.student] = grade
    return list(chosen.values())


def canvas_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """Canvas, "Import grades": Student, ID, SIS User ID, SIS Login ID, Section, the assignment.

    The second row says how many points are possible, and an empty cell is no score. Canvas looks a
    student up by ID, then by the SIS columns, then by name; the kit knows one id, put into SIS
    Login ID: move it when yours is another. (Columns and order: lib/gradebook_importer.rb of
    instructure/canvas-lms.)
    """
    name = rubric.title
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", name]]
    rows.append(["    Points Possible", "", "", "", "", number(rubric.points)])
    for grade in grades:
        total = grade.shown_total(rubric)
        rows.append([grade.name or grade.student, "", "", grade.student, "", total])
    return rows


def moodle_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """Moodle, "Import > CSV file": ID number, the assignment, and its feedback.

    On Moodle's second page map "ID number" to "ID number" (or to "Username"), the second column to
    the grade item, and the third to "Feedback for" it: feedback without its grade would delete the
    grade. Who has no points is left out, since Moodle takes an empty grade of a new item for 0.
    One id that it does not know stops the whole import. (docs.moodle.org, "Grade import"; and
    grade/import/csv/classes/load_data.php of moodle/moodle.)
    """
    rows = [["ID number", rubric.title, "Feedback"]]
    for grade in filter(lambda grade: grade.was_read, grades):
        parts = []
        for section in rubric.sections:
            points = number(sum(grade.points(line) or 0.0 for line in section.lines))
            parts.append(f"task {section.task}: {points}/{number(sum_of(section.lines))}")
        rows.append([grade.student, grade.shown_total(rubric), "; ".join(parts)])
    return rows


def sum_of(lines: Sequence) -> float:
    """The points that lines of a rubric are worth."""
    return sum(line.points for line in lines)


def nbgrader_rows(grades: Sequence[Grade], rubric: Rubric) -> list[list[str]]:
    """The columns of `nbgrader export`'s grades.csv, for what reads that file.

    assignment, duedate, timestamp, student_id, last_name, first_name, email, raw_score,
    late_submission_penalty (always 0: this grader takes no points for lateness), score, max_score.
    (Columns and order: nbgrader/plugins/export.py of jupyter/nbgrader.)
    """
    rows = [
        [
            "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
            "raw_score", "late_submission_penalty", "score", "max_score",
        ]
    ]  # fmt: skip
    due = rubric.due.isoformat(sep=" ") if rubric.due else ""
    for grade in grades:
        total, created = grade.shown_total(rubric), grade.created.replace("T", " ")
        first, _, last = grade.name.rpartition(" ")
        person = [grade.student, last, first, ""]
        score = [total, "0", total, number(rubric.points)]
        rows.append([rubric.title, due, created, *person, *score])
    return rows
