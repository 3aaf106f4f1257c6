"""The page for the instructor: the class as a whole, what to look at, the answers side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from coursekit.grading.cells import Question, clean
from coursekit.grading.drawings import bars, scatter, strips
from coursekit.grading.feedback import style
from coursekit.grading.gradebook import Grade, flag_text, number, rerun_rows, status
from coursekit.grading.rubric import Line, Rubric
from coursekit.pages import escape, page, table, terms
from helpers.recipes import METHODS

BINS = ("none", "under half", "over half", "all", "to read")
# Runs with one of these flags may not be the student's own: they are no seeds of the experiment.
NOT_A_RUN = ("accuracy", "predictions", "same predictions", "same weights")


def class_page(grades: Sequence[Grade], rubric: Rubric, questions: Mapping[str, Question]) -> str:
    """One self-contained HTML page about all hand-ins, with the data of all students."""
    sections = [
        ("overview", "Overview", _overview(grades, rubric)),
        ("look", "To be looked at", _to_look_at(grades)),
        ("pairs", "Similar pairs", _pairs(grades)),
        ("lines", "Lines of the rubric", _lines(grades, rubric)),
        ("time", "Accuracy against training time", _scatter(grades)),
        ("experiment", "The class as an experiment", _experiment(grades)),
        ("answers", "Answers, question by question", _answers(grades, questions)),
    ]
    if any(grade.reruns for grade in grades):
        sections.insert(3, ("rerun", "Run again", _reruns(grades)))
    contents = "\n".join(f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{name}</h2>\n{content}\n</section>'
        for key, name, content in sections
    )
    title = f"The class: {rubric.title}"
    whole = (
        f"<header>\n<h1>{escape(title)}</h1>\n</header>\n"
        f'<nav aria-label="Contents">\n<ol>\n{contents}\n</ol>\n</nav>\n<main>\n{body}\n</main>'
    )
    return page(title, clean(whole), style())


def _overview(grades: Sequence[Grade], rubric: Rubric) -> str:
    read = [grade for grade in grades if grade.was_read]
    totals = [grade.total(rubric) for grade in read]
    waiting = max((grade.waiting(rubric) for grade in read), default=0.0)
    facts = {
        "Hand-ins": str(len(grades)),
        "Could not be graded": str(len(grades) - len(read)),
        "With flags": str(sum(bool(grade.flags) for grade in grades)),
        "On the mini profile": str(sum(grade.profile == "mini" for grade in grades)),
        "Late": str(sum(bool(grade.late) for grade in grades)),
        "Points, median": f"{number(statistics.median(totals))} of {number(rubric.points)}"
        if totals
        else "none",
        "Still to be read": f"up to {number(waiting)} points each",
    }
    return terms(facts)


def _to_look_at(grades: Sequence[Grade]) -> str:
    rows = [
        {
            "Student": grade.student or "not named",
            "Hand-in": grade.place,
            "Status": status(grade),
            "Flags": "\n".join(flag_text(flag) for flag in grade.flags) or "none",
            "Remarks": grade.remarks or "none",
        }
        for grade in grades
        if grade.flags or not grade.was_read
    ]
    if not rows:
        return "<p>Nothing.</p>"
    note = "<p>A flag takes no points. It says what was seen; there may be an honest cause.</p>"
    return note + table(rows, "Hand-ins with flags, and those that could not be graded")


def _pairs(grades: Sequence[Grade]) -> str:
    by_page = {grade.page: grade for grade in grades}
    rows = [
        {"One": grade.page, "Other": flag.other, "What": flag.kind, "Evidence": flag.text}
        for grade in grades
        for flag in grade.flags
        if flag.other in by_page and grade.page < flag.other
    ]
    if not rows:
        return "<p>None.</p>"
    rows.sort(key=lambda row: (row["One"], row["Other"], row["What"], row["Evidence"]))
    return table(rows, "Pairs that share what two students would not")


def _reruns(grades: Sequence[Grade]) -> str:
    rows = [
        {"Student": grade.student or grade.page, **row}
        for grade in grades
        for row in rerun_rows(grade)
    ]
    note = (
        "<p>For information: it gives and takes no points. The mini profile is other pictures than "
        "the full one, so compare accuracies of hand-ins on mini only; another machine moves them "
        "a little.</p>"
    )
    return note + table(rows, "Notebooks of chosen hand-ins, executed again")


def _lines(grades: Sequence[Grade], rubric: Rubric) -> str:
    """How the points of every line are spread over the class."""
    read = [grade for grade in grades if grade.was_read]
    head = "".join(f'<th scope="col">{h}</th>' for h in ("Line", "Points", *BINS, "Distribution"))
    rows = []
    for line in rubric.lines:
        counts = [0] * len(BINS)
        for grade in read:
            counts[_bin(grade, line)] += 1
        cells = "".join(f"<td>{count}</td>" for count in counts)
        drawing = bars(counts, BINS, line.key)
        rows.append(
            f'<tr><th scope="row">{escape(line.key)}<br><small>{escape(line.title)}</small></th>'
            f"<td>{number(line.points)}</td>{cells}<td>{drawing}</td></tr>"
        )
    caption = "How many students got which part of the points of each line"
    return (
        f'<div class="wide" role="region" aria-label="{caption}" tabindex="0">\n<table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>\n</div>"
    )


def _bin(grade: Grade, line: Line) -> int:
    points = grade.points(line)
    if points is None:
        return 4
    share = points / line.points if line.points else 1.0
    if share <= 0:
        return 0
    return 3 if share >= 1 else 1 if share < 0.5 else 2


def _scatter(grades: Sequence[Grade]) -> str:
    series = {
        title: [
            (run.seconds, run.accuracy)
            for grade in grades
            if (run := grade.runs.get(method)) is not None and run.seconds
        ]
        for method, title in METHODS.items()
    }
    note = '<p class="note">Times are of many different machines.</p>'
    drawing = scatter(
        series,
        x_label="seconds of training",
        y_label="test accuracy",
        title="Test accuracy against seconds of training, one mark a student",
    )
    return note + drawing


def _experiment(grades: Sequence[Grade]) -> str:
    """Each method's spread over the students' seeds: what a single run cannot show."""
    groups = sorted({(run.profile, run.data) for g in grades for run in g.runs.values()})
    parts = []
    for profile, data in groups:
        values = {
            title: [
                grade.runs[method].accuracy
                for grade in grades
                if method in grade.runs
                and (grade.runs[method].profile, grade.runs[method].data) == (profile, data)
                and not any(flag.kind in NOT_A_RUN for flag in grade.flags)
            ]
            for method, title in METHODS.items()
        }
        if max(map(len, values.values())) < 2:
            continue
        rows = [_spread(title, found) for title, found in values.items()]
        name = f"profile {profile or 'unknown'}, data {data[:8] or 'unknown'}"
        parts.append(table(rows, f"Test accuracy over the students' seeds: {name}"))
        parts.append(strips(values, title=f"One mark a student's run, a line at the mean: {name}"))
    if not parts:
        return "<p>Fewer than two runs of the same data.</p>"
    note = (
        "<p>The same code on the same pictures; only the seed differs. The deviation is what "
        "another run of one student would move by. Hand-ins whose runs may not be their own are "
        "left out.</p>"
    )
    return note + "\n".join(parts)


def _spread(title: str, values: Sequence[float]) -> dict[str, str]:
    row = {"Method": title, "Runs": str(len(values))}
    names = ("Mean", "95 % interval of the mean", "Deviation", "Lowest", "Highest")
    if len(values) < 2:
        return row | dict.fromkeys(names, "")
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    margin = _student_t(len(values) - 1) * deviation / math.sqrt(len(values))
    said = (
        f"{mean:.1%}",
        f"{max(mean - margin, 0):.1%} to {min(mean + margin, 1):.1%}",
        f"{100 * deviation:.2f}\u00a0points",  # not to be parted
        f"{min(values):.1%}",
        f"{max(values):.1%}",
    )
    return row | dict(zip(names, said, strict=True))


def _student_t(freedom: int) -> float:
    """The 97.5 % point of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def _answers(grades: Sequence[Grade], questions: Mapping[str, Question]) -> str:
    """Every question with all its answers below it, folded away until they are wanted."""
    parts = []
    for key, question in questions.items():
        given = [(grade, grade.answers[key]) for grade in grades if grade.answers.get(key)]
        items = "\n".join(
            f"<dt>{escape(grade.student or grade.page)}</dt>"
            f'<dd class="answer">{escape(answer)}</dd>'
            for grade, answer in given
        )
        name = f"Notebook {question.notebook}, question {question.number}"
        body = f"<dl>\n{items}\n</dl>" if items else "<p>Nobody has answered.</p>"
        model = f'<p class="model">{escape(question.model)}</p>\n' if question.model else ""
        parts.append(
            f"<details>\n<summary>{escape(name)}: {len(given)} answers</summary>\n"
            f'<p class="note">{escape(question.text)}</p>\n{model}{body}\n</details>'
        )
    return "\n".join(parts)
