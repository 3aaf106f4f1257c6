"""What every pytest run needs, of tests and of notebooks: the mini profile, and results of its own.

It is set before anything imports helpers, and in the environment, because kernels inherit it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from queue import Empty
from typing import Any

import matplotlib
import pytest

# `-n 2` runs files side by side, in processes of their own that share the results of the first.
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"  # threads of several processes would wait for each other
else:
    os.environ["KIT_RESULTS"] = tempfile.mkdtemp(prefix="kit-results-")  # not a student's own
os.environ["KIT_PROFILE"] = "mini"
matplotlib.use("Agg")  # in this process only: kernels show their figures inline


def pytest_configure(config: pytest.Config) -> None:
    """Let nbval fail a cell as soon as its kernel has died; it would wait for the whole time-out.

    Without nbval, or with one that is built otherwise, nothing is changed.
    """
    try:
        from nbval.kernel import RunningKernel

        get_message, is_alive = RunningKernel.get_message, RunningKernel.is_alive
    except (ImportError, AttributeError):
        return

    def get_message_of_the_living(self: Any, stream: str, timeout: float | None = None) -> Any:
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return get_message(self, stream, timeout=min(1.0, left))
            except Empty:
                if not is_alive(self):
                    raise RuntimeError("the kernel died: a crash, or no memory left") from None
                if left <= 1.0:
                    raise

    RunningKernel.get_message = get_message_of_the_living


def pytest_unconfigure(config: pytest.Config) -> None:
    if not IS_WORKER:
        shutil.rmtree(os.environ["KIT_RESULTS"], ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The comparison reads what the other notebooks write: it comes after all else."""
    items.sort(key=lambda item: item.path.stem == "06_comparison")  # all others stay in order


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not any(config.getoption(name, default=False) for name in ("nbval", "nbval_lax")):
        terminalreporter.write_line("notebooks were not run: use `pytest --nbval-lax`")
