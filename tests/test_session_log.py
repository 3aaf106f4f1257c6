"""The log of a session, written by a real IPython shell in this process."""

from __future__ import annotations

import datetime
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

import helpers
from helpers.lib import session_log
from helpers.lib.session_log import best_session, find_notebook_name, read_log, source_hash

START = "import helpers; workspace = helpers.start('s1', profile='mini', device='cpu')"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A results folder of our own, and nobody who tells the notebook's name."""
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    for name in (session_log.NOTEBOOK_VARIABLE, "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "results" / "mini" / "log.jsonl"


@pytest.fixture
def shell(monkeypatch):
    """A fresh kernel, as far as one can be had in this process."""
    InteractiveShell.clear_instance()
    # Its history must not be written into the home folder.
    monkeypatch.setattr("IPython.core.history.HistoryAccessor.enabled", False)
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def run(shell, *sources: str) -> None:
    for source in sources:
        shell.run_cell(source, store_history=True)


def entries_of(path: Path) -> list[session_log.Entry]:
    entries, damaged = read_log(path.read_text(encoding="utf-8"))
    assert damaged == 0
    return entries


def test_each_cell_is_logged_from_the_one_that_starts(place, shell):
    run(shell, START, "x = 1  # é", "import time; time.sleep(0.05)", "  ")
    entries = entries_of(place)
    sources = [START, "x = 1  # é", "import time; time.sleep(0.05)"]
    assert [entry.cell for entry in entries] == [source_hash(source) for source in sources]
    assert [entry.count for entry in entries] == [1, 2, 3]
    assert all(entry.ok and entry.notebook is None for entry in entries)
    assert entries[2].seconds >= 0.05 > entries[1].seconds
    (session,) = {entry.session for entry in entries}
    assert re.fullmatch("[0-9a-f]{16}", session)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert all(
        datetime.timedelta() <= now - entry.ended < datetime.timedelta(minutes=1)
        for entry in entries
    )
    assert list(json.loads(place.read_text().splitlines()[0])) == [
        "notebook", "cell", "count", "time", "ok", "seconds", "session",
    ]  # fmt: skip


def test_starting_twice_logs_once(place, shell):
    run(shell, START, START, "x = 1")
    assert [entry.count for entry in entries_of(place)] == [1, 2, 3]


def test_another_profile_has_another_log(place, shell, monkeypatch):
    run(shell, START)
    monkeypatch.setenv("KIT_RESULTS", str(place.parents[1] / "other"))
    run(shell, START, "x = 1")
    assert [entry.count for entry in entries_of(place)] == [1]
    other = place.parents[1] / "other" / "mini" / "log.jsonl"
    assert [entry.count for entry in entries_of(other)] == [2, 3]


def test_errors_are_logged_as_such(place, shell, capsys):
    run(shell, START, "1 / 0", "if", "raise KeyboardInterrupt", "x = 1")
    assert [entry.ok for entry in entries_of(place)] == [True, False, False, False, True]


def test_what_programs_run_in_silence_is_not_logged(place, shell):
    run(shell, START)
    shell.run_cell("x = 1", store_history=False)
    shell.run_cell("x = 2", silent=True)
    run(shell, "get_ipython().run_cell('y = 3');")
    assert [entry.count for entry in entries_of(place)] == [1, 2]


def test_outside_ipython_nothing_happens(place, capsys):
    InteractiveShell.clear_instance()
    helpers.start(profile="mini", device="cpu")
    assert not place.parent.exists()


def test_a_new_kernel_is_a_new_session(place, shell):
    run(shell, START)
    InteractiveShell.clear_instance()
    run(InteractiveShell.instance(), START)
    first, second = entries_of(place)
    assert first.session != second.session
    assert (first.count, second.count) == (1, 1)


def test_a_log_that_cannot_be_written_breaks_no_cell(place, shell, capsys):
    place.parent.parent.mkdir()
    place.parent.write_text("a file where the folder should be")
    run(shell, START, "x = 1", "x += 1")
    assert shell.user_ns["x"] == 2
    warning = capsys.readouterr().err
    assert len(warning.splitlines()) == 1
    assert "log.jsonl in the results folder cannot be written" in warning
    place.parent.unlink()
    run(shell, "x += 1")
    assert [entry.count for entry in entries_of(place)] == [4]


def test_half_a_line_spoils_no_other(place, shell, monkeypatch, capsys):
    run(shell, START)
    opened = Path.open

    class Full:
        """A file on a disk that has room for ten more bytes."""

        def __init__(self, path):
            self.stream = opened(path, "ab", buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def write(self, data):
            return self.stream.write(data[:10])

    monkeypatch.setattr(Path, "open", lambda path, *args, **options: Full(path))
    run(shell, "x = 1")
    monkeypatch.undo()
    run(shell, "x = 2")
    entries, damaged = read_log(place.read_text())
    assert ([entry.count for entry in entries], damaged) == ([1, 3], 1)
    assert "the disk is full" in capsys.readouterr().err


def test_lines_of_several_kernels_do_not_mix(place):
    def write(number: int) -> None:
        log = session_log._SessionLog(SimpleNamespace(user_ns={}))
        log.path = place
        for count in range(1, 51):
            info = SimpleNamespace(store_history=True, raw_cell="x" * 1000 * number)
            log.cell_begins(info)
            log.cell_ended(SimpleNamespace(info=info, execution_count=count, success=True))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    entries = entries_of(place)
    assert len(entries) == 8 * 50
    for session in {entry.session for entry in entries}:
        counts = [entry.count for entry in entries if entry.session == session]
        assert counts == list(range(1, 51))


@pytest.mark.parametrize(
    ("environment", "variables", "name"),
    [
        ({}, {}, None),
        ({"JPY_SESSION_NAME": "/a b/notebooks/03_x.ipynb"}, {}, "03_x.ipynb"),
        ({"JPY_SESSION_NAME": "console-1-abc"}, {}, None),
        ({}, {"__vsc_ipynb_file__": "c:\\Users\\me\\kit\\04_y.ipynb"}, "04_y.ipynb"),
        ({}, {"__vsc_ipynb_file__": 7}, None),
        ({"KIT_NOTEBOOK": "05_z.ipynb", "JPY_SESSION_NAME": "x.ipynb"}, {}, "05_z.ipynb"),
    ],
)
def test_name_of_the_notebook(environment, variables, name, monkeypatch):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert find_notebook_name(variables) == name


def test_the_name_is_logged(place, shell, monkeypatch):
    monkeypatch.setitem(os.environ, session_log.NOTEBOOK_VARIABLE, "02_b.ipynb")
    run(shell, START)
    assert entries_of(place)[0].notebook == "02_b.ipynb"


def test_line_ends_do_not_change_the_hash():
    assert source_hash("a\r\nb\rc") == source_hash("a\nb\nc") != source_hash("a\nb c")
    assert source_hash("\ud800") != source_hash("")  # what no text file could hold


GOOD = {
    "notebook": None,
    "cell": "ab",
    "count": 1,
    "time": "2026-01-02T03:04:05.678+00:00",
    "ok": True,
    "seconds": 1.5,
    "session": "s",
}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        "[" * 100_000,
        json.dumps({**GOOD, "more": 1}),
        json.dumps({key: GOOD[key] for key in GOOD if key != "ok"}),
        json.dumps({**GOOD, "count": True}),
        json.dumps({**GOOD, "count": "1"}),
        json.dumps({**GOOD, "seconds": float("nan")}),
        json.dumps({**GOOD, "seconds": 1e300}),
        json.dumps({**GOOD, "time": "yesterday"}),
        json.dumps({**GOOD, "time": "2026-01-02T03:04:05"}),
        json.dumps({**GOOD, "session": None}),
    ],
)
def test_damaged_line_is_counted_and_skipped(line):
    good = json.dumps(GOOD)
    entries, damaged = read_log(f"{good}\n{line}\n\n{good}\n")
    assert (len(entries), damaged) == (2, 1)
    assert entries[0].began == datetime.datetime(2026, 1, 2, 3, 4, 4, 178000, datetime.timezone.utc)


def entry(session: str, count: int, source: str, notebook: str | None = None) -> session_log.Entry:
    return session_log.Entry(
        **{**GOOD, "cell": source_hash(source), "count": count, "session": session,
           "notebook": notebook}
    )  # fmt: skip


def test_best_session():
    hashes = [source_hash(source) for source in "abc"]
    earlier = [entry("1", number, source) for number, source in enumerate("abc", start=1)]
    later = [entry("2", number, source) for number, source in enumerate("aXc", start=1)]
    assert best_session(hashes, [*earlier, *later], "n") == (earlier, [])
    assert best_session(hashes, later, "n") == ([later[0], later[2]], [2])
    assert best_session(hashes, [], "n") == ([], [1, 2, 3])
    # Cells of two sessions do not make one, and the order counts.
    mixed = [entry("1", 1, "a"), entry("2", 2, "b"), entry("2", 3, "c")]
    assert best_session(hashes, mixed, "n")[1] == [1]
    swapped = [entry("1", 1, "b"), entry("1", 2, "a"), entry("1", 3, "c")]
    assert best_session(hashes, swapped, "n")[1] == [1, 2]
    # Of equals, the one of the name, then the latest.
    named = [entry("3", number, s, "n") for number, s in enumerate("abc", start=1)]
    last = [entry("4", number, s) for number, s in enumerate("abc", start=1)]
    assert best_session(hashes, [*earlier, *named, *last], "n")[0] == named
    assert best_session(hashes, [*earlier, *last], "n")[0] == last
