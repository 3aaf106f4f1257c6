"""Executes one notebook, cell by cell, in a fresh kernel of this Python."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from tqdm import tqdm

from coursekit.notebooks import bare_metadata, code_cells
from helpers.errors import KitError
from helpers.lib.cell_log import NOTEBOOK_VARIABLE
from helpers.lib.files import write_text
from helpers.lib.folders import ROOT, show_path

START_SECONDS = 180  # for a kernel to answer, on a slow disk
OUTPUT_SECONDS = 60  # for the outputs of a finished cell to arrive, on a busy machine


def execute_notebook(
    path: Path, notebook: NotebookNode, target: Path, *, profile: str, bar: tqdm
) -> None:
    """Execute a notebook in place; it is written to `target` however that ends.

    Cells are executed one by one instead of by `client.execute()`, which would turn Ctrl-C into a
    dead kernel.

    Args:
        path: Its file: the kernel stands in that folder.
        notebook: Its content.
        target: The file for the executed copy.
        profile: What `start()` is to decide.
        bar: It takes a step for each code cell.

    Raises:
        KitError: A cell failed, or the kernel died or could not be started.
    """
    cells, number = code_cells(notebook), 0
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=_ThisPython,
        timeout=None,
        startup_timeout=START_SECONDS,
        iopub_timeout=OUTPUT_SECONDS,
        record_timing=False,
        shutdown_kernel="immediate",  # it has nothing left to do, and a busy one would not listen
    )
    client.reset_execution_trackers()
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "KIT_PROFILE": profile,
        NOTEBOOK_VARIABLE: path.name,
        "PYTHONPATH": os.pathsep.join(search),  # so that helpers is found without being installed
    }
    try:
        with client.setup_kernel(cwd=str(path.parent), env=environment):
            for number, cell in enumerate(cells, start=1):
                bar.set_description(f"{path.stem}, cell {number}/{len(cells)} ")
                client.execute_cell(cell, notebook.cells.index(cell), execution_count=number)
                bar.update()
    except (CellExecutionError, DeadKernelError) as error:
        fault = "the kernel died; the memory may have run out"
        if isinstance(error, CellExecutionError):
            fault = f"{error.ename}: {_first_line(error.evalue)}"
        raise KitError(
            f"{path.stem}, cell {number} ({_first_line(cells[number - 1].source)}): {fault} "
            f"[what ran is in {show_path(target)}]"
        ) from None
    except RuntimeError as error:
        raise KitError(f"{path.stem}: no kernel could be started: {error}") from None
    finally:
        write_text(target, notebook_text(notebook))


class _ThisPython(AsyncKernelManager):
    """Starts kernels of this interpreter, whatever a user has installed as "python3"."""

    @property
    def kernel_spec(self) -> KernelSpec:
        # Kernels listen on this machine only, to signed messages: without --log-level each one
        # that starts would warn that they are not encrypted as well.
        launch = ["-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        name = "Python 3 (ipykernel)"
        return KernelSpec(argv=[sys.executable, *launch], display_name=name, language="python")


def _first_line(text: str) -> str:
    """The first line of a text that holds something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def notebook_text(notebook: NotebookNode) -> str:
    """An executed notebook as the text of its file, without what differs from run to run."""
    clean = copy.deepcopy(notebook)
    clean.metadata = bare_metadata(notebook)
    for cell in clean.cells:
        cell.metadata.pop("execution", None)
    # What a stream wrote in several pieces becomes one, as a terminal shows it.
    clean, _ = CoalesceStreamsPreprocessor().preprocess(clean, {})
    return nbformat.writes(clean).rstrip("\n") + "\n"
