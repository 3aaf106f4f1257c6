"""A student's session in JupyterLab: restart, run all cells, watch the bar, save.

Slow; skipped where there is no Chromium or no JupyterLab.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path

import pytest

from coursekit.handin.log import best_session, read_log
from coursekit.notebooks import code_cells, notebook_faults, read_notebook, shown_text
from helpers.lib.cell_log import LOG_NAME, source_hash
from helpers.lib.progress import HEADER
from tools.browser import find_browser
from tools.lab import Lab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium here"),
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterlab") is None, reason="there is no JupyterLab here"
    ),
]
NOTEBOOK = "03_resnet18_finetune.ipynb"
BAR = re.compile(r"^ *(\d+)/\d+ +\[[#.]+\] (\d+)/\d+, loss .*, accuracy .*%", re.MULTILINE)


def test_restart_and_run_all(tmp_path: Path) -> None:
    with Lab(tmp_path, NOTEBOOK) as lab:
        lab.start_run()
        assert lab.wait_for_end() == "well"
        shown = lab.shown()
    _check_what_was_shown(shown)
    _check_what_was_saved(lab)


def _check_what_was_shown(shown: list[dict]) -> None:
    """The bar moved, from epoch to epoch, and nothing jumped."""
    last = max(place for place, one in enumerate(shown) if not one["text"])  # the restart
    texts, heights = zip(*((one["text"], one["height"]) for one in shown[last + 1 :]), strict=True)
    bars = [found.groups() for text in texts for found in BAR.finditer(text)]
    assert len(set(bars)) >= 3 and len({epoch for epoch, _ in bars}) >= 2, texts
    assert max(len(BAR.findall(text)) for text in texts) == 1
    assert heights[0] > 0 and list(heights) == sorted(heights)
    for before, after in itertools.pairwise(texts):
        table = [line for line in before.splitlines() if not BAR.match(line)]
        assert after.splitlines()[: len(table)] == table


def _check_what_was_saved(lab: Lab) -> None:
    """The table and no bar, nothing amiss, and a log that shows that these cells ran."""
    notebook = read_notebook(lab.path)
    text = shown_text(notebook)
    assert HEADER in text and "best on val: epoch" in text
    assert not BAR.search(text)
    assert notebook_faults(lab.path) == []
    log = lab.kit / "results" / "mini" / LOG_NAME
    entries, damaged = read_log(log.read_text(encoding="utf-8"))
    hashes = [source_hash(cell.source) for cell in code_cells(notebook)]
    session, absent = best_session(hashes, entries, NOTEBOOK)
    assert (absent, damaged) == ([], 0)
    assert {entry.notebook for entry in session} == {NOTEBOOK} and all(e.ok for e in session)
