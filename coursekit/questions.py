"""What notebooks ask and what students write into them: tags, markers, questions and answers."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from coursekit.notebooks import tags_of

QUESTION, ANSWER = "question", "answer"  # tags of cells
SOLUTION, TODO = "solution", "todo"  # tags of what students write, in either edition
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # around a part of a cell that they write
ANSWER_STUB = "*Your answer:*"  # what an answer cell holds before there is an answer
# The same as people leave it: without its stars, as nbgrader writes it, or before a model answer.
_STUB = re.compile(r"^[*_\s]*(your|model) answer( here)?[*_\s:]*", re.IGNORECASE)
_REMARK = re.compile(r"<!--.*?-->", re.DOTALL)


def question_cells(notebook: NotebookNode) -> list[tuple[NotebookNode, NotebookNode | None]]:
    """The cell of each question and that of its answer; None where that one is gone."""
    pairs: list[tuple[NotebookNode, NotebookNode | None]] = []
    for cell in notebook.cells:
        if QUESTION in tags_of(cell):
            pairs.append((cell, None))
        elif ANSWER in tags_of(cell) and pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], cell)  # cells of the student's own may lie between
    return pairs


def answer_text(source: str) -> str:
    """What a student wrote into an answer cell, without the words that stood there before.

    Without a letter or a digit it is no answer: "".
    """
    text = _STUB.sub("", _REMARK.sub("", source).lstrip()).strip()
    return text if re.search(r"\w", text) else ""
