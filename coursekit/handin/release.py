"""The student's edition of the kit: the notebooks without their solutions, and all they need."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode

from coursekit.handin.colab import for_colab, repository_of
from coursekit.handin.edition import edition_faults, nbgrader_edition, roles, student_edition
from coursekit.notebooks import EXTENSIONS, read_notebook
from coursekit.questions import BEGIN, SOLUTION
from helpers.errors import KitError
from helpers.lib.files import write_text
from helpers.lib.folders import ROOT, show_path

# What students get besides the notebooks and the pictures that the README shows: files, and folders
# with all that git knows in them, by name, so that nothing of the instructor's goes out because
# nobody thought of it ...
STUDENT_PARTS = (
    ".gitignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "conftest.py",
    "coursekit",
    "data/mini",
    "helpers",
    f"notebooks/{EXTENSIONS}/lib",
    "pyproject.toml",
    "requirements.txt",
)
# ... but without these commands ...
FOR_INSTRUCTORS = (
    "coursekit/grading",
    "coursekit/handin/colab.py",
    "coursekit/handin/edition.py",
    "coursekit/handin/release.py",
    "coursekit/templates/class.html.jinja",
    "coursekit/templates/feedback.html.jinja",
    "coursekit/templates/grading.css",
)
# ... and, where git cannot be asked, without what running the kit leaves behind.
LEFT_BEHIND = ("__pycache__", ".ipynb_checkpoints", "flowers-102")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def release(
    out: Path,
    *,
    nbgrader: Path | None = None,
    check: bool = False,
    repository: str | None = None,
    root: Path = ROOT,
) -> None:
    """Write the student's edition of the kit into a folder; all of it, or nothing.

    Args:
        out: the new or empty folder.
        nbgrader: another one, for the notebooks with their solutions and nbgrader's metadata.
        check: first execute the notebooks on the mini profile, so that each of their asserts is
            known to hold.
        repository: "owner/name" on GitHub: the notebooks get badges that open them from there in
            Google Colab.
        root: the folder of the kit.

    Raises:
        KitError: when the notebooks have faults, which are printed a line each, when a folder is
            not empty, or cannot be written.
    """
    place = None if repository is None else repository_of(repository)
    targets = [Path(folder).resolve() for folder in (out, nbgrader) if folder is not None]
    for number, target in enumerate(targets):
        if target in targets[:number] or not _is_empty(target):
            raise KitError(f"{show_path(target)} is in use: name a new or empty folder")
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    paths += sorted((root / "notebooks" / EXTENSIONS).glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise KitError(f"no notebook in {root / 'notebooks'}: fetch the kit again")
    solutions = {path.relative_to(root).as_posix(): read_notebook(path) for path in paths}
    students = _student_editions(solutions)
    if place is not None:
        students = {name: for_colab(one, place, name) for name, one in students.items()}
    if check:
        _run_solutions(root)
    with _filled_folder(targets[0]) as folder:
        for kit_file in kit_files(root):
            (folder / kit_file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / kit_file, folder / kit_file)
        _write_notebooks(folder, students)
    if nbgrader is not None:
        assignment = {Path(name).name: one for name, one in solutions.items() if not _extends(name)}
        with _filled_folder(targets[1]) as folder:
            graded = {name: nbgrader_edition(name, one) for name, one in assignment.items()}
            _write_notebooks(folder, graded)
    _tell(students)
    for target in targets:
        print(f"wrote {show_path(target)}")
    if place is not None:
        print(f"the badges work once {show_path(targets[0])} is {repository} on GitHub")


def _extends(name: str) -> bool:
    """Whether a notebook, by its path in the kit, is an extension."""
    return Path(name).parent.name == EXTENSIONS


def _student_editions(solutions: Mapping[str, NotebookNode]) -> dict[str, NotebookNode]:
    """All notebooks as students get them; prints their faults and raises `KitError` for any."""
    students, faults = {}, []
    for path, solution in solutions.items():
        name = Path(path).name
        students[path] = student_edition(name, solution)
        faults += edition_faults(name, solution, students[path])
    for fault in faults:
        print(f"- {fault}")
    if faults:
        raise KitError("the notebooks cannot be handed out, see above: nothing was written")
    return students


def _run_solutions(root: Path) -> None:
    """Execute the notebooks with their solutions on mini, and keep nothing of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "coursekit", "run", "--profile", "mini"]
        done = subprocess.run(command, cwd=root, env={**os.environ, "KIT_RESULTS": folder})
    if done.returncode:
        raise KitError("the notebooks do not run with their solutions: nothing was written")


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


def kit_files(root: Path = ROOT) -> list[PurePosixPath]:
    """List the files that students get besides the notebooks, below `root`, the kit's folder.

    Inside a git repository, those that git knows; it is printed which others are left out.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    parts = [*STUDENT_PARTS, *_PICTURE.findall(readme)]

    def is_for_students(name: PurePosixPath) -> bool:
        mine = any(name.is_relative_to(part) for part in parts)
        return mine and not any(name.is_relative_to(part) for part in FOR_INSTRUCTORS)

    files = _git_files(root)
    if files:
        for name in filter(is_for_students, _git_files(root, "--others", "--exclude-standard")):
            print(f"note: {name} is not copied, since git does not know it: `git add` or delete it")
    else:
        paths = [path for part in parts for path in (root / part, *(root / part).rglob("*"))]
        names = [PurePosixPath(path.relative_to(root).as_posix()) for path in paths]
        files = [name for name in names if not set(LEFT_BEHIND) & set(name.parts)]
    return sorted(name for name in filter(is_for_students, files) if (root / name).is_file())


def _git_files(root: Path, *options: str) -> list[PurePosixPath]:
    """What `git ls-files` lists below the folder of the kit; [] where there is no git."""
    try:
        done = subprocess.run(["git", "ls-files", "-z", *options], cwd=root, capture_output=True)
    except OSError:
        return []
    names = os.fsdecode(done.stdout).split("\0") if done.returncode == 0 else []
    return [PurePosixPath(name) for name in names if name]


def _write_notebooks(folder: Path, notebooks: Mapping[str, NotebookNode]) -> None:
    for name, notebook in notebooks.items():
        write_text(folder / name, nbformat.writes(notebook).rstrip("\n") + "\n")


def _tell(students: Mapping[str, NotebookNode]) -> None:
    """Say what students have to do, notebook by notebook."""
    total = 0
    for path, notebook in students.items():
        if _extends(path):
            continue
        found = roles(notebook)
        total += found.count("todo")
        counts = ", ".join(
            f"{found.count(role)} {word}{'s' * (found.count(role) != 1)}"
            for role, word in (("question", "question"), ("todo", "TODO"), ("check", "check"))
        )
        print(f"{path}: {counts}")
    if not total:
        print(f"note: no cell has {BEGIN} or the tag {SOLUTION!r}: students get all of the code")
