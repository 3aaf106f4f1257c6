"""Each fault of a notebook is found, and a good notebook has none."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from coursekit import notebooks
from coursekit.notebooks import absolute_paths, notebook_faults, select_notebooks
from helpers.errors import KitError


def good_notebook() -> nbformat.NotebookNode:
    cells = [
        v4.new_markdown_cell("# A title\n\nSee https://example.org/home/x and 720/720, and/or."),
        v4.new_code_cell("x = 1", execution_count=1),
        v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(x)", execution_count=2),
        v4.new_code_cell(""),
        v4.new_code_cell("x", execution_count=3),
    ]
    cells[2].outputs = [v4.new_output("stream", name="stdout", text="1\n")]
    cells[4].outputs = [v4.new_output("execute_result", {"text/plain": "1"}, execution_count=3)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def faults_of(notebook: nbformat.NotebookNode, folder: Path, **options) -> list[str]:
    path = folder / "01_made_up.ipynb"
    nbformat.write(notebook, path)
    return notebook_faults(path, **options)


def not_executed(notebook):
    notebook.cells[2].execution_count = None


def out_of_order(notebook):
    notebook.cells[2].execution_count = 7


def first_is_not_one(notebook):
    notebook.cells[1].execution_count = 5


def error_output(notebook):
    error = v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    notebook.cells[1].outputs = [error]


def checked_without_output(notebook):
    notebook.cells[2].outputs = []


def warned(notebook):
    notebook.cells[1].outputs = [v4.new_output("stream", name="stderr", text="careful")]


def long_value(notebook):
    result = v4.new_output("execute_result", {"text/plain": "Net(\n  fc\n)"}, execution_count=3)
    notebook.cells[4].outputs = [result]


def checked_with_stderr(notebook):
    notebook.cells[2].outputs.append(v4.new_output("stream", name="stderr", text="careful"))


def long_cell(notebook):
    notebook.cells[1].source = "x = 1\n" * 26


def path_in_source(notebook):
    notebook.cells[1].source = "folder = '/home/somebody/data'"


def path_in_markdown(notebook):
    notebook.cells[0].source = "Look into C:\\Users\\me."


def path_in_output(notebook):
    notebook.cells[2].outputs[0].text = "saved to /tmp/x.pt\n"


def path_in_result(notebook):
    notebook.cells[4].outputs[0].data["text/plain"] = "PosixPath('/Users/me')"


def other_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-env"


def widget_state(notebook):
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"a": 1}}}


def widget_view(notebook):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "bar"}
    notebook.cells[1].outputs = [v4.new_output("display_data", data)]


FAULTS = [
    (not_executed, "code cell 2 was not executed"),
    (out_of_order, "code cell 2 has the execution count 7"),
    (first_is_not_one, "code cell 1 has the execution count 5"),
    (error_output, "code cell 1 ended in ValueError"),
    (checked_without_output, "code cell 2 is marked NBVAL_CHECK_OUTPUT but has no output"),
    (warned, "code cell 1 writes to stderr"),
    (long_value, "code cell 3 ends in a value whose text is long"),
    (checked_with_stderr, "code cell 2 is marked NBVAL_CHECK_OUTPUT but writes to stderr"),
    (long_cell, "code cell 1 has 26 lines"),
    (path_in_source, "code cell 1 holds the absolute path /home/somebody/data"),
    (path_in_markdown, r"markdown cell 1 holds the absolute path C:\Users\me"),
    (path_in_output, "the output of code cell 2 shows the absolute path /tmp/x.pt"),
    (path_in_result, "the output of code cell 3 shows the absolute path /Users/me"),
    (other_kernel, "its kernel is 'my-env'"),
    (widget_state, "saved widget state"),
    (widget_view, "code cell 1 shows a widget"),
]
NO_CELLS = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}


def test_good_notebook_has_no_fault(tmp_path):
    assert faults_of(good_notebook(), tmp_path) == []


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_fault_is_one_clear_line(spoil, message, tmp_path):
    notebook = good_notebook()
    spoil(notebook)
    faults = faults_of(notebook, tmp_path)
    assert len(faults) == 1
    assert message in faults[0]
    assert "\n" not in faults[0]


def test_meant_error_is_no_fault(tmp_path):
    notebook = good_notebook()
    error_output(notebook)
    notebook.cells[1].metadata.tags = ["raises-exception"]
    assert faults_of(notebook, tmp_path) == []


def test_large_file(tmp_path):
    (fault,) = faults_of(good_notebook(), tmp_path, max_bytes=100)
    assert "more than 100" in fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "is not a valid notebook"),
        ("[]", "is not a notebook of format 4"),
        ("{}", "is not a notebook of format 4"),
        (json.dumps({"nbformat": 3, "nbformat_minor": 0, "worksheets": []}), "of format 4"),
        (json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}}), "not a valid"),
        (json.dumps({**NO_CELLS, "cells": [{"cell_type": "code"}]}), "not a valid"),
        (json.dumps({**NO_CELLS, "cells": "none"}), "not a valid"),
        (json.dumps({**NO_CELLS, "cells": [{"cell_type": "raw", "source": ""}]}), "not a valid"),
        (b"\xff\xfe", "not a valid"),
    ],
)
def test_not_a_notebook(text, message, tmp_path):
    path = tmp_path / "01_made_up.ipynb"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (fault,) = notebook_faults(path)
    assert message in fault
    assert "\n" not in fault


def test_absent_file(tmp_path):
    (fault,) = notebook_faults(tmp_path / "none.ipynb")
    assert "cannot read" in fault


@pytest.mark.parametrize(
    "text",
    [
        "https://x.org/tmp/a http://a/home/b",
        "720/720, 1/2, a / b, and/or, 3 s/step",
        "data/mini/flowers-102/jpg",
        "../tmp/x ./work/y ~/work",
        "<p>a</p></tmp>",
        "print(f'{name}:\\n')",
        "data:image/png;base64,iVBOR/home/abc",
        "/",
        "ratio 3:/2",
    ],
)
def test_what_is_no_absolute_path(text):
    assert absolute_paths(text) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("in /root.", "/root."),
        ("file:///home/me/x", "/home/me/x"),
        ('"D:\\\\data\\\\x"', "D:\\\\data\\\\x"),
        ("D:/data/x", "D:/data/x"),
        ("at /work\n", "/work"),
        ('File "/usr/lib/python3/x.py", line 1', "/usr/lib/python3/x.py"),
    ],
)
def test_what_is_an_absolute_path(text, path):
    assert absolute_paths(text) == [path]


def test_select_notebooks(tmp_path, monkeypatch):
    for name in ("02_b", "01_a", "10_c", "notes"):
        (tmp_path / f"{name}.ipynb").touch()
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path)
    stems = [path.stem for path in select_notebooks(None)]
    assert stems == ["01_a", "02_b", "10_c"]
    chosen = select_notebooks(["10", "notebooks/01_a.ipynb", "01"])
    assert [path.stem for path in chosen] == ["01_a", "10_c"]
    with pytest.raises(KitError, match="'07': there are 01_a, 02_b, 10_c"):
        select_notebooks(["07"])


def test_select_extensions(tmp_path, monkeypatch):
    (tmp_path / "extensions").mkdir()
    for name in ("01_a", "extensions/08_b", "extensions/07_c"):
        (tmp_path / f"{name}.ipynb").touch()
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path)
    assert [path.stem for path in select_notebooks(None)] == ["01_a"]
    assert [path.stem for path in select_notebooks(None, extensions=True)] == ["07_c", "08_b"]
    for extensions in (True, False):  # a name says enough
        chosen = select_notebooks(["08", "01"], extensions=extensions)
        assert [path.stem for path in chosen] == ["01_a", "08_b"]
    with pytest.raises(KitError, match="'09': there are 01_a, 07_c, 08_b"):
        select_notebooks(["09"])


@pytest.mark.parametrize("extensions", [True, False])
def test_select_without_notebooks(tmp_path, monkeypatch, extensions):
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path)
    with pytest.raises(KitError, match="no notebook in"):
        select_notebooks(None, extensions=extensions)
