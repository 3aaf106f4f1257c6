"""The log of cells: a line for each cell that ran, so that a hand-in shows what really ran.

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
from pathlib import Path, PureWindowsPath
from typing import Any

LOG_NAME = "log.jsonl"
NOTEBOOK_VARIABLE = "KIT_NOTEBOOK"  # by which `python -m coursekit run` tells a kernel what it runs


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


def source_hash(source: str) -> str:
    """SHA-256 of a cell's source, as 64 hexadecimal digits; how lines end makes no difference."""
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def log_cells(results_dir: Path) -> None:
    """Log every cell that this IPython kernel runs, the present one included, to `results_dir`."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    if not hasattr(shell, "_cell_log"):
        shell._cell_log = _CellLog(shell)
        shell.events.register("pre_run_cell", shell._cell_log.cell_begins)
        shell.events.register("post_run_cell", shell._cell_log.cell_ended)
    shell._cell_log.path = results_dir / LOG_NAME


class _CellLog:
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
            notebook=_notebook_name(self.shell.user_ns),
            cell=source_hash(result.info.raw_cell),
            count=result.execution_count,
            time=now.isoformat(timespec="milliseconds"),
            ok=result.success,
            seconds=round(time.perf_counter() - self.began, 3),
            session=self.session,
        )
        # After a failure a part of a line may be there, which must not spoil this one.
        line = "\n" * self.failed + entry.as_line()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as stream:  # kernels do not mix their lines
                if stream.write(data := line.encode()) != len(data):
                    raise OSError("the disk is full")
            self.failed = False
        except OSError as error:
            if not self.failed:
                print(
                    f"note: {LOG_NAME} in the results folder cannot be written "
                    f"({error.strerror or error}), so this cell is missing in what is handed in: "
                    "fix this, then run the notebook again",
                    file=sys.stderr,
                )
            self.failed = True


def _notebook_name(variables: dict[str, Any]) -> str | None:
    """The file name of the notebook that this kernel runs; None when nobody tells."""
    places = (
        os.environ.get(NOTEBOOK_VARIABLE),  # the runner
        variables.get("__vsc_ipynb_file__"),  # VS Code
        os.environ.get("JPY_SESSION_NAME"),  # Jupyter
    )
    names = [PureWindowsPath(place or "").name for place in places]  # it knows / and \
    return next((name for name in names if name.endswith(".ipynb")), None)
