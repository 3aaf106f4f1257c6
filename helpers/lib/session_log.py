"""The log of a session: a line for each cell that ran, so that a hand-in shows what really ran.

It holds hashes of the code and times, nothing of the code itself and nothing of what it printed.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

LOG_NAME = "log.jsonl"
NOTEBOOK_VARIABLE = "KIT_NOTEBOOK"  # by which the kit's runner tells a kernel what it runs
_ATTRIBUTE = "_kit_session_log"  # of the IPython shell: it has one log, however often asked


@dataclasses.dataclass(frozen=True)
class Entry:
    """One executed cell: a line of the log."""

    notebook: str | None  # file name; None where it could not be known
    cell: str  # `source_hash` of what was executed
    count: int  # execution count
    time: str  # ISO 8601, UTC: when the cell had ended
    ok: bool  # whether it ended without an error
    seconds: float  # that it ran; of the cell with `start()` only what came after that call
    session: str  # a random name of the kernel

    @property
    def ended(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.time)

    @property
    def began(self) -> datetime.datetime:
        return self.ended - datetime.timedelta(seconds=self.seconds)

    def as_line(self) -> str:
        return json.dumps(dataclasses.asdict(self)) + "\n"


# Of which types a line's values are, by name; what JSON calls a number may come as either.
_TYPES: dict[str, tuple[type, ...]] = {
    "notebook": (str, type(None)),
    "cell": (str,),
    "count": (int,),
    "time": (str,),
    "ok": (bool,),
    "seconds": (float, int),
    "session": (str,),
}


def source_hash(source: str) -> str:
    """SHA-256 of a cell's source, as 64 hexadecimal digits; how lines end makes no difference."""
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def log_cells(results_dir: Path) -> None:
    """Log every cell that this kernel runs, the present one included, to `results_dir`.

    Called again, it only changes the folder. Outside IPython nothing happens.
    """
    shell = _shell()
    if shell is None:
        return
    log = getattr(shell, _ATTRIBUTE, None)
    if log is None:
        log = _SessionLog(shell)
        setattr(shell, _ATTRIBUTE, log)
        shell.events.register("pre_run_cell", log.cell_begins)
        shell.events.register("post_run_cell", log.cell_ended)
    log.path = results_dir / LOG_NAME


def _shell() -> Any:
    """The IPython shell that runs us, or None."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


class _SessionLog:
    """Writes a line a cell. What cannot be written is told once, and never stops a cell."""

    def __init__(self, shell: Any) -> None:
        self.shell, self.session = shell, secrets.token_hex(8)
        self.path = Path(LOG_NAME)
        self.began = time.perf_counter()  # of the cell that is running while the log is made
        self.failed = False

    def cell_begins(self, info: Any) -> None:
        """IPython calls this before a cell; what programs run in silence does not count."""
        if info.store_history:
            self.began = time.perf_counter()

    def cell_ended(self, result: Any) -> None:
        """IPython calls this after a cell, with None for one that was cancelled."""
        if result is None or not result.info.store_history or result.execution_count is None:
            return
        now = datetime.datetime.now(datetime.timezone.utc)
        entry = Entry(
            notebook=find_notebook_name(self.shell.user_ns),
            cell=source_hash(result.info.raw_cell),
            count=result.execution_count,
            time=now.isoformat(timespec="milliseconds"),
            ok=result.success,
            seconds=round(time.perf_counter() - self.began, 3),
            session=self.session,
        )
        try:
            self._write(entry.as_line())
        except OSError as error:
            if not self.failed:
                self._warn(error)
            self.failed = True

    def _write(self, line: str) -> None:
        """Append a line in one write, so that those of several kernels do not mix."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # After a failure a part of a line may be there, which must not spoil this one.
        data = ("\n" * self.failed + line).encode()
        with self.path.open("ab", buffering=0) as stream:
            if stream.write(data) != len(data):
                raise OSError("the disk is full")
        self.failed = False

    def _warn(self, error: OSError) -> None:
        reason = error.strerror or error
        print(
            f"note: {LOG_NAME} in the results folder cannot be written ({reason}), so this cell is "
            "missing in what is handed in: mend it, then run the notebook again",
            file=sys.stderr,
        )


def find_notebook_name(variables: dict[str, Any]) -> str | None:
    """The file name of the notebook that this kernel runs; None when nobody tells.

    The kit's runner and Jupyter tell by the environment, VS Code by one of the kernel's variables.
    """
    places = (
        os.environ.get(NOTEBOOK_VARIABLE),
        variables.get("__vsc_ipynb_file__"),
        os.environ.get("JPY_SESSION_NAME"),
    )
    for place in places:
        name = PureWindowsPath(place).name if isinstance(place, str) else ""  # it knows / and \
        if name.endswith(".ipynb"):
            return name
    return None


def read_log(text: str) -> tuple[list[Entry], int]:
    """The entries of a log in their order, and how many of its lines are damaged."""
    entries, damaged = [], 0
    for line in filter(str.strip, text.split("\n")):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, RecursionError, OverflowError):
            damaged += 1
    return entries, damaged


def _entry(values: Any) -> Entry:
    """An entry from the values of its line; raises `ValueError` when they cannot be."""
    if not isinstance(values, dict) or set(values) != set(_TYPES):
        raise ValueError("no entry of a log")
    if any(type(values[name]) not in types for name, types in _TYPES.items()):
        raise ValueError("a value of another type")
    entry = Entry(**values)
    if entry.began.tzinfo is None:
        raise ValueError("a time without its zone")
    return entry


def best_session(
    hashes: Sequence[str], entries: Sequence[Entry], name: str
) -> tuple[list[Entry], list[int]]:
    """The session that ran most of a notebook's code cells as they stand, in their order.

    `hashes` are the `source_hash` of its code cells, `name` its file name. Returns the entries of
    these cells, cell by cell, and the numbers of the cells that the session does not show. A
    session of this name is preferred, and a later one to an earlier one.
    """
    sessions: dict[str, list[Entry]] = {}
    for entry in entries:
        sessions.setdefault(entry.session, []).append(entry)
    best: tuple[tuple[int, bool], list[Entry], list[int]]
    best = (0, False), [], list(range(1, len(hashes) + 1))
    for session in sessions.values():
        ran = {(entry.count, entry.cell): entry for entry in session}
        shown = [ran.get(key) for key in enumerate(hashes, start=1)]
        found = [entry for entry in shown if entry is not None]
        absent = [number for number, entry in enumerate(shown, start=1) if entry is None]
        rank = len(found), any(entry.notebook == name for entry in found)
        if found and rank >= best[0]:
            best = rank, found, absent
    return best[1], best[2]
