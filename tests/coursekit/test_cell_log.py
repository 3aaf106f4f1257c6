"""The log of cells: written by a real IPython shell in this process, and read again."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from coursekit.handin.log import best_session, read_log
from helpers.lib.cell_log import Entry, source_hash
from tools.tiny import full_disk

START = "from helpers.lib.cell_log import log_cells; log_cells(place)"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A results folder, and nobody who tells the notebook's name."""
    for name in ("KIT_NOTEBOOK", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "results" / "mini"


@pytest.fixture
def shell(place, monkeypatch):
    """A fresh kernel, as far as one can be had in this process."""
    InteractiveShell.clear_instance()
    # Its history must not be written into the home folder.
    monkeypatch.setattr("IPython.core.history.HistoryAccessor.enabled", False)
    shell = InteractiveShell.instance()
    shell.user_ns["place"] = place
    yield shell
    InteractiveShell.clear_instance()


def run(shell, *sources: str) -> None:
    for source in sources:
        shell.run_cell(source, store_history=True)


def entries_of(folder: Path) -> list[Entry]:
    entries, damaged = read_log((folder / "log.jsonl").read_text(encoding="utf-8"))
    assert damaged == 0
    return entries


def test_each_cell_is_logged_from_the_one_that_starts(place, shell):
    sources = [START, "x = 1  # é", "import time; time.sleep(0.05)"]
    run(shell, *sources, "  ")
    entries = entries_of(place)
    assert [entry.cell for entry in entries] == [source_hash(source) for source in sources]
    assert [entry.count for entry in entries] == [1, 2, 3]
    assert all(entry.ok and entry.notebook is None for entry in entries)
    assert entries[2].seconds >= 0.05 > entries[1].seconds
    (session,) = {entry.session for entry in entries}
    assert re.fullmatch("[0-9a-f]{16}", session)
    now = datetime.datetime.now(datetime.timezone.utc)
    minute = datetime.timedelta(minutes=1)
    assert all(datetime.timedelta() <= now - entry.ended < minute for entry in entries)


def test_errors_are_logged_as_such(place, shell, capsys):
    run(shell, START, "1 / 0", "if", "raise KeyboardInterrupt", "x = 1")
    assert [entry.ok for entry in entries_of(place)] == [True, False, False, False, True]


def test_what_programs_run_in_silence_is_not_logged(place, shell):
    run(shell, START)
    shell.run_cell("x = 1", store_history=False)
    shell.run_cell("x = 2", silent=True)
    run(shell, "get_ipython().run_cell('y = 3');")
    assert [entry.count for entry in entries_of(place)] == [1, 2]


def test_a_log_that_cannot_be_written_breaks_no_cell(place, shell, capsys):
    place.parent.mkdir()
    place.write_text("a file where the folder should be")
    run(shell, START, "x = 1", "x += 1")
    assert shell.user_ns["x"] == 2
    warning = capsys.readouterr().err
    assert len(warning.splitlines()) == 1
    assert "log.jsonl in the results folder cannot be written" in warning
    place.unlink()
    run(shell, "x += 1")
    assert [entry.count for entry in entries_of(place)] == [4]


def test_half_a_line_spoils_no_other(place, shell, capsys):
    run(shell, START)
    log = place / "log.jsonl"
    with full_disk(log.stat().st_size + 10):
        run(shell, "x = 1")
    run(shell, "x = 2")
    entries, damaged = read_log(log.read_text())
    assert ([entry.count for entry in entries], damaged) == ([1, 3], 1)
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "of_vs_code", "name"),
    [
        ({"JPY_SESSION_NAME": "/a b/notebooks/03_x.ipynb"}, None, "03_x.ipynb"),
        ({}, "c:\\Users\\me\\kit\\04_y.ipynb", "04_y.ipynb"),
        ({}, None, None),
        ({"KIT_NOTEBOOK": "05_z.ipynb", "JPY_SESSION_NAME": "x.ipynb"}, None, "05_z.ipynb"),
    ],
)
def test_the_name_of_the_notebook(environment, of_vs_code, name, place, shell, monkeypatch):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    shell.user_ns["__vsc_ipynb_file__"] = of_vs_code
    run(shell, START)
    assert [entry.notebook for entry in entries_of(place)] == [name]


# Reading

GOOD = {
    "notebook": None, "cell": "ab", "count": 1, "time": "2026-01-02T03:04:05.678+00:00",
    "ok": True, "seconds": 1.5, "session": "s",
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({**GOOD, "more": 1}),
        json.dumps({key: GOOD[key] for key in GOOD if key != "ok"}),
        json.dumps({**GOOD, "count": True}),
        json.dumps({**GOOD, "seconds": 1e300}),
        json.dumps({**GOOD, "time": "2026-01-02T03:04:05"}),
        json.dumps({**GOOD, "session": None}),
    ],
)
def test_damaged_line_is_counted_and_skipped(line):
    good = json.dumps(GOOD)
    entries, damaged = read_log(f"{good}\n{line}\n\n{good}\n")
    assert (len(entries), damaged) == (2, 1)
    assert entries[0].began == datetime.datetime(2026, 1, 2, 3, 4, 4, 178000, datetime.timezone.utc)
    assert read_log(entries[0].as_line()) == ([entries[0]], 0)


def session(name: str, sources: str, notebook: str | None = None) -> list[Entry]:
    """What a kernel ran, a letter a cell."""
    values = {**GOOD, "session": name, "notebook": notebook}
    return [
        Entry(**{**values, "cell": source_hash(source), "count": count})
        for count, source in enumerate(sources, start=1)
    ]


def test_best_session():
    hashes = [source_hash(source) for source in "abc"]
    earlier, later = session("1", "abc"), session("2", "aXc")
    assert best_session(hashes, [*earlier, *later], "n") == (earlier, [])
    assert best_session(hashes, later, "n") == ([later[0], later[2]], [2])
    assert best_session(hashes, [], "n") == ([], [1, 2, 3])
    # Cells of two sessions do not make one, and their order counts.
    mixed = [*session("1", "aXX"), *session("2", "Xbc")]
    assert best_session(hashes, mixed, "n")[1] == [1]
    assert best_session(hashes, session("1", "bac"), "n")[1] == [1, 2]
    # Of equals, the one of the name, then the latest.
    named, last = session("3", "abc", "n"), session("4", "abc")
    assert best_session(hashes, [*earlier, *named, *last], "n")[0] == named
    assert best_session(hashes, [*earlier, *last], "n")[0] == last
