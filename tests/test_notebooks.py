"""The notebooks of the assignment as files, and that a broken one is noticed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nested import run_pytest

import helpers

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXTENSIONS = NOTEBOOKS / "extensions"
NAMES = (
    "01_dataset_tour",
    "02_batchnorm_cnn",
    "03_resnet18_finetune",
    "04_resnet18_feature_extractor",
    "05_efficientnet_b5_finetune",
    "06_comparison",
)
FURTHER = sorted(path.stem for path in EXTENSIONS.glob("*.ipynb"))
EACH = pytest.mark.parametrize("name", [*NAMES, *FURTHER])


def path_of(name: str) -> Path:
    return (NOTEBOOKS if name in NAMES else EXTENSIONS) / f"{name}.ipynb"


def cells_of(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(path_of(name), as_version=4).cells


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def test_there_are_exactly_these_notebooks():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


def test_each_extension_that_records_runs_has_its_recipes():
    from lib.recipes import NOTEBOOKS as OF_RECIPES

    recording = [name for name in FURTHER if any("save_result" in c.source for c in cells_of(name))]
    assert recording == [name for name, _ in OF_RECIPES.values()]


@EACH
def test_notebook_can_be_committed(name):
    from coursekit.notebooks import notebook_faults

    assert notebook_faults(path_of(name)) == []


@EACH
def test_each_question_is_followed_by_its_answer(name):
    cells = cells_of(name)
    questions = [place for place, cell in enumerate(cells) if "question" in tags_of(cell)]
    answers = [place for place, cell in enumerate(cells) if "answer" in tags_of(cell)]
    assert 3 <= len(questions) <= 5
    assert answers == [place + 1 for place in questions]
    assert all(cells[place].cell_type == "markdown" for place in questions + answers)


def test_helpers_gives_exactly_the_names_that_notebooks_use():
    imported = set()
    for path in NOTEBOOKS.rglob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            # `!` and `%` lines are no Python; the names are imported in cells without them.
            if cell.cell_type == "code" and "from helpers import" in cell.source:
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.ImportFrom) and node.module == "helpers":
                        imported |= {alias.name for alias in node.names}
    assert imported == set(helpers.__all__)
    assert all(getattr(helpers, name).__name__ == name for name in imported - {"METHODS"})


@EACH
def test_notebook_starts_with_a_title_and_the_setup_cell(name):
    cells = cells_of(name)
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert "from helpers import" in first.source
    assert "workspace = start(" in first.source


@EACH
def test_notebook_imports_only_names_that_helpers_offers(name):
    import helpers

    source = "\n".join(cell.source for cell in cells_of(name) if cell.cell_type == "code")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports if node.module == "helpers" for alias in node.names]
    assert "start" in names
    assert [one for one in names if not hasattr(helpers, one)] == []


@EACH
def test_notebook_asks_for_no_inner_part_of_helpers(name):
    for cell in cells_of(name):
        if cell.cell_type == "code":
            assert not re.search(r"^\s*(from|import) helpers\.", cell.source, re.MULTILINE)


def test_broken_notebooks_fail(tmp_path):
    raises = nbformat.v4.new_code_cell("raise ValueError('broken on purpose')", execution_count=1)
    other = nbformat.v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(6 * 7)", execution_count=1)
    other.outputs = [nbformat.v4.new_output("stream", name="stdout", text="43\n")]
    notebooks = {"01_raises": [raises], "02_other_output": [other], "03_whole": ["x = 1"]}
    done = run_pytest(tmp_path, notebooks, "--nbval-lax", "notebooks")
    assert done.returncode == 1
    assert "2 failed, 1 passed" in done.stdout
    assert "broken on purpose" in done.stdout
    assert "43" in done.stdout
