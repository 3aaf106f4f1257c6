"""What of the assignment is there and fits together: notebooks, log, records and answers."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nbformat import NotebookNode

from coursekit import notebooks
from coursekit.handin.log import best_session, read_log
from coursekit.handin.package import NOTEBOOKS
from coursekit.notebooks import COMPARISON, MAY_FAIL, METHOD_OF, OWN_METADATA
from coursekit.questions import answer_text, question_cells
from helpers.data import DataSet, data_set_of
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
        log = _bytes_of(self.results_dir / LOG_NAME) or b""
        self.entries, _ = read_log(log.decode("utf-8", "replace"))
        self.sessions: dict[str, list[Entry]] = {}  # of the notebooks that ran as they are
        self.shown: dict[str, str] = {}  # what these notebooks printed

    def files(self) -> dict[str, bytes]:
        """What there is to hand in: from its path in the hand-in to its content."""
        places = {f"notebooks/{name}": self.folder / name for name in NOTEBOOKS}
        results = [f"{method}/record.json" for method in METHOD_OF.values()]
        results += [f"{method}/predictions.csv" for method in METHOD_OF.values()]
        places |= {f"results/{name}": self.results_dir / name for name in [*results, LOG_NAME]}
        found = {path: _bytes_of(file) for path, file in places.items()}
        return {path: data for path, data in found.items() if data is not None}

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
        try:
            notebook = notebooks.read_notebook(self.folder / name)
        except KitError as error:
            yield f"{self._plainly(error)}: fetch it from the kit again"
            return
        if note := notebooks.version_note(name, notebook):
            print(note)
        if fault := self._run_fault(name, notebook):
            yield f"{name}: {fault}"
        for fault in _answer_faults(notebook):
            yield f"{name}: {fault}"

    def _run_fault(self, name: str, notebook: NotebookNode) -> str:
        """What shows that a notebook did not run as it is; "" when nothing does."""
        cells = notebooks.code_cells(notebook)
        hashes = [source_hash(cell.source) for cell in cells]
        session, absent = best_session(hashes, self.entries, name)
        failed = [
            entry.count
            for entry in session
            if not entry.ok and MAY_FAIL not in notebooks.tags_of(cells[entry.count - 1])
        ]
        if faults := notebooks.run_faults(notebook):
            return f"{'; '.join(faults[:3])}: {RERUN}"
        if not session:
            return f"the log does not show that you ran it: {RERUN}"
        if absent:
            changed = "changed since the notebook ran, or did not run in this order"
            return f"{_cells(absent)} {changed}: {RERUN}"
        if failed:
            return f"{_cells(failed)} ended in an error when it ran: fix it, {RERUN}"
        self.sessions[name], self.shown[name] = session, notebooks.shown_text(notebook)
        return ""

    def _record_faults(self, name: str, method: str) -> Iterator[str]:
        path, what = self.results_dir / method / "record.json", f"the record of {method}"
        if not path.is_file():
            yield f"no result of {method}: {name} writes it, run all its cells"
            return
        try:
            result = read_result(path)
            check_belongs(result, self.workspace, self._data_set)
        except KitError as error:
            yield self._plainly(error)
            return
        seed, test = result.record["seed"], result.record["test"]
        score = f"({test['correct']:,}/{test['total']:,})"  # as a printed `Score` has it
        ran = self.sessions.get(name, [])
        if seed != self.workspace.seed:
            yield f"{what} has the seed {seed}, yours is {self.workspace.seed}: run {name} again"
        elif ran and not _is_within(result.record["finished"], ran):
            yield f"{what} was not made when {name} as it is now ran: run it again, and save"
        elif ran and score not in self.shown[name]:
            yield f"{name} as it was saved does not print what {what} says, {score}: {RERUN}"

    @functools.cached_property
    def _data_set(self) -> DataSet:
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


def _answer_faults(notebook: NotebookNode) -> Iterator[str]:
    """The questions of a notebook that are not answered, or not there, a line each."""
    questions = question_cells(notebook)
    noted = notebook.metadata.get(OWN_METADATA, {}).get("questions")  # in a student's edition
    if not questions or len(questions) != (noted or len(questions)):
        wanted = f", not {noted}" if noted else ""
        yield f"the number of its questions is {len(questions)}{wanted}: put the cells back"
    for number, (_, answer) in enumerate(questions, start=1):
        if answer is None:
            yield f"question {number} has lost the cell of its answer: put it back from the kit"
        elif not answer_text(answer.source):
            where = "write below it, in the cell that says *Your answer*, and save"
            yield f"question {number} is not answered: {where}"


def _is_within(finished: str, session: Sequence[Entry]) -> bool:
    """Whether a record was finished while a cell of the session ran."""
    try:
        time = datetime.datetime.fromisoformat(finished).astimezone(datetime.timezone.utc)
    except ValueError:
        return False
    return any(one.began - TOLERANCE <= time <= one.ended + TOLERANCE for one in session)


def _cells(numbers: Sequence[int]) -> str:
    """ "code cell 3" or "code cells 3, 5"."""
    return f"code cell{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _bytes_of(path: Path) -> bytes | None:
    """The content of a file, None when there is none; raises `KitError` when it cannot be read."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise KitError(f"cannot read {show_path(path)}: {error.strerror or error}") from None
