"""A hand-in beside what the instructor has: whose cell is which, whose answer, what is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from coursekit.grading.answers import Question, answer_to, questions_in
from coursekit.grading.cells import Cell, Notebook, match_cells
from coursekit.grading.labels import Labels
from coursekit.grading.read import HandIn
from coursekit.grading.values import dig, text_of
from helpers.lib.cell_log import Entry


@dataclass(frozen=True)
class Measured:
    """A method's accuracy, counted from its predictions."""

    correct: int
    total: int
    checked: bool  # against the instructor's own labels
    fault: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.total, 1)

    def __str__(self) -> str:
        """As a notebook prints it."""
        return f"{self.accuracy:.1%} ({self.correct:,}/{self.total:,})"


@dataclass
class Case:
    """A hand-in beside what the instructor has: the template's notebooks, and labels if any."""

    hand_in: HandIn
    templates: dict[str, Notebook]
    labels: dict[str, Labels] = field(default_factory=dict)  # by profile

    @cached_property
    def matched(self) -> dict[str, dict[int, Cell]]:
        """By notebook, the student's cell for each of the template's, by its index there."""
        notebooks = self.hand_in.notebooks
        return {
            n: match_cells(notebooks[n], t) for n, t in self.templates.items() if n in notebooks
        }

    @cached_property
    def questions(self) -> dict[str, Question]:
        """Every question of the assignment, by its key such as "03.2"."""
        return questions_in(self.templates)

    @cached_property
    def answers(self) -> dict[str, str]:
        """The student's answer to each question, "" for none."""
        notebooks = self.hand_in.notebooks
        return {
            key: answer_to(q, self.matched[q.notebook], notebooks[q.notebook])
            if q.notebook in notebooks
            else ""
            for key, q in self.questions.items()
        }

    @cached_property
    def logs(self) -> dict[str, list[Entry]]:
        """By notebook, the entries of the log that are about it.

        A session is about the notebook whose cells it ran most of; the log names notebooks, but
        not every kernel knows that name, and notebooks are renamed.
        """
        codes = {n: {c.digest for c in book.code} for n, book in self.hand_in.notebooks.items()}
        ran: dict[str, set[str]] = {}
        for entry in self.hand_in.log or ():
            ran.setdefault(entry.session, set()).add(entry.cell)
        logs: dict[str, list[Entry]] = {number: [] for number in codes}
        for session, cells in ran.items():
            common = {number: len(cells & code) for number, code in codes.items()}
            most = max(common.values(), default=0)
            for number in (number for number, count in common.items() if count == most > 0):
                logs[number] += [e for e in self.hand_in.log or () if e.session == session]
        return logs

    def own_labels(self, method: str) -> Labels | None:
        """The instructor's labels for a method's pictures, None when there are none."""
        record = self.hand_in.records.get(method, {})
        is_flowers = text_of(dig(record, "data", "name")).startswith("Flowers102")
        return self.labels.get(text_of(record.get("profile"))) if is_flowers else None

    def measured(self, method: str) -> Measured | None:
        """A method's accuracy from its predictions; None when there are none."""
        predictions = self.hand_in.predictions.get(method)
        if predictions is None:
            return None
        total, labels = len(predictions.pictures), self.own_labels(method)
        if labels is None:
            return Measured(predictions.correct, total, checked=False)
        known = labels.test
        missing = len(known.keys() - set(predictions.pictures))
        unknown = len(set(predictions.pictures) - known.keys())
        doubled = total - len(set(predictions.pictures))
        pairs = zip(predictions.pictures, predictions.guesses.tolist(), strict=True)
        correct = sum(known.get(picture) == guess for picture, guess in pairs)
        fault = ""
        if missing or unknown or doubled:
            fault = (
                f"its pictures are not the test split: {missing} missing, {unknown} unknown, "
                f"{doubled} doubled"
            )
        return Measured(correct, total, checked=True, fault=fault)
