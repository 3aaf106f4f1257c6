"""The command `run`: the notebooks one after another, what they did, and the report."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from coursekit.notebooks import (
    code_cells,
    extension_paths,
    notebook_paths,
    read_notebook,
    select_notebooks,
    version_note,
)
from coursekit.run.keep import executed_copy, is_done, is_outdated, keep_previous
from coursekit.run.kernel import execute_notebook
from coursekit.run.report import write_report
from helpers.comparison import comparison_table
from helpers.data import data_set_of
from helpers.lib.files import only_writer, write_text
from helpers.lib.folders import show_path
from helpers.lib.progress import duration
from helpers.results import load_results
from helpers.workspace import Workspace, find_workspace

TICK = 1.0  # seconds between two redrawings of the clock


def run_notebooks(
    *,
    profile: str | None = None,
    names: Sequence[str] | None = None,
    extensions: bool = False,
    resume: bool = False,
    save_notebooks: bool = False,
    dataset: str | None = None,
) -> Path:
    """Run notebooks in order, keep executed copies, compare, and write the report.

    Copies go to results/<profile>/notebooks/. A fresh run first moves the results and checkpoints
    of the chosen notebooks to results/<profile>/previous/.

    Args:
        profile: "mini" or "full"; None decides as `start()` does.
        names: Which, by number or name; None: all of the assignment.
        extensions: Without names, all of the extensions instead.
        resume: Skip notebooks that are done, and let an interrupted training go on.
        save_notebooks: Write the executed notebooks over those in notebooks/, too.
        dataset: Whose pictures they use; None: the one that notebook 01 chooses.

    Returns:
        The path of the report.

    Raises:
        KitError: A notebook or the profile is unknown, another run holds the results, or a cell
            failed: the run stops there, and what ran is in the executed copy.
    """
    started = time.perf_counter()
    paths = select_notebooks(names, extensions=extensions)
    if dataset is not None:
        os.environ["KIT_DATASET"] = dataset  # kernels inherit it; it goes before notebook 01
    workspace = find_workspace(profile=profile)
    if dataset is not None:
        data_set_of(workspace)  # what cannot be used is told before anything is moved
    for path in paths:
        # A damaged one is to be found before anything is moved.
        if note := version_note(path.name, read_notebook(path)):
            print(note)
    print(f"profile {workspace.profile}, results in {show_path(workspace.results_dir)}")
    lock = workspace.results_dir / ".run.lock"
    with only_writer(lock, f"the folder {show_path(workspace.results_dir)}"):
        if not resume:
            keep_previous(workspace, paths)
        _run_all(paths, workspace.profile, resume, save_notebooks)
        # The notebooks may have told us who the student is.
        workspace = find_workspace(profile=workspace.profile)
        report = write_report(workspace, list(_copies_to_show(workspace)))
        _print_results(workspace, paths)
    print(f"report  {show_path(report)}")
    print(f"done in {duration(time.perf_counter() - started)}")
    return report


def _run_all(paths: Sequence[Path], profile: str, resume: bool, save_notebooks: bool) -> None:
    """Run notebooks under one bar, or those that are not done; stops at the first that fails."""
    notebooks = {path: read_notebook(path) for path in paths}
    counts = {path: len(code_cells(notebook)) for path, notebook in notebooks.items()}
    with _clock(sum(counts.values())) as bar:
        for path, notebook in notebooks.items():
            started = time.perf_counter()
            # Notebook 01 may have chosen other pictures, which the results must be about.
            workspace = find_workspace(profile=profile)
            copied = executed_copy(workspace, path)
            if resume and is_done(workspace, path):
                bar.write(f"{path.stem}: done before, skipped")
                bar.update(counts[path])
            else:
                bar.set_description(f"{path.stem} starts ")
                execute_notebook(path, notebook, copied, profile=profile, bar=bar)
                seconds = duration(time.perf_counter() - started)
                bar.write(f"{path.stem}: {counts[path]} cells in {seconds}")
            if save_notebooks:
                write_text(path, copied.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _clock(total: int) -> Iterator[tqdm]:
    """A bar over all cells, on a terminal; its clock goes on while a long cell runs."""
    stop = threading.Event()
    form = "{desc}{percentage:3.0f}% |{bar}| {elapsed}"
    with tqdm(total=total, bar_format=form, file=sys.stderr, leave=False, disable=None) as bar:

        def tick() -> None:
            while not stop.wait(TICK):
                bar.refresh()

        if not bar.disable:
            threading.Thread(target=tick, daemon=True).start()
        try:
            yield bar
        finally:
            stop.set()


def _copies_to_show(workspace: Workspace) -> Iterator[Path]:
    """The executed copies for the report: all there are, but a comparison that is out of date."""
    for path in (notebook_paths() | extension_paths()).values():
        copied = executed_copy(workspace, path)
        if copied.exists() and is_outdated(workspace, path):
            print(
                f"{path.stem} ran before the newest result: run it again to have it in the report"
            )
        elif copied.exists():
            yield copied


def _print_results(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Print the comparison of the methods, and the runs of each extension among `paths`."""
    if methods := load_results(workspace):
        print(comparison_table(methods))
    for path in paths:
        if runs := load_results(workspace, extension=path.stem):
            print(f"\n{path.stem}\n{comparison_table(runs)}")
