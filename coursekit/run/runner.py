"""Runs the notebooks one after another, each in a fresh kernel, and keeps what they did."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets import default

from coursekit.notebooks import (
    CHOICE,
    COMPARISON,
    EXTENSIONS,
    METHOD_OF,
    bare_metadata,
    code_cells,
    extension_paths,
    has_error,
    notebook_paths,
    read_notebook,
    select_notebooks,
    version_note,
)
from coursekit.run.report import write_report
from helpers.data import DataSet, data_set_of
from helpers.errors import KitError
from helpers.lib.files import only_writer, write_text
from helpers.lib.folders import ROOT, show_path
from helpers.lib.progress import duration
from helpers.lib.session_log import NOTEBOOK_VARIABLE
from helpers.results import (
    Result,
    check_belongs,
    comparison_table,
    format_table,
    load_results,
    read_result,
)
from helpers.workspace import Workspace, find_workspace

START_SECONDS = 180  # for a kernel to answer, on a slow disk
OUTPUT_SECONDS = 60  # for the outputs of a finished cell to arrive, on a busy machine
TICK = 1.0  # seconds between two redrawings of the clock

_CARRIAGE_RETURN = re.compile(r".*\r(?=[^\n])")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_quiet = logging.getLogger("helpers.runner")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False  # what went wrong is said once, by our own error


def run_notebooks(
    *,
    profile: str | None = None,
    names: list[str] | None = None,
    extensions: bool = False,
    resume: bool = False,
    save_notebooks: bool = False,
) -> Path:
    """Run the chosen notebooks in order, keep executed copies, compare, and write the report.

    Without `names`, all of the assignment run, or with `extensions` all of these instead. Copies go
    to results/<profile>/notebooks/. A fresh run first moves the results and checkpoints of the
    chosen notebooks to results/<profile>/previous/; with `resume`, notebooks that are done are
    skipped, and an interrupted training goes on.
    `save_notebooks` also writes the executed notebooks over those in notebooks/. Returns the path
    of the report. Raises `KitError` for an unknown notebook or profile, when another run holds the
    results, and when a cell fails: the run then stops, and what ran is in its executed copy.
    """
    started = time.perf_counter()
    paths = select_notebooks(names, extensions=extensions)
    workspace = find_workspace(profile=profile)
    for path in paths:
        # A damaged one is to be found before anything is moved.
        if note := version_note(path.name, read_notebook(path)):
            print(note)
    check_pictures(workspace, paths)
    print(f"profile {workspace.profile}, results in {show_path(workspace.results_dir)}")
    lock = workspace.results_dir / ".run.lock"
    with only_writer(lock, f"the folder {show_path(workspace.results_dir)}"):
        if resume:
            _run_what_is_left(paths, workspace, save_notebooks)
        else:
            keep_previous(workspace, paths)
            _run_all(paths, workspace, save_notebooks)
        # The notebooks may have told us who the student is.
        workspace = find_workspace(profile=workspace.profile)
        report = write_report(workspace, _copies_to_show(workspace))
        _print_results(workspace, paths)
    print(f"report  {show_path(report)}")
    print(f"done in {duration(time.perf_counter() - started)}")
    return report


def check_pictures(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Raise `KitError` when the pictures that notebooks will ask for are not on this machine.

    Notebook 01 decides whose these are, so nothing is known where it runs, too.
    """
    numbers = {path.stem[:2] for path in paths}
    if CHOICE not in numbers and numbers & {*METHOD_OF, COMPARISON}:
        data_set_of(workspace)


def executed_copy(workspace: Workspace, path: Path) -> Path:
    """Where the executed copy of a notebook is kept."""
    return workspace.results_dir / "notebooks" / path.name


def keep_previous(workspace: Workspace, paths: list[Path]) -> None:
    """Move results, checkpoints and copies of these notebooks to results/<profile>/previous/.

    What was kept there before of the same notebook is replaced; a result that is not complete
    replaces nothing. Raises `KitError` when a folder cannot be moved.
    """
    previous = workspace.results_dir / "previous"
    for path in paths:
        copied = executed_copy(workspace, path)
        if copied.exists():
            _move(copied, previous / "notebooks" / path.name)
        if path.stem[:2] in METHOD_OF:
            method = METHOD_OF[path.stem[:2]]
            keep_previous_result(workspace, method)
            if (workspace.checkpoints_dir / method).exists():
                _move(workspace.checkpoints_dir / method, previous / "checkpoints" / method)
        runs = workspace.results_dir / EXTENSIONS / path.stem
        if path.stem in extension_paths() and any(runs.glob("*/record.json")):
            _move(runs, previous / EXTENSIONS / path.stem)


def keep_previous_result(workspace: Workspace, method: str) -> None:
    """Move the result of a method, if it is complete, to results/<profile>/previous/."""
    previous = workspace.results_dir / "previous" / method
    if (workspace.results_dir / method / "record.json").exists():
        _move(workspace.results_dir / method, previous)
        print(f"the earlier result of {method} is now in {show_path(previous)}")


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)
    except OSError as error:
        raise KitError(
            f"cannot move {show_path(source)} to {show_path(target)}: {error.strerror or error}; "
            "close what has it open, then run again"
        ) from None


def _run_what_is_left(paths: list[Path], workspace: Workspace, save_notebooks: bool) -> None:
    """Run the notebooks that are not done.

    The one that chooses the data set comes first and alone: what it chooses says whether the
    results of the others are still about the right pictures.
    """
    for choosing in (True, False):
        stage = [path for path in paths if (path.stem[:2] == CHOICE) == choosing]
        now = find_workspace(profile=workspace.profile)
        if todo := list(_not_done(stage, now, save_notebooks)):
            _run_all(todo, now, save_notebooks)


def _not_done(paths: list[Path], workspace: Workspace, save_notebooks: bool) -> Iterator[Path]:
    """The notebooks that are still to run; says which are skipped."""
    has_results = any(path.stem[:2] in METHOD_OF for path in paths)
    pictures = data_set_of(workspace) if has_results else None
    running = False
    for path in paths:
        outdated = path.stem[:2] == COMPARISON and running
        if outdated or not is_done(workspace, path, pictures):
            running = True
            yield path
            continue
        print(f"{path.stem}: done before, skipped")
        if save_notebooks:
            write_text(path, executed_copy(workspace, path).read_text(encoding="utf-8"))


def is_done(workspace: Workspace, path: Path, pictures: DataSet | None) -> bool:
    """Whether a notebook as it is now ran to its end, and the result it writes is there.

    `pictures` is the data set that the result has to be about.
    """
    copied = executed_copy(workspace, path)
    if not copied.exists():
        return False
    try:
        cells = code_cells(read_notebook(copied))
    except KitError:
        return False
    complete = all(cell.execution_count is not None and not has_error(cell) for cell in cells)
    if [cell.source for cell in cells] != [cell.source for cell in code_cells(read_notebook(path))]:
        return False
    number = path.stem[:2]
    if number in METHOD_OF:
        return complete and _has_result(workspace, METHOD_OF[number], pictures)
    return complete and not _is_outdated(workspace, path)


def _has_result(workspace: Workspace, method: str, pictures: DataSet | None) -> bool:
    """Whether a method has a result that belongs here; says why when it has one that does not."""
    record = workspace.results_dir / method / "record.json"
    if not record.exists():
        return False
    try:
        check_belongs(read_result(record), workspace, pictures)
    except KitError as error:
        print(error)
        return False
    return True


def _is_outdated(workspace: Workspace, path: Path) -> bool:
    """Whether a result is newer than the copy of the notebook that compares the results."""
    if path.stem[:2] != COMPARISON:
        return False
    ran = executed_copy(workspace, path).stat().st_mtime
    records = [workspace.results_dir / method / "record.json" for method in METHOD_OF.values()]
    return any(record.stat().st_mtime > ran for record in records if record.exists())


def _copies_to_show(workspace: Workspace) -> list[Path]:
    """The executed copies for the report: all there are, but a comparison that is out of date."""
    shown = []
    for path in (notebook_paths() | extension_paths()).values():
        if not executed_copy(workspace, path).exists():
            continue
        if _is_outdated(workspace, path):
            print(
                f"{path.stem} ran before the newest result: run it again to have it in the report"
            )
        else:
            shown.append(executed_copy(workspace, path))
    return shown


def _run_all(paths: list[Path], workspace: Workspace, save_notebooks: bool) -> None:
    """Run notebooks under one bar; stops at the first that fails."""
    notebooks = {path: read_notebook(path) for path in paths}
    total = sum(len(code_cells(notebook)) for notebook in notebooks.values())
    with _clock(total) as bar:
        for path, notebook in notebooks.items():
            started = time.perf_counter()
            bar.set_description(f"{path.stem} starts ")
            _run_one(path, notebook, workspace, bar)
            if save_notebooks:
                write_text(path, notebook_text(notebook))
            seconds = duration(time.perf_counter() - started)
            bar.write(f"{path.stem}: {len(code_cells(notebook))} cells in {seconds}")


@contextlib.contextmanager
def _clock(total: int) -> Iterator[tqdm]:
    """A bar over all cells; on a terminal its clock goes on while a long cell runs."""
    stop = threading.Event()
    form = "{desc}{percentage:3.0f}% |{bar}| {elapsed}"
    with tqdm(total=total, bar_format=form, file=sys.stderr, leave=False) as bar:

        def tick() -> None:
            while not stop.wait(TICK):
                bar.refresh()

        ticking = threading.Thread(target=tick, daemon=True)
        if sys.stderr.isatty():  # in a log file each tick would be a line
            ticking.start()
        try:
            yield bar
        finally:
            stop.set()
            if ticking.is_alive():
                ticking.join()


def _run_one(path: Path, notebook: NotebookNode, workspace: Workspace, bar: tqdm) -> None:
    """Run a notebook in place; its executed copy is written however the run ends."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    copied = executed_copy(workspace, path)
    try:
        with _kernel(path, notebook, workspace) as client:
            _run_cells(path, notebook, client, copied, bar)
    finally:
        write_text(copied, notebook_text(notebook))


def _run_cells(
    path: Path, notebook: NotebookNode, client: NotebookClient, copied: Path, bar: tqdm
) -> None:
    total, number = len(code_cells(notebook)), 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        number += 1
        bar.set_description(f"{path.stem}, cell {number}/{total} ")
        try:
            client.execute_cell(cell, index, execution_count=number)
        except CellExecutionError as error:
            _fail(path, number, cell, copied, f"{error.ename}: {_first_line(error.evalue)}")
        except DeadKernelError:
            _fail(path, number, cell, copied, "the kernel died; the memory may have run out")
        bar.update()


def _fail(path: Path, number: int, cell: NotebookNode, copied: Path, what: str) -> NoReturn:
    raise KitError(
        f"{path.stem}, cell {number} ({_first_line(cell.source)}): {what} "
        f"[what ran is in {show_path(copied)}]"
    ) from None


def _first_line(text: str) -> str:
    """The first line of a text that holds something."""
    return next((line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()), "")


class _ThisPython(KernelSpecManager):
    """The only kernel is this interpreter, whatever a user has installed under the same name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # Kernels listen on this machine only, to signed messages: without --log-level each one
        # that starts would warn that they are not encrypted as well.
        launch = ["-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(
            argv=[sys.executable, *launch],
            display_name="Python 3 (ipykernel)",
            language="python",
        )


class _ThisKernel(AsyncKernelManager):
    """Starts kernels of this interpreter."""

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return _ThisPython()


@contextlib.contextmanager
def _kernel(path: Path, notebook: NotebookNode, workspace: Workspace) -> Iterator[NotebookClient]:
    """A fresh kernel in the notebook's folder, with the profile decided; ended with the block.

    Cells are executed one by one by the caller instead of by `client.execute()`, which would turn
    Ctrl-C into a dead kernel.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=_ThisKernel,
        timeout=None,
        startup_timeout=START_SECONDS,
        iopub_timeout=OUTPUT_SECONDS,
        record_timing=False,
        log=_quiet,
    )
    client.reset_execution_trackers()
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "KIT_PROFILE": workspace.profile,
        NOTEBOOK_VARIABLE: path.name,
        "PYTHONPATH": os.pathsep.join(search),  # so that helpers is found without being installed
    }
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(client.setup_kernel(cwd=str(path.parent), env=environment))
        except RuntimeError as error:
            raise KitError(f"{path.stem}: no kernel could be started: {error}") from None
        try:
            yield client
        except BaseException:
            client.shutdown_kernel = "immediate"  # a busy kernel would not listen
            raise


def notebook_text(notebook: NotebookNode) -> str:
    """An executed notebook as the text of its file, without what differs from run to run.

    Cell ids stay; of the metadata stays what `bare_metadata` says.
    """
    clean = copy.deepcopy(notebook)
    clean.metadata = bare_metadata(notebook)
    for cell in clean.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    return nbformat.writes(clean).rstrip("\n") + "\n"


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs in which what a stream wrote in several pieces is one, as a terminal shows it."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        stream = output.output_type == "stream"
        if stream and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = _CARRIAGE_RETURN.sub("", output.text)
    return merged


def _print_results(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Print the comparison of the methods, and the runs of each extension among `paths`."""
    if methods := load_results(workspace):
        _print_table(methods)
    for path in paths:
        if runs := load_results(workspace, extension=path.stem):
            print(f"\n{path.stem}")
            _print_table(runs)


def _print_table(results: Sequence[Result]) -> None:
    """Print results without the names of the weights, which make the table too wide."""
    rows = comparison_table(results)
    for row in rows:
        row.pop("Weights", None)
    print(format_table(rows, note=next((r.record["data"]["note"] for r in results), "")))
