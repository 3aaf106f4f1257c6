"""What runs leave in the results folder: what is done, and what a new run moves away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from coursekit.notebooks import (
    COMPARISON,
    EXTENSIONS,
    METHOD_OF,
    code_cells,
    extension_paths,
    has_error,
    read_notebook,
)
from helpers.data import DataSet
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
    if [cell.source for cell in cells] != [cell.source for cell in code_cells(read_notebook(path))]:
        return False
    if any(cell.execution_count is None or has_error(cell) for cell in cells):
        return False
    if path.stem[:2] in METHOD_OF:
        return _has_result(workspace, METHOD_OF[path.stem[:2]], pictures)
    return not is_outdated(workspace, path)


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


def is_outdated(workspace: Workspace, path: Path) -> bool:
    """Whether a result is newer than the copy of the notebook that compares the results."""
    if path.stem[:2] != COMPARISON:
        return False
    ran = executed_copy(workspace, path).stat().st_mtime
    records = [workspace.results_dir / method / "record.json" for method in METHOD_OF.values()]
    return any(record.stat().st_mtime > ran for record in records if record.exists())
