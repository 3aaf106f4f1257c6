"""The notebooks as files, and that a broken one is noticed."""

from __future__ import annotations

import ast

import pytest
from nbformat import NotebookNode

import helpers
from coursekit.handin.package import NOTEBOOKS
from coursekit.notebooks import (
    METHOD_OF,
    NOTEBOOK_FOLDER,
    code_cells,
    extension_paths,
    notebook_faults,
    notebook_paths,
    read_notebook,
    tags_of,
)

ASSIGNMENT = list(notebook_paths().values())
EVERY = [*ASSIGNMENT, *extension_paths().values()]
EACH = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)


def imports_of(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What a notebook imports from where: (module, name)."""
    found = []
    for cell in code_cells(notebook):
        # `!` and `%` lines are no Python; names are imported in cells without them.
        if "import " in cell.source and not cell.source.lstrip().startswith(("!", "%")):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom):
                    found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_the_notebooks_of_the_kit_are_the_ones_to_hand_in():
    assert [path.name for path in ASSIGNMENT] == list(NOTEBOOKS)
    assert sorted(path.name for path in NOTEBOOK_FOLDER.glob("*.ipynb")) == list(NOTEBOOKS)
    assert {name[:2] for name in NOTEBOOKS} >= set(METHOD_OF)


@EACH
def test_notebook_can_be_committed(path):
    assert notebook_faults(path) == []


@EACH
def test_each_question_is_followed_by_its_answer(path):
    cells = read_notebook(path).cells
    questions = [place for place, cell in enumerate(cells) if "question" in tags_of(cell)]
    answers = [place for place, cell in enumerate(cells) if "answer" in tags_of(cell)]
    assert questions and answers == [place + 1 for place in questions]
    assert all(cells[place].cell_type == "markdown" for place in questions + answers)


@EACH
def test_notebook_starts_with_a_title_and_the_setup_cell(path):
    notebook = read_notebook(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    first = code_cells(notebook)[0]
    assert "from helpers import" in first.source
    assert "workspace = start(" in first.source


@EACH
def test_notebook_imports_only_names_that_helpers_offers(path):
    modules = {module for module, _ in imports_of(read_notebook(path))}
    names = {name for module, name in imports_of(read_notebook(path)) if module == "helpers"}
    assert "start" in names
    assert names <= set(vars(helpers))
    if path in ASSIGNMENT:  # no inner part, and nothing that only extensions have
        assert not [one for one in modules if one.startswith(("helpers.", "coursekit", "lib"))]


def test_helpers_offers_no_function_that_no_notebook_uses():
    used = {name for path in EVERY for module, name in imports_of(read_notebook(path))}
    functions = {
        name for name, value in vars(helpers).items() if type(value).__name__ == "function"
    }
    assert functions - used <= {"evaluate"}  # `train_model` calls it, and so may an own loop
