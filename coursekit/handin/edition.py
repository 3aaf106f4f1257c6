"""The student's edition of a notebook: its solutions become TODOs, its model answers go.

What a student is to write is marked in the notebooks, which run as they are:

- `### BEGIN SOLUTION` and `### END SOLUTION`, nbgrader's own markers, around lines of a cell; or
  the tag `solution` on a code cell, for the whole of it. Both become a TODO.
- The tag `answer`: the model answer in the cell goes, the place for the student's own stays.
- The tag `model-answer`: the whole cell goes.
"""

from __future__ import annotations

import ast
import copy
import re
import textwrap
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from coursekit.notebooks import OWN_METADATA, bare_metadata, tags_of
from coursekit.questions import (
    ANSWER,
    ANSWER_STUB,
    BEGIN,
    END,
    QUESTION,
    SOLUTION,
    TODO,
    question_cells,
)
from helpers.errors import KitError
from helpers.lib.identity import kit_version

MODEL_ANSWER = "model-answer"  # tag of a cell that goes
CODE_STUB = '# TODO: your code here\nraise NotImplementedError("this is yours to write")'
SHORTEST_SECRET = 30  # characters: a shorter solution may stand elsewhere by chance
_REGION = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.DOTALL | re.MULTILINE)
_STUDENT_ID = re.compile(r"""\bstart\(\s*(?:student\s*=\s*)?["']([^"']+)["']""")


def student_edition(name: str, solution: NotebookNode) -> NotebookNode:
    """Make a notebook as students get it; cells keep their ids.

    Args:
        name: Its file name, for messages and metadata.
        solution: The notebook with its solutions, which is left as it is.

    Raises:
        KitError: Markers do not come in pairs.
    """
    notebook = nbgrader_edition(name, solution)
    for cell in notebook.cells:
        if ANSWER in tags_of(cell):
            cell.pop("attachments", None)
        elif is_solution(cell):
            cell.source = _without_solution(name, cell)
            tags = [tag for tag in tags_of(cell) if tag not in (SOLUTION, TODO)]
            cell.metadata["tags"] = [*tags, TODO]
    return notebook


def nbgrader_edition(name: str, solution: NotebookNode) -> NotebookNode:
    """Make a notebook with its solutions as nbgrader wants it in source/, without model answers.

    Args:
        name: Its file name.
        solution: The notebook with its solutions, which is left as it is.
    """
    notebook = copy.deepcopy(solution)
    notebook.cells = [cell for cell in notebook.cells if MODEL_ANSWER not in tags_of(cell)]
    notebook.metadata = bare_metadata(notebook)
    notebook.metadata[OWN_METADATA] = {
        "notebook": name.removesuffix(".ipynb"),
        "questions": len(question_cells(notebook)),
        "version": kit_version(),
    }
    for cell, role in zip(notebook.cells, roles(notebook), strict=True):
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if role == "answer":
            cell.source = ANSWER_STUB
        if role:
            cell.metadata["nbgrader"] = _nbgrader_metadata(cell, role)
    return notebook


def roles(notebook: NotebookNode) -> list[str]:
    """What each cell is to a grader: "question", "answer", "todo", "check" or "".

    A check is the first cell with an assert after a TODO, and before the next one.
    """
    found, unchecked = [], False
    for cell in notebook.cells:
        tags, role = tags_of(cell), ""
        if QUESTION in tags:
            role = "question"
        elif ANSWER in tags:
            role = "answer"
        elif is_solution(cell) or TODO in tags:
            role, unchecked = "todo", True
        elif unchecked and cell.cell_type == "code" and _has_assert(cell.source):
            role, unchecked = "check", False
        found.append(role)
    return found


def _nbgrader_metadata(cell: NotebookNode, role: str) -> dict[str, object]:
    """A cell's metadata for nbgrader (schema 3); points that it has already stay, else 1.

    Questions are locked text, answers are graded by hand, TODOs are solutions, checks are tests.
    """
    graded = role in ("answer", "check")
    points = cell.metadata.get("nbgrader", {}).get("points", 1)
    return {
        "schema_version": 3,
        "grade_id": f"{role}-{cell.id}",
        "grade": graded,
        "locked": role in ("question", "check"),
        "solution": role in ("answer", "todo"),
        "task": False,
        **({"points": points} if graded else {}),
    }


def is_solution(cell: NotebookNode) -> bool:
    """Whether a code cell is a solution, in whole or in part."""
    return cell.cell_type == "code" and bool(SOLUTION in tags_of(cell) or _markers(cell))


def _markers(cell: NotebookNode) -> list[str]:
    """The lines of a cell that begin or end a solution."""
    return [line.strip() for line in cell.source.splitlines() if line.strip() in (BEGIN, END)]


def _without_solution(name: str, cell: NotebookNode) -> str:
    """A solution's source with a TODO, as far indented, in place of what is marked."""
    markers = _markers(cell)
    if not markers:
        return CODE_STUB
    if markers != [BEGIN, END] * (len(markers) // 2):
        raise KitError(f"{name}, cell {cell.id}: {BEGIN} and {END} do not come in pairs")
    return _REGION.sub(lambda found: textwrap.indent(CODE_STUB, found[1]), cell.source)


def edition_faults(name: str, solution: NotebookNode, student: NotebookNode) -> list[str]:
    """What keeps a student's edition from being handed out, a line a fault; [] when nothing.

    Each TODO must have an assert that checks it, and no solution may be left.

    Args:
        name: The notebook's file name.
        solution: The notebook with its solutions.
        student: Its `student_edition`.
    """
    faults = [*_cell_faults(student), *_todo_faults(student), *_leaks(solution, student)]
    return [f"{name}, cell {fault}" for fault in faults]


def _cell_faults(student: NotebookNode) -> Iterator[str]:
    for cell in student.cells:
        if _markers(cell):
            yield f"{cell.id}: markers work in code cells, use the tag {MODEL_ANSWER!r} here"
        if cell.cell_type != "code":
            continue
        if parse_cell(cell.source) is None:
            yield f"{cell.id}: is no Python without its solution"
        if found := _STUDENT_ID.search(cell.source):
            yield f'{cell.id}: holds the student id {found[1]!r}, make it start(student="")'


def _todo_faults(student: NotebookNode) -> Iterator[str]:
    """A TODO is checked by an assert of its own cell, or of a later one before the next TODO."""
    found = list(zip(student.cells, roles(student), strict=True))
    for place, (todo, role) in enumerate(found):
        later = [role for _, role in found[place + 1 :] if role in ("todo", "check")]
        if role == "todo" and later[:1] != ["check"] and not _has_assert(todo.source):
            yield f"{todo.id}: no assert checks what the student writes there"


def _leaks(solution: NotebookNode, student: NotebookNode) -> Iterator[str]:
    """Solutions that are still there, whole, in whatever cell."""
    texts = [(cell.id, _one_line(cell.source)) for cell in student.cells]
    for cell in solution.cells:
        for secret in map(_one_line, _secrets(cell)):
            for place, text in texts:
                if len(secret) >= SHORTEST_SECRET and secret in text:
                    yield f"{place}: gives away the solution of cell {cell.id}"


def _secrets(cell: NotebookNode) -> list[str]:
    """What must not be seen in the student's edition of a cell, text by text."""
    if MODEL_ANSWER in tags_of(cell) or ANSWER in tags_of(cell):
        return [cell.source]
    if not is_solution(cell):
        return []
    return [found[2] for found in _REGION.finditer(cell.source)] or [cell.source]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _has_assert(source: str) -> bool:
    tree = parse_cell(source)
    return tree is not None and any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def parse_cell(source: str) -> ast.Module | None:
    """The syntax tree of a code cell, None when it is no Python."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return None
