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
# ... but without these commands.
FOR_INSTRUCTORS = (
    "coursekit/grading",
    "coursekit/handin/colab.py",
    "coursekit/handin/edition.py",
    "coursekit/handin/release.py",
    "coursekit/templates/class.html.jinja",
    "coursekit/templates/feedback.html.jinja",
    "coursekit/templates/grading.css",
)
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
        out: The new or empty folder.
        nbgrader: Another one, for the notebooks with their solutions and nbgrader's metadata.
        check: First execute the notebooks on the mini profile: each of their asserts must hold.
        repository: "owner/name" on GitHub: the notebooks get badges that open them from there in
            Google Colab.
        root: The folder of the kit, a git repository.

    Raises:
        KitError: The notebooks have faults, which are printed a line each, a folder is not empty,
            or cannot be written.
    """
    place = None if repository is None else repository_of(repository)
    for number, target in enumerate(targets := [one.resolve() for one in (out, nbgrader) if one]):
        is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
        if target in targets[:number] or not is_free:
            raise KitError(f"{show_path(target)} is in use: name a new or empty folder")
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    further = sorted((root / "notebooks" / EXTENSIONS).glob("[0-9][0-9]_*.ipynb"))
    solutions = {one.relative_to(root).as_posix(): read_notebook(one) for one in paths + further}
    students = {name: student_edition(Path(name).name, one) for name, one in solutions.items()}
    faults = [
        fault
        for name, student in students.items()
        for fault in edition_faults(Path(name).name, solutions[name], student)
    ]
    if faults:
        print("\n".join(f"- {fault}" for fault in faults))
        raise KitError("the notebooks cannot be handed out, see above: nothing was written")
    if place is not None:
        students = {name: for_colab(one, place, name) for name, one in students.items()}
    if check:
        _run_solutions(root)
    with _filled_folder(targets[0]) as folder:
        for kit_file in kit_files(root):
            (folder / kit_file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / kit_file, folder / kit_file)
        _write_notebooks(folder, students)
    assignment = [path.relative_to(root).as_posix() for path in paths]
    for target in targets[1:]:
        graded = {Path(name).name: solutions[name] for name in assignment}
        with _filled_folder(target) as folder:
            _write_notebooks(
                folder, {name: nbgrader_edition(name, one) for name, one in graded.items()}
            )
    for name in assignment:
        found = roles(students[name])
        counts = (f"{found.count(role)} {role}s" for role in ("question", "todo", "check"))
        print(f"{name}: {', '.join(counts)}")
    for target in targets:
        print(f"wrote {show_path(target)}")
    if place is not None:
        print(f"the badges work once {show_path(targets[0])} is {repository} on GitHub")


def _run_solutions(root: Path) -> None:
    """Execute the notebooks with their solutions on mini, and keep nothing of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "coursekit", "run", "--profile", "mini"]
        done = subprocess.run(command, cwd=root, env={**os.environ, "KIT_RESULTS": folder})
    if done.returncode:
        raise KitError("the notebooks do not run with their solutions: nothing was written")


@contextlib.contextmanager
def _filled_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside `target` to fill, and rename it to `target` when the block ends well."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
            folder = Path(place) / "filled"
            folder.mkdir()
            yield folder
            if target.exists():
                target.rmdir()  # only an empty one goes
            folder.replace(target)
    except OSError as error:
        raise KitError(f"cannot write {show_path(target)}: {error.strerror or error}") from error


def kit_files(root: Path = ROOT) -> list[PurePosixPath]:
    """List the files that git knows and students get besides the notebooks, below the kit's folder.

    It is printed which others are left out.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    parts = [*STUDENT_PARTS, *_PICTURE.findall(readme)]

    def is_for_students(name: PurePosixPath) -> bool:
        mine = any(name.is_relative_to(part) for part in parts)
        return mine and not any(name.is_relative_to(part) for part in FOR_INSTRUCTORS)

    for name in filter(is_for_students, _git_files(root, "--others", "--exclude-standard")):
        print(f"note: {name} is not copied, since git does not know it: `git add` or delete it")
    files = filter(is_for_students, _git_files(root))
    return sorted(name for name in files if (root / name).is_file())


def _git_files(root: Path, *options: str) -> list[PurePosixPath]:
    """What `git ls-files` lists below the folder of the kit."""
    try:
        command = ["git", "ls-files", "-z", *options]
        done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise KitError(f"git cannot list the files of {root}: clone the kit with git") from None
    return [PurePosixPath(name) for name in os.fsdecode(done.stdout).split("\0") if name]


def _write_notebooks(folder: Path, notebooks: Mapping[str, NotebookNode]) -> None:
    for name, notebook in notebooks.items():
        write_text(folder / name, nbformat.writes(notebook).rstrip("\n") + "\n")
