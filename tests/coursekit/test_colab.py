"""Notebooks on Google Colab: badges that lead to them, and a first cell that fetches the kit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4

from coursekit import __main__ as cli
from coursekit.handin.colab import LACKING, for_colab, repository_of
from coursekit.handin.edition import parse_cell
from coursekit.notebooks import (
    absolute_paths,
    code_cells,
    extension_paths,
    notebook_paths,
    read_notebook,
)
from helpers.lib.folders import ROOT

KIT = repository_of("some-school/the.kit@2026")
# Runs the cell twice, as people do, where git is real and pip only notes its command.
RUN = """
import json, os, subprocess, sys, types

ran, check_call = [], subprocess.check_call


def note(command):
    ran.append(command)
    if "pip" not in command:
        check_call(command)


subprocess.check_call = note
if sys.argv[1] == "on colab":
    sys.modules["google.colab"] = types.ModuleType("google.colab")
for _ in range(2):
    exec(sys.argv[2], {})
print(json.dumps({"ran": ran, "cwd": os.getcwd(), "kit": sys.modules["helpers"].__file__}))
"""


def made_up() -> NotebookNode:
    cells = [
        v4.new_markdown_cell("# 03 · Title\n\n**What you will learn**"),
        v4.new_code_cell("import helpers"),
        v4.new_code_cell("x = 1"),
    ]
    return v4.new_notebook(cells=cells)


def test_a_badge_below_the_title_leads_to_the_notebook():
    before = made_up()
    notebook = for_colab(before, KIT, "notebooks/03_x.ipynb")
    assert before.cells[0].source == "# 03 · Title\n\n**What you will learn**"
    title, _, badge, _, rest = notebook.cells[0].source.split("\n")
    assert (title, rest) == ("# 03 · Title", "**What you will learn**")
    address = "https://colab.research.google.com/github/some-school/the.kit/blob/2026/notebooks/"
    assert badge.startswith("[![Open in Colab](") and badge.endswith(f"({address}03_x.ipynb)")
    assert notebook.cells[1].source.endswith("\nimport helpers")
    assert notebook.cells[2].source == "x = 1"


@pytest.mark.parametrize("text", ["kit", "a/b/c", "https://github.com/a/b", "a/b@"])
def test_what_is_no_repository_is_refused(text, tmp_path, capsys):
    assert cli.main(["release", "--out", str(tmp_path / "new"), "--repository", text]) == 2
    assert "write owner/name, or owner/name@branch" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_every_notebook_of_the_kit_takes_it():
    for path in [*notebook_paths().values(), *extension_paths().values()]:
        notebook = read_notebook(path)
        assert "colab.research" not in path.read_text(encoding="utf-8")  # it has no address yet
        cell = code_cells(for_colab(notebook, KIT, f"notebooks/{path.name}"))[0]
        assert parse_cell(cell.source) is not None
        assert "start(" in cell.source
        assert absolute_paths(cell.source) == []


@pytest.fixture
def origin(tmp_path) -> Path:
    """A repository that git uses in place of the one on GitHub, and a home folder of its own."""
    folder = tmp_path / "origin"
    (folder / "helpers").mkdir(parents=True)
    (folder / "notebooks" / "extensions").mkdir(parents=True)
    (folder / "helpers" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "notebooks" / "extensions" / "07_x.ipynb").write_text("{}", encoding="utf-8")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["checkout", "-qb", "2026"], ["add", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    subprocess.run(["git", *who, "commit", "-qm", "x"], cwd=folder, check=True)
    home = tmp_path / "home"
    home.mkdir()
    config = f'[url "{folder.as_uri()}"]\n\tinsteadOf = https://github.com/some-school/the.kit\n'
    (home / ".gitconfig").write_text(config, encoding="utf-8")
    return home


def run_first_cell(home: Path, where: str) -> dict:
    """Run the first cell of a notebook in a Python of its own; returns what it did."""
    cell = for_colab(made_up(), KIT, "notebooks/extensions/07_x.ipynb").cells[1].source
    done = subprocess.run(
        [sys.executable, "-c", RUN, where, cell],
        cwd=home,
        env={**os.environ, "HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_the_first_cell_fetches_the_kit_on_colab(origin):
    told = run_first_cell(origin, "on colab")
    clone = origin / "the.kit"
    assert Path(told["kit"]).samefile(clone / "helpers" / "__init__.py")
    assert Path(told["cwd"]).samefile(clone / "notebooks" / "extensions")
    git, pip = told["ran"]  # once each, though the cell ran twice
    assert git[0] == "git" and pip[1:4] == ["-m", "pip", "install"]
    assert [*LACKING, "-e", str(clone)] == pip[-5:]
    assert run_first_cell(origin, "on colab")["ran"] == [pip]  # after a restart: no second clone


def test_the_first_cell_does_nothing_elsewhere(tmp_path):
    told = run_first_cell(tmp_path, "here")
    assert told["ran"] == [] and Path(told["cwd"]).samefile(tmp_path)
    assert Path(told["kit"]).samefile(ROOT / "helpers" / "__init__.py")
