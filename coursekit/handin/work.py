"""What of the assignment is there and fits together: notebooks, log, records and answers."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from coursekit import notebooks
from coursekit.handin.log import best_session, read_log
from coursekit.handin.package import LOG, NOTEBOOKS, RESULT_FILES, notebook_path, result_path
from coursekit.notebooks import COMPARISON, METHOD_OF, OWN_METADATA
from coursekit.questions import questions_of
from helpers.data import data_set_of
from helpers.errors import KitError
from helpers.lib.cell_log import LOG_NAME, Entry, source_hash
from helpers.lib.folders import show_path
from helpers.results import check_belongs, read_result
from helpers.workspace import Workspace

TOLERANCE = datetime.timedelta(seconds=2)  # records are dated to the second, clocks are set right
RERUN = "restart its kernel, run all cells and save"


class Work:
    """A student's notebooks, records and log on this machine, and what is wrong with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder, self.results_dir = notebooks.NOTEBOOK_FOLDER, workspace.results_dir
        self.log = (_bytes_of(self.results_dir / LOG_NAME) or b"").decode("utf-8", "replace")
        self.entries, self.damaged = read_log(self.log)
        self.sessions: dict[str, list[Entry]] = {}  # of the notebooks that ran as they are
        self.shown: dict[str, str] = {}  # what these notebooks printed
        self.names: dict[str, str] = {}  # from session to the notebook that it ran

    def files(self) -> dict[str, bytes]:
        """What there is to hand in: from its path in the hand-in to its content."""
        places = {notebook_path(name): self.folder / name for name in NOTEBOOKS}
        for method in METHOD_OF.values():
            for name in RESULT_FILES:
                places[result_path(method, name)] = self.results_dir / method / name
        found = {path: _bytes_of(file) for path, file in places.items()}
        found[LOG] = self._named_log() or None
        return {path: data for path, data in found.items() if data is not None}

    def _named_log(self) -> bytes:
        """The log, with the notebook's name where its kernel could not know it."""
        lines = []
        for line in self.log.splitlines(keepends=True):
            entries, _ = read_log(line)
            if entries and entries[0].notebook is None and entries[0].session in self.names:
                name = self.names[entries[0].session]
                line = dataclasses.replace(entries[0], notebook=name).as_line()
            lines.append(line)
        return "".join(lines).encode()

    def missing(self) -> Iterator[str]:
        """A plain sentence for each thing that is missing or does not fit."""
        if not self.workspace.student:
            yield (
                'no student id: write it into start(student="") of notebook 01, then run all '
                "notebooks again"
            )
        if self.workspace.profile != "full":
            yield (
                f"this is the {self.workspace.profile} profile ({self.workspace.reason}), the "
                "assignment is the full one: run all notebooks on that"
            )
        for name in NOTEBOOKS:
            yield from self._notebook_faults(name)
        for name in NOTEBOOKS:
            if name[:2] in METHOD_OF:
                yield from self._record_faults(name, METHOD_OF[name[:2]])
        yield from self._comparison_faults()

    def _notebook_faults(self, name: str) -> Iterator[str]:
        path = self.folder / name
        if not path.is_file():
            yield f"{name} is not in the folder notebooks: put it back there under this name"
            return
        try:
            notebook = notebooks.read_notebook(path)
        except KitError as error:
            yield f"{self._plainly(error)}: fetch it from the kit again"
            return
        if note := notebooks.version_note(name, notebook):
            print(note)
        if fault := self._run_fault(name, notebook):
            yield f"{name}{fault}"
        yield from answer_faults(name, notebook)

    def _run_fault(self, name: str, notebook: NotebookNode) -> str:
        """What shows that a notebook did not run as it is; "" when nothing does."""
        cells, faults = notebooks.code_cells(notebook), notebooks.run_faults(notebook)
        hashes = [source_hash(cell.source) for cell in cells]
        session, absent = best_session(hashes, self.entries, name)
        if len(session) > len(absent):
            self.names[session[0].session] = name
        failed = [
            entry.count
            for entry in session
            if not entry.ok and not notebooks.may_fail(cells[entry.count - 1])
        ]
        if not cells:
            return " has no code cell: fetch it from the kit again"
        if faults:
            more = f", and {len(faults) - 1} more like it" if len(faults) > 1 else ""
            return f": {faults[0].partition(':')[0]}{more}: {RERUN}"
        if not session:
            return f": the log does not show that you ran it: {RERUN}"
        if absent:
            changed = "changed since the notebook ran, or did not run in this order"
            return f": {_cells(absent)} {changed}: {RERUN}"
        if failed:
            return f": {_cells(failed)} ended in an error when it ran: fix it, {RERUN}"
        self.sessions[name], self.shown[name] = session, notebooks.shown_text(notebook)
        return ""

    def _record_faults(self, name: str, method: str) -> Iterator[str]:
        path = self.results_dir / method / "record.json"
        if not path.is_file():
            yield f"no result of {method}: {name} writes it, run all its cells"
            return
        try:
            result = read_result(path)
            check_belongs(result, self.workspace, self._data_set)
            seed, test = result.record["seed"], result.record["test"]
            finished = datetime.datetime.fromisoformat(result.record["finished"])
            score = f"({test['correct']:,}/{test['total']:,})"  # as a printed `Score` has it
            ran = self.sessions.get(name, [])
            in_time = any(
                entry.began - TOLERANCE <= finished <= entry.ended + TOLERANCE for entry in ran
            )
        except KitError as error:
            yield self._plainly(error)
            return
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"the record of {method} is damaged ({error!r}): run {name} again"
            return
        if seed != self.workspace.seed:
            yield (
                f"the record of {method} was made with the seed {seed}, yours is "
                f"{self.workspace.seed}: run {name} again"
            )
        elif ran and not in_time:
            yield (
                f"the record of {method} is of {finished:%Y-%m-%d %H:%M} UTC, when {name} as it is "
                "now did not run: run it again, and save"
            )
        elif ran and score not in self.shown[name]:
            yield (
                f"{name} as it was saved does not print what the record of {method} says, "
                f"{score}: {RERUN}"
            )

    @functools.cached_property
    def _data_set(self) -> Any:
        return data_set_of(self.workspace)

    def _comparison_faults(self) -> Iterator[str]:
        """The comparison must have read the records that are handed in."""
        (name,) = (name for name in NOTEBOOKS if name.startswith(COMPARISON))
        if name not in self.sessions:
            return  # that is a line already
        began = self.sessions[name][0].began + TOLERANCE
        for earlier in NOTEBOOKS:
            session = self.sessions.get(earlier) if earlier[:2] in METHOD_OF else None
            if session and began < session[-1].ended:
                yield f"{name} ran before {earlier} had ended: open it, {RERUN}"
                return

    def _plainly(self, error: KitError) -> str:
        """A message with places as they are called in the kit, not on this machine."""
        text = str(error).replace(str(self.folder) + os.sep, "")
        return text.replace(str(self.results_dir.parent), "results")


def answer_faults(name: str, notebook: NotebookNode) -> Iterator[str]:
    """The questions of a notebook that are not answered, or not there, a line each."""
    questions = questions_of(notebook)
    noted = notebook.metadata.get(OWN_METADATA)  # in a student's edition
    expected = noted.get("questions") if isinstance(noted, dict) else len(questions) or None
    if len(questions) != expected:
        wanted = f", not {expected}" if expected else ""
        yield f"{name} has {count(len(questions), 'question')}{wanted}: put the cells back"
    for question in questions:
        if question.answer is None:
            fault = "has lost the cell of its answer: put it back from the kit"
        elif not question.answer:
            fault = "is not answered: write below it, in the cell that says *Your answer*, and save"
        else:
            continue
        yield f"{name}: question {question.number} {fault}"


def count(number: int, what: str) -> str:
    """ "1 question", "2 questions"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _cells(numbers: Sequence[int]) -> str:
    """ "code cell 3" or "code cells 3, 5"."""
    return f"code cell{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _bytes_of(path: Path) -> bytes | None:
    """The content of a file, None when there is none; raises `KitError` when it cannot be read."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise KitError(f"cannot read {show_path(path)}: {error.strerror or error}") from None
