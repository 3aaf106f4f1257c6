"""The experiments that the notebooks propose: each can be done as it is written, and runs."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from coursekit import notebooks
from coursekit.notebooks import notebook_paths, read_notebook, tags_of
from coursekit.run.runner import run_notebooks
from helpers.lib.files import write_text

NAMES = list(notebook_paths())
EXPERIMENTS = [(name, number) for name in NAMES for number in (1, 2)]
CHANGE = re.compile(r"[Cc]hange\s+`([^`]+)`[^`]*\sto\s+`([^`]+)`")


class Experiment(NamedTuple):
    """In the section of that number, `old` becomes `new`."""

    section: str
    old: str
    new: str


def experiments_of(notebook: NotebookNode) -> list[Experiment]:
    """What the cell "Try it" of a notebook proposes; it stands before the questions."""
    cells = notebook.cells
    (place,) = (i for i, cell in enumerate(cells) if cell.source.startswith("## Try it"))
    assert "question" in tags_of(cells[place + 1])
    intro, *texts = cells[place].source.split("\n- **")
    experiments = []
    for text in texts:
        assert "*Look for*" in text
        (change,) = CHANGE.findall(text)
        experiments.append(Experiment(re.search(r"section (\d)", text + intro)[1], *change))
    return experiments


def cell_to_change(notebook: NotebookNode, experiment: Experiment) -> NotebookNode:
    """The first code cell of the section that holds what is to be changed."""
    section = ""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            headings = re.findall(r"^## (\S+)", cell.source, re.MULTILINE)
            section = headings[-1] if headings else section
        elif section == experiment.section and experiment.old in cell.source:
            return cell
    raise AssertionError(f"section {experiment.section} has no {experiment.old}")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_to_be_tried_can_be_done_as_it_is_written(name: str) -> None:
    notebook = read_notebook(notebook_paths()[name])
    experiments = experiments_of(notebook)
    assert len(experiments) == 2
    for experiment in experiments:
        source = cell_to_change(notebook, experiment).source
        ast.parse(source.replace(experiment.old, experiment.new, 1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a student who has run all six notebooks."""
    results = tmp_path_factory.mktemp("finished") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_RESULTS", str(results))
        run_notebooks(profile="mini")
    return results


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), EXPERIMENTS)
def test_what_is_to_be_tried_runs(
    name: str,
    number: int,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """With the results and checkpoints of the run before, as a student has them."""
    notebook = read_notebook(notebook_paths()[name])
    experiment = experiments_of(notebook)[number - 1]
    cell = cell_to_change(notebook, experiment)
    cell.source = cell.source.replace(experiment.old, experiment.new, 1)
    changed = tmp_path / "notebooks" / f"{name}.ipynb"
    write_text(changed, nbformat.writes(notebook))
    Image.new("RGB", (300, 200), "orange").save(changed.with_name("my_photo.jpg"))  # 06 wants one
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", changed.parent)
    shutil.copytree(finished, tmp_path / "results")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    run_notebooks(profile="mini", resume=True)
    assert f"{name}: " in capsys.readouterr().out
    run = read_notebook(tmp_path / "results" / "mini" / "notebooks" / f"{name}.ipynb")
    assert experiment.new in cell_to_change(run, experiment._replace(old=experiment.new)).source
    assert notebooks.run_faults(run) == []
