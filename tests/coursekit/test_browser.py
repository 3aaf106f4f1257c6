"""The pages in a real browser: nothing runs, all fits a phone and paper, and all can be read.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from coursekit.grading.find import find_hand_ins
from coursekit.grading.grade import grade_class
from coursekit.grading.rerun import Rerun, keep
from coursekit.notebooks import notebook_paths
from coursekit.run.report import write_report
from helpers.recipes import METHODS
from helpers.workspace import find_workspace
from tools import breakages
from tools.browser import Browser, find_browser
from tools.made_up import write_result
from tools.sample_class import build, make_hand_in, write_labels, write_sample

pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium here")
PHONE, DESK = 360, 1280  # CSS pixels
PAPER = 680  # of A4, without its margins
PAGES = ("class", "feedback", "scripts", "report")

# Every text with its colour, the colour behind it, and its size: those of too little contrast.
CONTRAST = """
(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = channels(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0.99) return color;
    }
    return [255, 255, 255];
  };
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || ["TITLE", "STYLE"].includes(e.tagName) && e.closest("svg, head, style")) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const ink = channels(e.closest("svg") ? style.fill : style.color);
    const found = ratio(ink, behind(e));
    count += 1;
    if (found < (large ? 3 : 4.5)) bad.push(`${found.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return {count, bad};
})()
"""
# What reaches beyond the right edge though it does not lie in a box that scrolls.
TOO_WIDE = """
[...document.body.querySelectorAll("*")].filter(e => {
  if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return false;
  return true;
}).map(e => e.outerHTML.slice(0, 100))
"""
# What would have to be scrolled to be seen whole.
SCROLLING = """
[...document.body.querySelectorAll("*")].filter(e =>
  getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1
).map(e => e.outerHTML.slice(0, 100))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(find_browser(), tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A class page, a page of a good student and of one who hands in scripts, and a report."""
    folder = tmp_path_factory.mktemp("pages")
    before = {name: os.environ.get(name) for name in ("KIT_DATA", "KIT_RESULTS")}
    os.environ["KIT_DATA"], os.environ["KIT_RESULTS"] = str(folder / "data"), str(folder / "res")
    try:
        kinds = write_sample(folder / "hand-ins", folder / "data")
        bad = make_hand_in(40, labels := write_labels(folder / "data"))
        build(bad, labels)
        (folder / "hand-ins" / bad.file_name).write_bytes(breakages.scripts(bad))
        _keep_reruns(folder, bad.file_name)
        grade_class(folder / "hand-ins", folder / "grades")
        os.environ["KIT_DATA"] = str(folder / "no data")
        report = _report(folder)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    good = next(student for student, kind in kinds.items() if kind == "good")
    feedback = folder / "grades" / "feedback"
    files = (folder / "grades" / "class.html", feedback / f"{good}.html",
             feedback / f"{bad.student}.html", report)  # fmt: skip
    return dict(zip(PAGES, files, strict=True))


def _keep_reruns(folder: Path, name: str) -> None:
    """Let it look as if a hand-in had been run again, with a script as its outcome."""
    reruns = [Rerun("02", f"failed in code cell 3: {breakages.SCRIPT}", 61.0, 0.4)]
    place = next(one for one in find_hand_ins(folder / "hand-ins") if one.name == name)
    keep(folder / "grades" / ".cache", place, reruns)


def _report(folder: Path) -> Path:
    """The report of made-up results, the notebooks, and one whose outputs would run."""
    workspace = find_workspace(profile="mini")
    for method in METHODS:
        write_result(workspace.results_dir, method)
    harm = v4.new_output("display_data", {"text/html": breakages.SCRIPT, "text/plain": "x"})
    wide = v4.new_output("stream", name="stdout", text="word" * 200)
    cells = [v4.new_markdown_cell(f"# 99 harm\n\n{breakages.SCRIPT}"),
             v4.new_code_cell("show()", outputs=[harm, wide], execution_count=1)]  # fmt: skip
    nbformat.write(v4.new_notebook(cells=cells), folder / "99_harm.ipynb")
    return write_report(workspace, [*notebook_paths().values(), folder / "99_harm.ipynb"])


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_runs_and_nothing_is_fetched(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.open(pages[name], width=width)
    assert browser.value("document.querySelectorAll('script, iframe, object').length") == 0
    assert "owned" not in browser.value("document.title")
    assert browser.faults == []


def test_what_runs_is_noticed(browser: Browser, tmp_path: Path) -> None:
    """The same script in a page that does not keep it from running."""
    page = tmp_path / "page.html"
    page.write_text(f"<title>x</title>{breakages.SCRIPT}<img src='http://127.0.0.1:9/x.png'>")
    browser.open(page, width=DESK)
    assert "owned" in browser.value("document.title")
    assert any("it asked for http://127.0.0.1:9/x.png" in fault for fault in browser.faults)


@pytest.mark.parametrize("name", PAGES)
def test_all_of_a_page_fits_a_phone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], width=PHONE)
    for details in (False, True):
        browser.value(f"document.querySelectorAll('details').forEach(e => e.open = {details:d})")
        assert browser.value(TOO_WIDE) == []
        wide = browser.value("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(wide) <= browser.value("innerWidth") == PHONE


@pytest.fixture
def in_print(browser: Browser) -> Iterator[Browser]:
    """The browser as it shows pages in print."""
    browser.call("Emulation.setEmulatedMedia", media="print")
    yield browser
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_in_print(in_print: Browser, pages: dict[str, Path], name: str) -> None:
    in_print.open(pages[name], width=PAPER)
    assert in_print.value(TOO_WIDE) == []
    assert in_print.value(SCROLLING) == []
    assert in_print.value("document.querySelector('nav')?.getClientRects().length ?? 0") == 0


def test_a_report_prints_on_a4(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], width=DESK)
    sizes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", browser.pdf()))
    assert [[round(float(side)) for side in size] for size in sizes] == [[595, 842]]


@pytest.mark.parametrize("name", PAGES)
def test_texts_stand_out(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """WCAG 2 AA: 4.5 to 1, and 3 to 1 for large texts."""
    browser.open(pages[name], width=DESK)
    browser.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    found = browser.value(CONTRAST)
    assert found["count"] > 20
    assert found["bad"] == []
