"""`grade --rerun`: execute the notebooks of chosen hand-ins again, on the mini profile.

This runs students' code. It runs in processes of its own, with limits where the system has them,
and what comes of it is information: it gives and takes no points. It is no sandbox.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from coursekit.grading.archive import HandInError
from coursekit.grading.case import Case
from coursekit.grading.cells import Notebook
from coursekit.grading.find import Place, content_hash
from coursekit.grading.labels import Labels
from coursekit.grading.read import read_hand_in
from coursekit.notebooks import MAY_FAIL, METHOD_OF
from helpers.errors import KitError
from helpers.lib.cell_log import NOTEBOOK_VARIABLE
from helpers.lib.files import read_json, write_json
from helpers.lib.folders import ROOT
from helpers.lib.identity import FLOWERS
from helpers.lib.progress import duration

EXECUTE = Path(__file__).with_name("execute.py")
# What a student's process gets of the environment: nothing that could be a key to something.
KEPT = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
RAN, MISSING = "ran", "is missing"
NO_NETWORK = ("unshare", "--map-root-user", "--net")


@dataclass(frozen=True)
class Limits:
    """What one hand-in may use while it runs again."""

    minutes: float = 20.0  # for all of its notebooks; the model solutions take three
    memory: float = 8.0  # GB

    def __str__(self) -> str:
        memory = f"{self.memory:g} GB" if sys.platform == "linux" else "memory NOT limited here"
        network = "no network" if without_network() else "network NOT blocked here"
        return f"at most {duration(60 * self.minutes)} each, {memory}, {network}"


@dataclass(frozen=True)
class Rerun:
    """What came of one notebook of a hand-in."""

    notebook: str  # its number
    outcome: str  # `RAN`, or why it did not
    seconds: float
    accuracy: float | None = None  # of its method on mini, counted from the new predictions


def run_again(
    place: Place,
    student: str,
    templates: Mapping[str, Notebook],
    labels: Mapping[str, Labels],
    limits: Limits,
) -> list[Rerun]:
    """Execute the notebooks of a hand-in in order, each in a process of its own.

    Args:
        place: of the hand-in.
        student: the id that the notebooks find noted down.
        templates: the instructor's notebooks by number: those of a hand-in that are wanted.
        labels: the instructor's, by profile.
        limits: of what it may use.

    Returns:
        What came of each; whatever goes wrong with one is its outcome, and the next one runs.

    Raises:
        KitError: this machine cannot do it.
    """
    hand_in = read_hand_in(place, templates)
    ends = time.monotonic() + 60 * limits.minutes
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            desk = Path(folder)
            for name in ("notebooks", "home", "tmp", "data"):
                (desk / name).mkdir()
            write_json(desk / "results" / "assignment.json", {"student": student})
            reruns = []
            for number, template in templates.items():
                notebook, began = hand_in.notebooks.get(number), time.monotonic()
                outcome = MISSING
                if notebook is not None:
                    outcome = _execute(notebook, template.name, desk, ends - began, limits)
                reruns.append(Rerun(number, outcome, round(time.monotonic() - began, 1)))
            return list(_with_accuracies(reruns, desk / "results", labels))
    except OSError as error:
        raise KitError(f"cannot run {place.name} again: {error.strerror or error}") from None


def _execute(notebook: Notebook, name: str, desk: Path, seconds: float, limits: Limits) -> str:
    """Execute one notebook; returns its outcome."""
    if seconds <= 0:
        return "not run: the time was up"
    outcome = desk / "outcome.json"
    outcome.unlink(missing_ok=True)
    cells = [[cell.source, MAY_FAIL in cell.tags] for cell in notebook.code]
    memory = int(limits.memory * 1e9)
    task = {"cells": cells, "seconds": seconds, "memory": memory, "outcome": str(outcome)}
    write_json(desk / "task.json", task)
    process = subprocess.Popen(
        [*without_network(), sys.executable, str(EXECUTE), str(desk / "task.json")],
        cwd=desk / "notebooks",
        env=_environment(desk, name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that what it starts can be ended with it
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {duration(60 * limits.minutes)}, in {_cell(outcome)}"
    finally:
        _end(process)
    try:
        error = read_json(outcome)["error"]
    except (KitError, LookupError, TypeError):
        error = None
    if error is None:
        return f"its process ended with status {process.returncode}, in {_cell(outcome)}"
    return f"failed in {_cell(outcome)}: {str(error)[:300]}" if error else RAN


def _environment(desk: Path, name: str) -> dict[str, str]:
    """The variables of a student's process: folders of its own, nothing of this user's."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    home, temporary = str(desk / "home"), str(desk / "tmp")
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        **dict.fromkeys(("HOME", "USERPROFILE", "IPYTHONDIR", "MPLCONFIGDIR"), home),
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary),
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONUSERBASE": site.getuserbase(),  # packages that are installed for this user
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "KIT_PROFILE": "mini",
        "KIT_DATASET": FLOWERS,  # the drawings, whatever they chose: theirs are not here
        "KIT_DATA": str(desk / "data"),
        "KIT_RESULTS": str(desk / "results"),
        NOTEBOOK_VARIABLE: name,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started, as far as that did not leave its group."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _cell(outcome: Path) -> str:
    """Where a process was, as far as it has told."""
    with contextlib.suppress(KitError, LookupError, TypeError, ValueError):
        return f"code cell {int(read_json(outcome)['cell'])}"
    return "no cell yet"


def _with_accuracies(
    reruns: Iterable[Rerun], results: Path, labels: Mapping[str, Labels]
) -> Iterable[Rerun]:
    """Add what the new predictions give: read like those of a hand-in, from what was written."""
    case = Case(read_hand_in(Place(results, name="results"), {}), {}, dict(labels))
    for rerun in reruns:
        measured = case.measured(METHOD_OF.get(rerun.notebook, ""))
        is_good = measured is not None and not measured.fault
        yield replace(rerun, accuracy=measured.accuracy if measured and is_good else None)


@functools.cache
def without_network() -> tuple[str, ...]:
    """What a command begins with to have no network; () where the system has no such thing."""
    if shutil.which(NO_NETWORK[0]) is None:
        return ()
    try:
        tried = subprocess.run([*NO_NETWORK, "true"], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return NO_NETWORK if tried.returncode == 0 else ()


def keep(folder: Path, place: Place, reruns: Iterable[Rerun]) -> None:
    """Keep the reruns of a hand-in, for as long as its content is the same."""
    with contextlib.suppress(HandInError):
        name = f"{content_hash(place)}.json"
        write_json(folder / "rerun" / name, [asdict(rerun) for rerun in reruns])


def kept(folder: Path, place: Place) -> list[Rerun]:
    """The kept reruns of a hand-in; [] when there are none."""
    if not (folder / "rerun").is_dir():
        return []
    try:
        text = (folder / "rerun" / f"{content_hash(place)}.json").read_text(encoding="utf-8")
        return [Rerun(**values) for values in json.loads(text)]
    except (HandInError, OSError, ValueError, TypeError, RecursionError):
        return []
