"""What the grader's two pages show: the instructor's of the class, and each student's own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coursekit.grading.answers import Question
from coursekit.grading.cells import clean
from coursekit.grading.figures import Figure, scatter, stacked, strips
from coursekit.grading.gradebook import Grade, number
from coursekit.grading.rubric import Line, Rubric, points_of
from coursekit.pages import render
from helpers.recipes import METHODS

PARTS = ("none", "under half", "over half", "all", "to read")
# Runs with one of these flags may not be the student's own: they are no seeds of the experiment.
NOT_A_RUN = {"accuracy", "predictions", "same predictions", "same weights"}


def feedback_page(grade: Grade, rubric: Rubric, questions: Mapping[str, Question]) -> str:
    """One self-contained HTML page. Flags are not in it: they are for the instructor to judge."""
    points = f"{number(grade.total(rubric))} of {number(rubric.points)} points"
    if waiting := grade.waiting(rubric):
        points += f", and up to {number(waiting)} more when the answers have been read"
    facts = {
        "Student": grade.student or "not named",
        "Name": grade.name,
        "Packed": grade.created.replace("T", " ").replace("+00:00", " UTC"),
        "Late by": grade.late,
        "Profile": grade.profile,
        "Points": points,
    }
    functions = {"number": number, "points_of": points_of, "fraction": _fraction}
    page = {"grade": grade, "rubric": rubric, "questions": questions, "facts": facts}
    return clean(render("feedback.html.jinja", **page, **functions, remarks=_remarks))


def _fraction(grade: Grade, line: Line) -> float:
    """The part of a line's points that a hand-in got, in 0 ... 1; 0 while it is to be read."""
    return (grade.points(line) or 0.0) / line.points if line.points else 1.0


def _remarks(grade: Grade, line: Line) -> list[str]:
    """What was found, what the person who read it says, and a hint when points are lacking."""
    finding = grade.findings.get(line.key)
    _, comment = grade.given.get(line.key, (None, ""))
    lacks = grade.points(line) is not None and _fraction(grade, line) < 1
    remarks = [finding.remark if finding else "", comment, line.hint if lacks else ""]
    return list(filter(None, remarks))


def class_page(grades: Sequence[Grade], rubric: Rubric, questions: Mapping[str, Question]) -> str:
    """One self-contained HTML page about all hand-ins, with the data of all students."""
    rows = _spread_rows(grades, rubric)
    counts = {row["Line"]: [int(row[part]) for part in PARTS] for row in rows}
    page = {
        "rubric": rubric,
        "facts": _facts(grades, rubric),
        "doubtful": _doubtful(grades),
        "pairs": _pairs(grades),
        "reruns": [
            {"Student": grade.student or grade.page, **row}
            for grade in grades
            for row in grade.rerun_rows()
        ],
        "spread": rows,
        "spread_figure": stacked(counts, PARTS, "The same: hand-ins by line of the rubric"),
        "time_figure": _time_figure(grades),
        "experiment": list(_experiment(grades)),
        "answers": [
            (question, [(g.student or g.page, g.answers[k]) for g in grades if g.answers.get(k)])
            for k, question in questions.items()
        ],
    }
    return clean(render("class.html.jinja", **page))


def _facts(grades: Sequence[Grade], rubric: Rubric) -> dict[str, str]:
    read = [grade for grade in grades if grade.was_read]
    waiting = max((grade.waiting(rubric) for grade in read), default=0.0)
    median = number(statistics.median(grade.total(rubric) for grade in read)) if read else ""
    return {
        "Hand-ins": str(len(grades)),
        "Could not be graded": str(len(grades) - len(read)),
        "With flags": str(sum(bool(grade.flags) for grade in grades)),
        "On the mini profile": str(sum(grade.profile == "mini" for grade in grades)),
        "Late": str(sum(bool(grade.late) for grade in grades)),
        "Points, median": f"{median} of {number(rubric.points)}" if read else "none",
        "Still to be read": f"up to {number(waiting)} points each",
    }


def _doubtful(grades: Sequence[Grade]) -> list[dict[str, str]]:
    return [
        {
            "Student": grade.student or "not named",
            "Hand-in": grade.place,
            "Status": grade.status,
            "Flags": "\n".join(map(str, grade.flags)) or "none",
            "Remarks": grade.remarks or "none",
        }
        for grade in grades
        if grade.flags or not grade.was_read
    ]


def _pairs(grades: Sequence[Grade]) -> list[dict[str, str]]:
    pages = {grade.page for grade in grades}
    rows = [
        {"One": grade.page, "Other": flag.other, "What": flag.kind, "Evidence": flag.text}
        for grade in grades
        for flag in grade.flags
        if flag.other in pages and grade.page < flag.other
    ]
    return sorted(rows, key=lambda row: tuple(row.values()))


def _spread_rows(grades: Sequence[Grade], rubric: Rubric) -> list[dict[str, str]]:
    """How the points of every line are spread over the class."""
    rows = []
    for line in rubric.lines:
        found = [_part(grade, line) for grade in grades if grade.was_read]
        counts = {part: str(found.count(part)) for part in PARTS}
        what = {"Line": line.key, "What": line.title, "Points": number(line.points)}
        rows.append({**what, **counts})
    return rows


def _part(grade: Grade, line: Line) -> str:
    if grade.points(line) is None:
        return "to read"
    fraction = _fraction(grade, line)
    if fraction <= 0:
        return "none"
    return "all" if fraction >= 1 else "under half" if fraction < 0.5 else "over half"


def _time_figure(grades: Sequence[Grade]) -> Figure | None:
    points = {
        method.title: [
            (run.seconds, run.accuracy)
            for grade in grades
            if (run := grade.runs.get(name)) is not None and run.seconds and run.seconds > 0
        ]
        for name, method in METHODS.items()
    }
    title = "Test accuracy against seconds of training, one mark a student"
    return scatter(points, title) if any(points.values()) else None


def _experiment(grades: Sequence[Grade]) -> Iterator[tuple[str, list[dict[str, str]], Figure]]:
    """Each method's spread over the students' seeds: what a single run cannot show."""
    own = [grade for grade in grades if NOT_A_RUN.isdisjoint(flag.kind for flag in grade.flags)]
    for group in sorted({(run.profile, run.data) for g in own for run in g.runs.values()}):
        values: dict[str, list[float]] = {method.title: [] for method in METHODS.values()}
        for grade in own:
            for method, run in grade.runs.items():
                if (run.profile, run.data) == group:
                    values[METHODS[method].title].append(run.accuracy)
        if max(map(len, values.values())) >= 2:
            name = f"profile {group[0] or 'unknown'}, data {group[1][:8] or 'unknown'}"
            rows = [_spread(title, found) for title, found in values.items()]
            yield (
                name,
                rows,
                strips(values, f"One mark a student's run, a line at the mean: {name}"),
            )


def _spread(title: str, values: Sequence[float]) -> dict[str, str]:
    names = ("Mean", "95 % interval of the mean", "Standard deviation", "Lowest", "Highest")
    row: dict[str, Any] = {"Method": title, "Runs": str(len(values)), **dict.fromkeys(names, "")}
    if len(values) < 2:
        return row
    from scipy.stats import t

    mean, std = statistics.fmean(values), statistics.stdev(values)
    margin = float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
    said = (
        f"{mean:.1%}",
        f"{max(mean - margin, 0):.1%} to {min(mean + margin, 1):.1%}",
        f"{100 * std:.2f}\u00a0points",  # a space that keeps its neighbours on one line
        f"{min(values):.1%}",
        f"{max(values):.1%}",
    )
    return row | dict(zip(names, said, strict=True))
