"""Execute the code cells of one notebook: started by rerun.py, in a process of its own.

It stands by itself, without the rest of the kit, so that its limits hold before anything is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

LARGEST_FILE = 2 << 30  # bytes that one file may grow to
LONGEST_ERROR = 200  # characters


def main(task_file: str) -> None:
    """Execute a task, a JSON file: its `cells`, pairs of a source and whether it may fail.

    `seconds` and `memory` (bytes) are its limits. `outcome` is the JSON file that says, all the
    time, which `cell` is being executed (from 1), and at last its `error`, "" when all have run.
    """
    task = json.loads(Path(task_file).read_text(encoding="utf-8"))
    limit(task["memory"], task["seconds"])
    sys.path[0] = ""  # the folder of the notebook, not that of this file
    outcome = Path(task["outcome"])
    shell = new_shell()
    for number, (source, may_fail) in enumerate(task["cells"], start=1):
        tell(outcome, cell=number, error=None)
        result = shell.run_cell(source, store_history=True)
        error = result.error_before_exec or result.error_in_exec
        if error is not None and not may_fail:
            said = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")
            tell(outcome, cell=number, error=said[:LONGEST_ERROR])
            return
    tell(outcome, cell=len(task["cells"]), error="")


def limit(memory: int, seconds: float) -> None:
    """Limit this process and its children, as far as the system knows such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    processor_seconds = int(seconds * (os.cpu_count() or 1)) + 60
    wanted = {
        "RLIMIT_DATA": memory,  # what is allocated; RLIMIT_AS would count every mapped library
        "RLIMIT_CPU": processor_seconds,
        "RLIMIT_FSIZE": LARGEST_FILE,
        "RLIMIT_CORE": 0,
    }
    for name, value in wanted.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not every system has each
            kind = getattr(resource, name)
            _, most = resource.getrlimit(kind)
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (value, value))


def new_shell() -> Any:
    """An IPython shell, which knows what notebooks may hold besides Python, without a history."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            """What `%matplotlib inline` asks for; nobody looks at the figures."""

    config = Config()
    config.HistoryManager.enabled = False
    return Shell.instance(config=config)


def tell(path: Path, **values: object) -> None:
    """Write an outcome, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(sys.argv[1])
