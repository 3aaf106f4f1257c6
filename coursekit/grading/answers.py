"""The questions of the assignment, and what a student answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from coursekit.grading.cells import Cell, Notebook
from coursekit.questions import QUESTION, answer_text, question_cells

LONGEST_ANSWER = 20_000  # characters of an answer that are kept


@dataclass(frozen=True)
class Question:
    """A question of the assignment, and where its answer stands in the template."""

    notebook: str  # number, as "03"
    number: int
    text: str
    place: int  # index of the answer cell in the template
    model: str = ""  # the model answer that stands there, if any

    @property
    def key(self) -> str:
        return f"{self.notebook}.{self.number}"


def questions_in(templates: Mapping[str, Notebook]) -> dict[str, Question]:
    """Every question of the assignment that has an answer cell, by its key such as "03.2"."""
    questions = {}
    for notebook, template in templates.items():
        pairs = question_cells(cast(Any, template))
        for number, (question, answer) in enumerate(pairs, start=1):
            if answer is not None:
                place, model = (
                    template.cells.index(cast(Any, answer)),
                    written_answer(answer.source),
                )
                model = written_answer(answer.source)
                found = Question(notebook, number, question.source, place, model)
                questions[found.key] = found
    return questions


def answer_to(question: Question, cells: Mapping[int, Cell], notebook: Notebook) -> str:
    """What a student answered, "" when the cell is untouched or gone.

    A student who deleted the answer cell and wrote another one below the question is read, too.
    """
    cell = cells.get(question.place)
    above = cells.get(question.place - 1)
    if cell is None and above is not None:
        after = notebook.cells[notebook.cells.index(above) + 1 :][:1]
        cell = after[0] if after and QUESTION not in after[0].tags else None
    return written_answer(cell.source) if cell is not None else ""


def written_answer(source: str) -> str:
    """What a student wrote into an answer cell, cut off where it is far too long."""
    text = answer_text(source[: 2 * LONGEST_ANSWER])  # the search for remarks is slow
    if len(text) > LONGEST_ANSWER:
        text = f"{text[:LONGEST_ANSWER]} ... (it is longer)"
    return text
