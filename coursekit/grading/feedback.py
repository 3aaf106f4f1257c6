"""The page that a student gets: their own points and answers, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coursekit.grading.cells import Question, clean
from coursekit.grading.gradebook import TO_READ, Grade, number, rerun_rows
from coursekit.grading.rubric import Line, Rubric, Section
from coursekit.pages import escape, page, table, terms

STYLE = Path(__file__).with_name("pages.css")


def feedback_page(grade: Grade, rubric: Rubric, questions: Mapping[str, Question]) -> str:
    """One self-contained HTML page. Flags are not in it: they are for the instructor to judge."""
    parts = [_summary(grade, rubric), _remarks(grade)]
    if grade.was_read:
        parts += [_section(grade, section) for section in rubric.sections]
        parts.append(_reruns(grade))
        parts.append(_answers(grade, questions))
    body = "\n".join(part for part in parts if part)
    title = f"Feedback: {rubric.title}"
    return page(title, clean(f"<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>"), style())


def style() -> str:
    """The sheet of the grader's pages, added to the one that all pages of the kit share."""
    return STYLE.read_text(encoding="utf-8")


def _summary(grade: Grade, rubric: Rubric) -> str:
    waiting = grade.waiting(rubric)
    points = f"{number(grade.total(rubric))} of {number(rubric.points)} points"
    if waiting:
        points += f", and up to {number(waiting)} more when the answers have been read"
    facts = {
        "Student": grade.student or "not named",
        "Name": grade.name,
        "Packed": grade.created.replace("T", " ").replace("+00:00", " UTC"),
        "Late by": grade.late,
        "Profile": grade.profile,
        "Points": points,
    }
    notice = ""
    if grade.profile == "mini":
        notice = (
            '<p class="notice" role="note"><strong>These are results of the mini profile.</strong> '
            "Its pictures are drawings; the assignment is the full profile.</p>"
        )
    return f"{terms(facts)}\n{notice}"


def _remarks(grade: Grade) -> str:
    if not grade.faults:
        return ""
    items = "\n".join(f"<li>{escape(fault)}</li>" for fault in grade.faults)
    intro = "What was noticed while reading your hand-in:"
    return f'<div class="problem"><p>{intro}</p>\n<ul>\n{items}\n</ul></div>'


def _section(grade: Grade, section: Section) -> str:
    got = number(sum(grade.points(line) or 0.0 for line in section.lines))
    of = number(sum(line.points for line in section.lines))
    rows = "\n".join(_line(grade, line) for line in section.lines)
    name = f"Task {section.task}: {section.title}"
    return (
        f'<section>\n<h2>{escape(name)} <span class="score">{got} of {of}</span></h2>\n'
        f'<ul class="lines">\n{rows}\n</ul>\n</section>'
    )


def _line(grade: Grade, line: Line) -> str:
    """A line of the rubric: title, points, a bar of its share, and what was found."""
    points, finding = grade.points(line), grade.findings.get(line.key)
    remarks = [finding.remark] if finding and finding.remark else []
    if line.key in grade.given and grade.given[line.key][1]:
        remarks.append(grade.given[line.key][1])
    if points is None:
        said, bar = f"{TO_READ}, of {number(line.points)}", ""
    else:
        said = f"{number(points)} of {number(line.points)}"
        share = points / line.points if line.points else 1
        bar = f'<meter min="0" max="1" value="{share:.2f}" aria-label="share of points"></meter>'
        if line.hint and share < 1:
            remarks.append(line.hint)
    notes = "".join(f'<span class="remark">{escape(text)}</span>' for text in remarks)
    return (
        f'<li><span class="what">{escape(line.title)}</span> '
        f'<span class="points">{bar} {escape(said)}</span>{notes}</li>'
    )


def _reruns(grade: Grade) -> str:
    if not grade.reruns:
        return ""
    return (
        '<section>\n<h2>Run again</h2>\n<p class="note">Your notebooks were executed again, on the '
        "drawn pictures of the mini profile. This gives and takes no points.</p>\n"
        + table(rerun_rows(grade), "Your notebooks, executed again")
        + "\n</section>"
    )


def _answers(grade: Grade, questions: Mapping[str, Question]) -> str:
    items = []
    for key, question in questions.items():
        answer = grade.answers.get(key, "")
        said = f'<p class="answer">{escape(answer)}</p>' if answer else "<p><em>No answer</em></p>"
        items.append(
            f"<h3>Notebook {escape(question.notebook)}, question {question.number}</h3>\n"
            f'<p class="note">{escape(question.text)}</p>\n{said}'
        )
    return "<section>\n<h2>Your answers</h2>\n" + "\n".join(items) + "\n</section>"
