"""What every pytest run needs, of tests and of notebooks: the mini profile, and results of its own.

It is set before anything imports helpers, and in the environment, because kernels inherit it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from queue import Empty

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

SLICE = 1.0  # seconds between two looks at whether a kernel still lives


def pytest_configure(config: pytest.Config) -> None:
    notice_dead_kernels()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not IS_WORKER:
        shutil.rmtree(os.environ["KIT_RESULTS"], ignore_errors=True)


def notice_dead_kernels() -> None:
    """Let nbval fail a cell as soon as its kernel has died; it would wait for the whole time-out.

    Without nbval, or with one that is built otherwise, nothing is changed.
    """
    try:
        from nbval.kernel import RunningKernel

        get_message, is_alive = RunningKernel.get_message, RunningKernel.is_alive
    except (ImportError, AttributeError):
        return

    def get_message_of_the_living(self, stream, timeout=None):
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return get_message(self, stream, timeout=min(SLICE, left))
            except Empty:
                if not is_alive(self):
                    raise RuntimeError("the kernel died: a crash, or no memory left") from None
                if left <= SLICE:
                    raise

    RunningKernel.get_message = get_message_of_the_living


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cells of a notebook stay together and in order; the comparison comes after all else."""
    first: dict[object, int] = {}
    for place, item in enumerate(items):
        first.setdefault(item.path, place)

    def order(place_and_item: tuple[int, pytest.Item]) -> tuple[bool, int, int]:
        place, item = place_and_item
        if item.path.suffix != ".ipynb":
            return False, place, 0
        return item.path.stem == "06_comparison", first[item.path], getattr(item, "cell_num", 0)

    items[:] = [item for _, item in sorted(enumerate(items), key=order)]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    options = ("nbval", "nbval_lax")
    if not any(config.getoption(option, default=False) for option in options):
        terminalreporter.write_line("notebooks were not run: use `pytest --nbval-lax`")
