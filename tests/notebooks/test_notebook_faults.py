"""Each fault of a notebook is found, and a good notebook has none."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4

from coursekit import notebooks
from coursekit.notebooks import WIDGET_VIEW, absolute_paths, notebook_faults, select_notebooks
from helpers.errors import KitError

NO_CELLS = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
ERROR = v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
WIDGET = v4.new_output("display_data", {WIDGET_VIEW: {"model_id": "a"}, "text/plain": "bar"})


def good_notebook() -> NotebookNode:
    cells = [
        v4.new_markdown_cell("# A title\n\nSee https://example.org/home/x and 720/720, and/or."),
        v4.new_code_cell("x = 1", execution_count=1),
        v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(x)", execution_count=2),
        v4.new_code_cell(""),
        v4.new_code_cell("x", execution_count=3),
    ]
    cells[2].outputs = [shown("1\n")]
    cells[4].outputs = [value("1")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def shown(text: str, name: str = "stdout") -> NotebookNode:
    return v4.new_output("stream", name=name, text=text)


def value(text: str) -> NotebookNode:
    return v4.new_output("execute_result", {"text/plain": text}, execution_count=3)


def faults_of(notebook: NotebookNode, folder: Path) -> list[str]:
    path = folder / "01_made_up.ipynb"
    nbformat.write(notebook, path)
    return notebook_faults(path)


def test_good_notebook_has_no_fault(tmp_path):
    assert faults_of(good_notebook(), tmp_path) == []


FAULTS = [  # a cell of the notebook, what is changed there, and what is said
    (2, {"execution_count": None}, "code cell 2 was not executed"),
    (2, {"execution_count": 7}, "code cell 2 has the execution count 7"),
    (1, {"outputs": [ERROR]}, "code cell 1 ended in an error"),
    (2, {"outputs": [shown("careful", "stderr")]}, "code cell 2 writes to stderr"),
    (1, {"source": "x = 1\n" * 26}, "code cell 1 has 26 lines"),
    (1, {"source": "x = '/home/me/x'"}, "it holds the absolute path /home/me/x"),
    (0, {"source": r"In C:\Users\me."}, r"it holds the absolute path C:\Users\me"),
    (2, {"outputs": [shown("/tmp/x.pt\n")]}, "it holds the absolute path /tmp/x.pt"),
    (4, {"outputs": [value("Path('/Users/me')")]}, "it holds the absolute path /Users/me"),
    (1, {"outputs": [WIDGET]}, "code cell 1 shows a widget"),
    (0, {"source": "long " * 100_001}, "more than 500,000: show smaller or fewer figures"),
]


@pytest.mark.parametrize(("number", "change", "message"), FAULTS)
def test_fault_is_one_clear_line(number, change, message, tmp_path):
    notebook = good_notebook()
    notebook.cells[number].update(change)
    (fault,) = faults_of(notebook, tmp_path)
    assert message in fault
    assert "\n" not in fault


def test_metadata_of_another_machine_are_faults(tmp_path):
    notebook = good_notebook()
    notebook.metadata.kernelspec.name = "my-env"
    (fault,) = faults_of(notebook, tmp_path)
    assert "its kernel is 'my-env'" in fault


def test_meant_error_is_no_fault(tmp_path):
    notebook = good_notebook()
    notebook.cells[1].update(outputs=[ERROR], metadata={"tags": ["raises-exception"]})
    assert faults_of(notebook, tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}),
        json.dumps({**NO_CELLS, "cells": [{"cell_type": "code"}]}),
        json.dumps({**NO_CELLS, "cells": "none"}),
        "\ud800",
    ],
)
def test_not_a_notebook(text, tmp_path):
    path = tmp_path / "01_made_up.ipynb"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    (fault,) = notebook_faults(path)
    assert "is not a valid notebook" in fault
    assert "\n" not in fault
    path.unlink()
    assert notebook_faults(path) == [f"cannot read {path}: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("https://x.org/tmp/a http://a/home/b data:image/png;base64,iVBOR/home/abc", []),
        ("720/720, 1/2, a / b, and/or, 3 s/step, /", []),
        ("data/mini/flowers-102/jpg ../tmp/x ./work/y ~/work <p>a</p></tmp>", []),
        ("print(f'{name}:\\n')", []),
        ("in /root.", ["/root."]),
        ("file:///home/me/x", ["/home/me/x"]),
        ('"D:\\\\data\\\\x" or D:/data/x', ["D:\\\\data\\\\x", "D:/data/x"]),
        ('File "/usr/lib/python3/x.py", line 1', ["/usr/lib/python3/x.py"]),
    ],
)
def test_absolute_paths(text, paths):
    assert absolute_paths(text) == paths


def test_select_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path)
    for extensions in (True, False):
        with pytest.raises(KitError, match="no notebook in"):
            select_notebooks(None, extensions=extensions)
    (tmp_path / "extensions").mkdir()
    for name in ("02_b", "01_a", "notes", "extensions/08_d", "extensions/07_c"):
        (tmp_path / f"{name}.ipynb").touch()

    def stems(names, **options) -> list[str]:
        return [path.stem for path in select_notebooks(names, **options)]

    assert stems(None) == ["01_a", "02_b"]
    assert stems(None, extensions=True) == ["07_c", "08_d"]
    assert stems(["08", "notebooks/01_a.ipynb", "01"]) == ["01_a", "08_d"]  # a name says enough
    with pytest.raises(KitError, match="'09': there are 01_a, 02_b, 07_c, 08_d"):
        select_notebooks(["09"])
