"""What runs leave in the results folder: what is done, and what a new run moves away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from coursekit.notebooks import (
    COMPARISON,
    EXTENSIONS,
    METHOD_OF,
    code_cells,
    read_notebook,
    run_faults,
)
from helpers.data import data_set_of
from helpers.errors import KitError
from helpers.lib.folders import show_path
from helpers.results import check_belongs, read_result
from helpers.workspace import Workspace


def executed_copy(workspace: Workspace, path: Path) -> Path:
    """Where the executed copy of a notebook is kept."""
    return workspace.results_dir / "notebooks" / path.name


def keep_previous(workspace: Workspace, paths: Sequence[Path]) -> None:
    """Move results, checkpoints and copies of these notebooks to results/<profile>/previous/.

    What was kept there before of the same notebook is replaced; a result that is not complete
    replaces nothing.

    Raises:
        KitError: A folder cannot be moved.
    """
    for path in paths:
        _move(workspace, executed_copy(workspace, path))
        if method := METHOD_OF.get(path.stem[:2]):
            keep_previous_result(workspace, method)
            _move(workspace, workspace.checkpoints_dir / method)
        runs = workspace.results_dir / EXTENSIONS / path.stem
        if any(runs.glob("*/record.json")):
            _move(workspace, runs)


def keep_previous_result(workspace: Workspace, method: str) -> None:
    """Move the result of a method, if it is complete, to results/<profile>/previous/."""
    folder = workspace.results_dir / method
    if (folder / "record.json").exists():
        _move(workspace, folder)
        previous = show_path(workspace.results_dir / "previous")
        print(f"the earlier result of {method} is now in {previous}")


def _move(workspace: Workspace, source: Path) -> None:
    """Move what is there to the same place in previous/."""
    target = workspace.results_dir / "previous" / source.relative_to(workspace.results_dir)
    if not source.exists():
        return
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


def is_done(workspace: Workspace, path: Path) -> bool:
    """Whether a notebook as it is now ran to its end, and its result is there and belongs here."""
    copied, method = executed_copy(workspace, path), METHOD_OF.get(path.stem[:2])
    if not copied.exists() or is_outdated(workspace, path):
        return False
    ran = read_notebook(copied)
    if [cell.source for cell in code_cells(ran)] != [
        cell.source for cell in code_cells(read_notebook(path))
    ]:
        return False
    if run_faults(ran):
        return False
    if method is None:
        return True
    try:
        result = read_result(workspace.results_dir / method / "record.json")
        check_belongs(result, workspace, data_set_of(workspace))
    except KitError as error:
        tqdm.write(str(error))  # a bar may be there
        return False
    return True


def is_outdated(workspace: Workspace, path: Path) -> bool:
    """Whether a result is newer than the copy of the notebook that compares the results."""
    if path.stem[:2] != COMPARISON:
        return False
    ran = executed_copy(workspace, path).stat().st_mtime
    records = [workspace.results_dir / method / "record.json" for method in METHOD_OF.values()]
    return any(record.stat().st_mtime > ran for record in records if record.exists())
