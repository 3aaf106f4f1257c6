"""The student's edition of the kit: the notebooks without their solutions, and all they need.

What a student is to write is marked in the notebooks, which run as they are:

- `### BEGIN SOLUTION` and `### END SOLUTION`, nbgrader's own markers, around lines of a cell; or
  the tag `solution` on a code cell, for the whole of it. Both become a TODO.
- The tag `answer`: the model answer in the cell goes, the place for the student's own stays.
- The tag `model-answer`: the whole cell goes.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from ..kit.errors import KitError
from ..kit.files import write_text
from ..kit.folders import ROOT, show_path
from ..kit.identity import kit_version
from ..kit.notebooks import (
    EXTENSIONS,
    OWN_METADATA,
    bare_metadata,
    extension_paths,
    read_notebook,
    select_notebooks,
    tags_of,
)
from ..kit.questions import (
    ANSWER,
    ANSWER_STUB,
    BEGIN,
    END,
    QUESTION,
    SOLUTION,
    TODO,
    questions_of,
)
from .colab import for_colab, repository_of
from .handin import notebook_path

MODEL_ANSWER = "model-answer"  # tag of a cell that goes
CODE_STUB = '# TODO: your code here\nraise NotImplementedError("this is yours to write")'

# What students get besides the notebooks: files, and folders with all that git knows in them, by
# name, so that nothing of the instructor's goes out because nobody thought of it ...
STUDENT_PARTS = (
    ".gitignore",
    "LICENSE",
    "README.md",
    "conftest.py",
    "data/mini",
    "helpers",
    "pyproject.toml",
    "requirements.txt",
)
# ... the pictures that the README shows ...
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
# ... but of the grading only what handing in needs ...
GRADING = PurePosixPath("helpers/grading")
HANDING_IN = ("__init__.py", "handin.py", "submit.py")
# ... and, where git cannot be asked, nothing that running the kit leaves behind.
LEFT_BEHIND = ("__pycache__", ".ipynb_checkpoints", "flowers-102")

SHORTEST_SECRET = 30  # characters: a shorter solution may stand elsewhere by chance
_STUDENT_ID = re.compile(r"""\bstart\(\s*(?:student\s*=\s*)?["']([^"']+)["']""")


def release(
    out: Path, *, nbgrader: Path | None = None, check: bool = False, repository: str | None = None
) -> None:
    """Write the student's edition of the kit into the new or empty folder `out`.

    With `nbgrader`, the notebooks with their solutions and nbgrader's metadata go there. With
    `check`, they are first executed on the mini profile, so that each of their asserts is known to
    hold. With `repository`, "owner/name" on GitHub, the notebooks get badges that open them from
    there in Google Colab. Raises `KitError` when the notebooks have faults, which are printed a
    line each, when a folder is not empty, or cannot be written; then nothing is written.
    """
    place = None if repository is None else repository_of(repository)
    targets = [Path(folder).resolve() for folder in (out, nbgrader) if folder is not None]
    for number, target in enumerate(targets):
        if target in targets[:number] or not _is_empty(target):
            raise KitError(f"{show_path(target)} is in use: name a new or empty folder")
    solutions = {path.name: read_notebook(path) for path in select_notebooks(None)}
    students = _students_editions(solutions)
    extensions = {path.name: read_notebook(path) for path in extension_paths().values()}
    extensions = _students_editions(extensions)
    if place is not None:
        students = {n: for_colab(one, place, notebook_path(n)) for n, one in students.items()}
        extensions = {
            n: for_colab(one, place, notebook_path(f"{EXTENSIONS}/{n}"))
            for n, one in extensions.items()
        }
    if check:
        _run_solutions()
    with _filled_folder(targets[0]) as folder:
        _copy_kit(folder)
        _write_notebooks(folder / "notebooks", students)
        _write_notebooks(folder / "notebooks" / EXTENSIONS, extensions)
    if nbgrader is not None:
        with _filled_folder(targets[1]) as folder:
            editions = {name: nbgrader_edition(name, one) for name, one in solutions.items()}
            _write_notebooks(folder, editions)
    _tell(students, targets)
    if place is not None:
        print(f"the badges work once {show_path(targets[0])} is {repository} on GitHub")


def _students_editions(solutions: Mapping[str, NotebookNode]) -> dict[str, NotebookNode]:
    """All notebooks as students get them; prints their faults and raises `KitError` for any."""
    students = {name: student_edition(name, solution) for name, solution in solutions.items()}
    faults = [
        fault
        for name, solution in solutions.items()
        for fault in edition_faults(name, solution, students[name])
    ]
    for fault in faults:
        print(f"- {fault}")
    if faults:
        raise KitError("the notebooks cannot be handed out, see above: nothing was written")
    return students


# Editions


def student_edition(name: str, solution: NotebookNode) -> NotebookNode:
    """A notebook as students get it; `name` is its file name, for messages and metadata.

    Cells keep their ids. Raises `KitError` for markers that do not come in pairs.
    """
    notebook = _without_runs(name, solution)
    for cell in notebook.cells:
        if ANSWER in tags_of(cell):
            cell.source = ANSWER_STUB
            cell.pop("attachments", None)
        elif is_solution(cell):
            cell.source = without_solution(name, cell)
            tags = [tag for tag in tags_of(cell) if tag not in (SOLUTION, TODO)]
            cell.metadata["tags"] = [*tags, TODO]
    return notebook


def nbgrader_edition(name: str, solution: NotebookNode) -> NotebookNode:
    """A notebook with its solutions, as nbgrader wants it in source/; model answers go."""
    notebook = _without_runs(name, solution)
    for cell in notebook.cells:
        if ANSWER in tags_of(cell):
            cell.source = ANSWER_STUB
    return notebook


def _without_runs(name: str, solution: NotebookNode) -> NotebookNode:
    """A copy without outputs, counts and model answers, but with nbgrader's metadata."""
    notebook = copy.deepcopy(solution)
    notebook.cells = [cell for cell in notebook.cells if MODEL_ANSWER not in tags_of(cell)]
    notebook.metadata = bare_metadata(notebook)
    stem, questions = name.removesuffix(".ipynb"), len(questions_of(notebook))
    notebook.metadata[OWN_METADATA] = {
        "notebook": stem,
        "questions": questions,
        "version": kit_version(),
    }
    for cell, role in zip(notebook.cells, roles(notebook), strict=True):
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if role:
            cell.metadata["nbgrader"] = nbgrader_metadata(cell, role)
    return notebook


def roles(notebook: NotebookNode) -> list[str]:
    """What each cell is to a grader: "question", "answer", "todo", "check" or "".

    A check is the first cell with an assert after a TODO, and before the next one.
    """
    found, unchecked = [], False
    for cell in notebook.cells:
        tags, role = tags_of(cell), ""
        if QUESTION in tags:
            role = "question"
        elif ANSWER in tags:
            role = "answer"
        elif is_solution(cell) or TODO in tags:
            role, unchecked = "todo", True
        elif unchecked and cell.cell_type == "code" and asserts_of(cell.source):
            role, unchecked = "check", False
        found.append(role)
    return found


def nbgrader_metadata(cell: NotebookNode, role: str) -> dict[str, object]:
    """A cell's metadata for nbgrader (schema 3); points that it has already stay, else 1.

    Questions are locked text, answers are graded by hand, TODOs are solutions, checks are tests.
    """
    graded = role in ("answer", "check")
    points = cell.metadata.get("nbgrader", {}).get("points", 1)
    return {
        "schema_version": 3,
        "grade_id": f"{role}-{cell.id}",
        "grade": graded,
        "locked": role in ("question", "check"),
        "solution": role in ("answer", "todo"),
        "task": False,
        **({"points": points} if graded else {}),
    }


def is_solution(cell: NotebookNode) -> bool:
    """Whether a code cell is a solution, in whole or in part."""
    if cell.cell_type != "code":
        return False
    lines = [line.strip() for line in cell.source.splitlines()]
    return SOLUTION in tags_of(cell) or BEGIN in lines or END in lines


def without_solution(name: str, cell: NotebookNode) -> str:
    """A solution's source with a TODO, as far indented, in place of what is marked."""
    if not any(line.strip() in (BEGIN, END) for line in cell.source.splitlines()):
        return CODE_STUB
    kept, inside = [], False
    for line in cell.source.splitlines():
        marker = line.strip()
        if marker in (BEGIN, END):
            if inside == (marker == BEGIN):
                raise KitError(f"{name}, cell {cell.id}: {marker} without its other half")
            inside = marker == BEGIN
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + stub for stub in CODE_STUB.splitlines() if inside]
        elif not inside:
            kept.append(line)
    if inside:
        raise KitError(f"{name}, cell {cell.id}: {BEGIN} without its other half")
    return "\n".join(kept)


def solution_texts(cell: NotebookNode) -> list[str]:
    """What must not be seen in the student's edition of a cell, text by text."""
    if MODEL_ANSWER in tags_of(cell) or ANSWER in tags_of(cell):
        return [cell.source]
    if not is_solution(cell):
        return []
    parts = re.findall(rf"^\s*{BEGIN}\s*$(.*?)^\s*{END}\s*$", cell.source, re.DOTALL | re.MULTILINE)
    return parts or [cell.source]


# Checks


def asserts_of(source: str) -> list[str]:
    """The assert statements of a code cell, as Python itself would write them; magics are none."""
    tree = _parse(source)
    nodes = ast.walk(tree) if tree else ()
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Assert)]


def _parse(source: str) -> ast.Module | None:
    """The syntax tree of a code cell, None when it is no Python."""
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return None


def edition_faults(name: str, solution: NotebookNode, student: NotebookNode) -> list[str]:
    """What keeps a student's edition from being handed out, a line a fault; [] when nothing.

    Each of its asserts must stand in the same cell of the solution, each TODO must have an assert
    that checks it, and no solution may be left in it.
    """
    ids = [cell.get("id") for cell in student.cells]
    if None in ids or len(set(ids)) != len(ids):
        return [f"{name}: cells without an id, or two with one: save it with a current Jupyter"]
    checks = (_assert_faults, _todo_faults, _cell_faults, _leaks)
    return [f"{name}, {fault}" for check in checks for fault in check(solution, student)]


def _assert_faults(solution: NotebookNode, student: NotebookNode) -> Iterator[str]:
    sources = {cell.id: cell.source for cell in solution.cells if cell.cell_type == "code"}
    for cell in student.cells:
        if cell.cell_type != "code":
            continue
        known = asserts_of(sources.get(cell.id, ""))
        for statement in asserts_of(cell.source):
            if statement not in known:
                yield f"cell {cell.id}: the solution does not have `{statement}`"


def _todo_faults(solution: NotebookNode, student: NotebookNode) -> Iterator[str]:
    """A TODO is checked by an assert of its own cell, or of a later one before the next TODO."""
    todo = None
    for cell, role in zip(student.cells, roles(student), strict=True):
        if role == "todo":
            if todo:
                yield f"cell {todo}: no assert checks what the student writes there"
            todo = None if asserts_of(cell.source) else cell.id
        elif role == "check":
            todo = None
    if todo:
        yield f"cell {todo}: no assert checks what the student writes there"


def _cell_faults(solution: NotebookNode, student: NotebookNode) -> Iterator[str]:
    for cell in student.cells:
        if cell.cell_type == "code" and _parse(cell.source) is None:
            yield f"cell {cell.id}: is no Python without its solution"
        if any(line.strip() in (BEGIN, END) for line in cell.source.splitlines()):
            yield f"cell {cell.id}: markers work in code cells, use the tag {MODEL_ANSWER!r} here"
        if cell.cell_type == "code" and (found := _STUDENT_ID.search(cell.source)):
            yield f'cell {cell.id}: holds the student id {found[1]!r}, make it start(student="")'


def _leaks(solution: NotebookNode, student: NotebookNode) -> Iterator[str]:
    """Solutions that are still there, whole, in whatever cell."""
    texts = {cell.id: _plain(cell.source) for cell in student.cells}
    for cell in solution.cells:
        for secret in map(_plain, solution_texts(cell)):
            if len(secret) < SHORTEST_SECRET:
                continue
            for place in (one for one, text in texts.items() if secret in text):
                yield f"cell {place}: gives away the solution of cell {cell.id}"


def _plain(text: str) -> str:
    """A text with its white space made one."""
    return " ".join(text.split())


def _run_solutions() -> None:
    """Execute the notebooks with their solutions on mini, and keep nothing of it."""
    from ..kit.runner import run_notebooks

    earlier = os.environ.get("KIT_RESULTS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KIT_RESULTS"] = folder
        try:
            run_notebooks(profile="mini")
        finally:
            os.environ.pop("KIT_RESULTS")
            if earlier is not None:
                os.environ["KIT_RESULTS"] = earlier


# Files


def _is_empty(folder: Path) -> bool:
    """Whether a folder is not there yet, or holds nothing."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextlib.contextmanager
def _filled_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside `target` to fill, and rename it to `target` when the block ends well."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield folder
            folder.chmod(0o755)  # mkdtemp makes it private
            if target.exists():
                target.rmdir()  # only an empty one goes
            folder.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise KitError(f"cannot write {show_path(target)}: {error.strerror or error}") from error


def _copy_kit(folder: Path) -> None:
    for name in kit_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def kit_files() -> list[PurePosixPath]:
    """The files that students get besides the notebooks, below the folder of the kit.

    Inside a git repository, those that git knows; says which others are left out.
    """
    parts, tracked = student_parts(), _git_files()
    if not tracked:
        return sorted(name for name in _all_files(parts) if is_for_students(name, parts))
    for name in _git_files("--others", "--exclude-standard"):
        if is_for_students(name, parts):
            mend = "`git add` it, or delete it"
            print(f"note: {name} is not copied, since git does not know it: {mend}")
    chosen = (name for name in tracked if is_for_students(name, parts))
    return sorted(name for name in chosen if (ROOT / name).is_file())


def student_parts() -> list[str]:
    """The files and folders that students get, below the folder of the kit."""
    return [*STUDENT_PARTS, *_PICTURE.findall((ROOT / "README.md").read_text(encoding="utf-8"))]


def is_for_students(name: PurePosixPath, parts: Sequence[str]) -> bool:
    """Whether a file of the kit belongs into the student's edition as it is."""
    if name.is_relative_to(GRADING):
        return name.parent == GRADING and name.name in HANDING_IN
    return any(name.is_relative_to(part) for part in parts)


def _git_files(*options: str) -> list[PurePosixPath]:
    """What `git ls-files` lists below the folder of the kit; [] where there is no git."""
    try:
        done = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True)
    except OSError:
        return []
    names = os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else []
    return [PurePosixPath(name) for name in names if name]


def _all_files(parts: Sequence[str]) -> Iterator[PurePosixPath]:
    """Every file of the parts that students get, but for what running the kit leaves behind."""
    for part in parts:
        for path in [ROOT / part, *(ROOT / part).rglob("*")]:
            name = path.relative_to(ROOT)
            if path.is_file() and not any(one in LEFT_BEHIND for one in name.parts):
                yield PurePosixPath(name.as_posix())


def _write_notebooks(folder: Path, notebooks: Mapping[str, NotebookNode]) -> None:
    for name, notebook in notebooks.items():
        write_text(folder / name, nbformat.writes(notebook).rstrip("\n") + "\n")


def _tell(students: Mapping[str, NotebookNode], targets: Sequence[Path]) -> None:
    """Say what was written, notebook by notebook."""
    total = 0
    for name, notebook in students.items():
        found = roles(notebook)
        total += found.count("todo")
        counts = ", ".join(
            f"{found.count(role)} {word}{'s' * (found.count(role) != 1)}"
            for role, word in (("question", "question"), ("todo", "TODO"), ("check", "check"))
        )
        print(f"{notebook_path(name)}: {counts}")
    if not total:
        print(f"note: no cell has {BEGIN} or the tag {SOLUTION!r}: students get all of the code")
    for target in targets:
        print(f"wrote {show_path(target)}")
