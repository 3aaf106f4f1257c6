"""Handing in: what of the assignment is there and fits together, packed into one file."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nbformat import NotebookNode

from ..data import DataSet, data_set_of
from ..kit import notebooks as kit_notebooks
from ..kit.errors import KitError
from ..kit.folders import show_path
from ..kit.identity import kit_version
from ..kit.notebooks import (
    COMPARISON,
    METHOD_OF,
    OWN_METADATA,
    code_cells,
    may_fail,
    read_notebook,
    run_faults,
    shown_text,
    version_note,
)
from ..kit.questions import questions_of
from ..kit.session_log import LOG_NAME, Entry, best_session, read_log, source_hash
from ..results import Result, check_belongs, read_result
from ..workspace import Workspace, find_workspace
from .handin import (
    LOG,
    NOTEBOOKS,
    RESULT_FILES,
    Manifest,
    notebook_path,
    result_path,
    write_handin,
)

MOST_BYTES = 50_000_000  # of a hand-in: beyond it learning systems begin to refuse
TOLERANCE = datetime.timedelta(seconds=2)  # records are dated to the second, clocks are set right
RERUN = "restart its kernel, run all cells and save"


def submit(*, name: str | None = None, anyway: bool = False, out: Path = Path()) -> int:
    """Check the work of this machine's student, and write submission-ID.zip into `out`.

    Says in a line each what is missing. An incomplete hand-in, and one on the mini profile, is
    only written `anyway`, and its manifest says so. Returns 0 when a file was written, else 1.
    Raises `KitError` when it cannot be written.
    """
    workspace = find_workspace()
    print(f"student {workspace.student or 'unknown'}, profile {workspace.profile}")
    work = Work(workspace)
    missing = list(work.missing())
    for line in missing:
        print(f"- {line}")
    if work.damaged:  # by a full disk, say; what it should have shown is missed where it matters
        print(f"note: {_count(work.damaged, 'line')} of {LOG_NAME} cannot be read")
    if missing and not (anyway and workspace.student):
        if workspace.student:
            print("Nothing was written. Mend this, or hand in what there is with --anyway.")
        else:
            print("Nothing was written: without an id nobody would know whose work it is.")
        return 1
    manifest = Manifest(
        kit=kit_version(),
        student=workspace.student,
        name=name,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        profile=workspace.profile,
        complete=not missing,
        missing=missing,
        machine=machine(),
    )
    files = work.files()
    path = write_handin(Path(out), manifest, files)
    kind = "INCOMPLETE, see above" if missing else "complete"
    print(f"wrote {show_path(path.resolve())}: {len(files)} files, {kind}")
    _warn_of_size(path, files)
    return 0


class Work:
    """A student's notebooks, records and log on this machine, and what is wrong with them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder, self.results_dir = kit_notebooks.NOTEBOOK_FOLDER, workspace.results_dir
        text = (_bytes_of(self.results_dir / LOG_NAME) or b"").decode("utf-8", "replace")
        self.entries, self.damaged = read_log(text)
        self.lines = text.splitlines(keepends=True)
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
        found[LOG] = self._named_log() if self.lines else None
        return {path: data for path, data in found.items() if data is not None}

    def _named_log(self) -> bytes:
        """The log, with the notebook's name where its kernel could not know it."""
        lines = []
        for line in self.lines:
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

    # Notebooks

    def _notebook_faults(self, name: str) -> Iterator[str]:
        path = self.folder / name
        if not path.is_file():
            yield f"{name} is not in the folder notebooks: put it back there under this name"
            return
        try:
            notebook = read_notebook(path)
        except KitError as error:
            yield f"{self._plainly(error)}: fetch it from the kit again"
            return
        if note := version_note(name, notebook):
            print(note)
        yield from self._run_faults(name, notebook)
        yield from answer_faults(name, notebook)

    def _run_faults(self, name: str, notebook: NotebookNode) -> Iterator[str]:
        """What shows that a notebook did not run as it is, in one line."""
        cells, faults = code_cells(notebook), run_faults(notebook)
        hashes = [source_hash(cell.source) for cell in cells]
        session, absent = best_session(hashes, self.entries, name)
        if len(session) > len(absent):
            self.names[session[0].session] = name
        failed = [e.count for e in session if not e.ok and not may_fail(cells[e.count - 1])]
        if not cells:
            yield f"{name} has no code cell: fetch it from the kit again"
        elif faults:
            more = f", and {len(faults) - 1} more like it" if len(faults) > 1 else ""
            yield f"{name}: {faults[0].partition(':')[0]}{more}: {RERUN}"
        elif not session:
            yield f"{name}: the log does not show that you ran it: {RERUN}"
        elif absent:
            yield (
                f"{name}: {_cells(absent)} changed since the notebook ran, or did not run in this "
                f"order: {RERUN}"
            )
        elif failed:
            yield f"{name}: {_cells(failed)} ended in an error when it ran: mend it, {RERUN}"
        else:
            self.sessions[name], self.shown[name] = session, shown_text(notebook)

    # Records

    def _record_faults(self, name: str, method: str) -> Iterator[str]:
        path = self.results_dir / method / "record.json"
        if not path.is_file():
            yield f"no result of {method}: {name} writes it, run all its cells"
            return
        try:
            result = read_result(path)
            check_belongs(result, self.workspace, self._data_set)
            seed, finished = result.record["seed"], _time(result.record["finished"])
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
        elif name in self.sessions and not _within(finished, self.sessions[name]):
            yield (
                f"the record of {method} is of {finished:%Y-%m-%d %H:%M} UTC, when {name} as it is "
                "now did not run: run it again, and save"
            )
        elif name in self.sessions and _score(result) not in self.shown[name]:
            yield (
                f"{name} as it was saved does not print what the record of {method} says, "
                f"{_score(result)}: {RERUN}"
            )

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


def answer_faults(name: str, notebook: NotebookNode) -> Iterator[str]:
    """The questions of a notebook that are not answered, or not there, a line each."""
    questions = questions_of(notebook)
    noted = notebook.metadata.get(OWN_METADATA)  # in a student's edition
    expected = noted.get("questions") if isinstance(noted, dict) else len(questions) or None
    if len(questions) != expected:
        wanted = f", not {expected}" if expected else ""
        yield f"{name} has {_count(len(questions), 'question')}{wanted}: put the cells back"
    for question in questions:
        if question.answer is None:
            yield (
                f"{name}: question {question.number} has lost the cell of its answer: put it back "
                "from the kit"
            )
        elif not question.answer:
            yield (
                f"{name}: question {question.number} is not answered: write below it, in the cell "
                "that says *Your answer*, and save"
            )


def _count(number: int, what: str) -> str:
    """ "1 question", "2 questions"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _cells(numbers: Sequence[int]) -> str:
    """ "code cell 3" or "code cells 3, 5"."""
    return f"code cell{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _score(result: Result) -> str:
    """The right ones of all, as a printed `Score` has them."""
    test = result.record["test"]
    return f"({test['correct']:,}/{test['total']:,})"


def _bytes_of(path: Path) -> bytes | None:
    """The content of a file, None when there is none; raises `KitError` when it cannot be read."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise KitError(f"cannot read {show_path(path)}: {error.strerror or error}") from None


def _time(text: str) -> datetime.datetime:
    """A record's time; raises `ValueError` for one without its zone."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return time


def _within(time: datetime.datetime, session: Sequence[Entry]) -> bool:
    """Whether a cell of the session ran at that time."""
    return any(e.began - TOLERANCE <= time <= e.ended + TOLERANCE for e in session)


def machine() -> dict[str, object]:
    """What the hand-in was packed on; nothing that tells whose machine it is."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _warn_of_size(path: Path, files: Mapping[str, bytes]) -> None:
    size = path.stat().st_size
    if size > MOST_BYTES:
        largest = max(files, key=lambda name: len(files[name]))
        print(
            f"note: it has {size / 1e6:.0f} MB, and many learning systems take no more than "
            f"{MOST_BYTES / 1e6:.0f}: most is in {largest}; clear what it prints too much of"
        )
