"""The student's edition: solutions out, asserts in, and what keeps it from being handed out."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode, v4

from coursekit import __main__ as cli
from coursekit.handin.edition import (
    CODE_STUB,
    edition_faults,
    nbgrader_edition,
    student_edition,
)
from coursekit.handin.release import FOR_INSTRUCTORS, release
from coursekit.notebooks import extension_paths, notebook_paths, read_notebook
from coursekit.questions import ANSWER_STUB
from helpers.errors import KitError
from helpers.lib.folders import ROOT
from helpers.lib.identity import kit_version
from tools.tiny import full_disk

NAME = "03_made_up.ipynb"
REGION = """x = 2
### BEGIN SOLUTION
y = sum(x ** n for n in range(10))
### END SOLUTION
print(y)"""
INDENTED = """def double(x):
    # twice as much
    ### BEGIN SOLUTION
    result = 2 * x  # the whole secret of it
    return result
    ### END SOLUTION"""


def code(source: str, *tags: str) -> NotebookNode:
    cell = v4.new_code_cell(source, execution_count=1, metadata={"tags": list(tags)})
    cell.outputs = [v4.new_output("stream", name="stdout", text="what it printed\n")]
    return cell


def text(source: str, *tags: str) -> NotebookNode:
    return v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def notebook_of(*cells: NotebookNode) -> NotebookNode:
    notebook = v4.new_notebook(cells=list(cells))
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"03-{number:02d}"
    return notebook


@pytest.fixture
def solution() -> NotebookNode:
    return notebook_of(
        text("# Made up"),
        code("import math"),
        code(REGION),
        code("assert y == 2**10 - 1", "keep-me"),
        code(INDENTED),
        code("assert double(4) == 8\nassert double(0) == 0"),
        code("z = [math.sqrt(y) for _ in range(3)]", "solution"),
        code("assert len(z) == 3"),
        text("**Question 1.** Why?", "question"),
        text("*Your answer:*\n\nBecause the model answer says so.", "answer"),
        text("Two points for a reason, one for an example.", "model-answer"),
    )


def sources(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells]


# What becomes of a notebook


def test_student_edition(solution):
    before = copy.deepcopy(solution)
    student = student_edition(NAME, solution)
    assert solution == before
    first, second = CODE_STUB.splitlines()
    assert sources(student) == [
        "# Made up",
        "import math",
        f"x = 2\n{first}\n{second}\nprint(y)",
        "assert y == 2**10 - 1",
        f"def double(x):\n    # twice as much\n    {first}\n    {second}",
        "assert double(4) == 8\nassert double(0) == 0",
        CODE_STUB,
        "assert len(z) == 3",
        "**Question 1.** Why?",
        ANSWER_STUB,
    ]
    assert [cell.id for cell in student.cells] == [cell.id for cell in solution.cells[:-1]]
    for cell in student.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert [cell.metadata.tags for cell in student.cells[2:8]] == [
        ["todo"], ["keep-me"], ["todo"], [], ["todo"], [],
    ]  # fmt: skip
    noted = {"notebook": "03_made_up", "questions": 1, "version": kit_version()}
    assert student.metadata.kit == noted
    assert edition_faults(NAME, solution, student) == []
    nbformat.validate(student)
    with pytest.raises(NotImplementedError):
        exec(student.cells[6].source, {})


def test_the_asserts_hold_for_the_solution_and_stop_a_student(solution):
    student = student_edition(NAME, solution)
    namespace: dict = {}
    for cell in solution.cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
    for number in (3, 5, 7):
        assert student.cells[number].source == solution.cells[number].source
        with pytest.raises(NameError):
            exec(student.cells[number].source, {})


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "### END SOLUTION\n### BEGIN SOLUTION",
    ],
)
def test_markers_come_in_pairs(source):
    with pytest.raises(KitError, match=r"03_made_up\.ipynb, cell 03-01: ### (BEGIN|END) SOLUTION"):
        student_edition(NAME, notebook_of(code(source)))


# What keeps an edition back

LEAK = "y = sum(x ** n\n    for n in range(10))"
FAULTS = [  # a cell by its number, what stands there by mistake (None: the solution), and the fault
    (3, "print(y)", "cell 03-03: no assert checks what the student writes there"),
    (7, "print(z)", "cell 03-07: no assert checks what the student writes there"),
    (1, LEAK, "cell 03-02: gives away the solution of cell 03-03"),
    (6, None, "cell 03-07: gives away the solution of cell 03-07"),
    (9, None, "cell 03-10: gives away the solution of cell 03-10"),
    (1, "import math as", "cell 03-02: is no Python without its solution"),
    (0, "# A\n### BEGIN SOLUTION", "cell 03-01: markers work in code cells"),
    (1, 'start(student="s7")', "cell 03-02: holds the student id 's7'"),
]


@pytest.mark.parametrize(("number", "source", "message"), FAULTS)
def test_fault_is_one_line(number, source, message, solution):
    student = student_edition(NAME, solution)
    student.cells[number].source = source or solution.cells[number].source
    (fault,) = edition_faults(NAME, solution, student)
    assert message in fault
    assert fault.startswith(NAME)
    assert "\n" not in fault


def test_a_model_answer_that_is_left_is_a_fault(solution):
    student = student_edition(NAME, solution)
    student.cells.append(solution.cells[10])
    (left,) = edition_faults(NAME, solution, student)
    assert "cell 03-11: gives away the solution of cell 03-11" in left


def test_an_assert_in_the_cell_of_the_todo_is_enough():
    cell = code(REGION + "\nassert y > 0")
    student = student_edition(NAME, notebook_of(cell))
    assert edition_faults(NAME, notebook_of(cell), student) == []


# nbgrader


def test_nbgrader_edition(solution):
    edition = nbgrader_edition(NAME, solution)
    assert sources(edition) == [*sources(solution)[:9], ANSWER_STUB]
    solution.cells[9].metadata["nbgrader"] = {"points": 5}
    for edition in (student_edition(NAME, solution), nbgrader_edition(NAME, solution)):
        found = [
            {key for key in ("grade", "locked", "solution") if cell.metadata["nbgrader"][key]}
            if "nbgrader" in cell.metadata
            else None
            for cell in edition.cells
        ]
        todo, check = {"solution"}, {"grade", "locked"}
        assert found == [
            None, None, todo, check, todo, check, todo, check, {"locked"}, {"grade", "solution"},
        ]  # fmt: skip
        assert edition.cells[9].metadata.nbgrader.points == 5
        assert edition.cells[3].metadata.nbgrader == {
            "schema_version": 3, "grade_id": "check-03-04", "grade": True, "locked": True,
            "solution": False, "task": False, "points": 1,
        }  # fmt: skip


# The whole edition


README = b"# A kit\n\n![what came out](docs/comparison.png)\n[guide](docs/instructors.md)\n"
STUDENT_FILES = [
    ".gitignore",
    "README.md",
    "coursekit/handin/submit.py",
    "data/mini/draw.py",
    "docs/comparison.png",
    "helpers/__init__.py",
    "helpers/lib/report.css",
    "notebooks/extensions/lib/networks.py",
]
OTHER_FILES = [
    "benchmarks/cases.py",
    "coursekit/grading/grade.py",
    "coursekit/handin/release.py",
    "data/flowers-102/setid.mat",
    "data/mini/flowers-102/jpg/a.jpg",
    "docs/instructors.md",
    "helpers/__pycache__/a.pyc",
    "results/mini/record.json",
    "tests/test_solutions.py",
]


@pytest.fixture
def kit(tmp_path, solution) -> Path:
    """A kit of its own, which git knows: a few files, and two notebooks with solutions."""
    root = tmp_path / "kit"
    for name in (*STUDENT_FILES, *OTHER_FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content of " + name.encode())
    (root / "README.md").write_bytes(README)
    nbformat.write(solution, root / "notebooks" / NAME)
    nbformat.write(solution, root / "notebooks" / "extensions" / "07_more.ipynb")
    (root / ".gitignore").write_text("__pycache__\ndata/*/flowers-102\n")
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


NOTEBOOKS = [f"notebooks/{NAME}", "notebooks/extensions/07_more.ipynb"]


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_release(kit, tmp_path, capsys):
    out, source = tmp_path / "new" / "student", tmp_path / "source"
    release(out, nbgrader=source, root=kit)
    assert files_in(out) == sorted([*STUDENT_FILES, *NOTEBOOKS])
    assert (out / "README.md").read_bytes() == README
    for name in NOTEBOOKS:
        text = (out / name).read_text(encoding="utf-8")
        assert "the whole secret" not in text and "BEGIN SOLUTION" not in text
    assert f"notebooks/{NAME}: 1 questions, 3 todos, 3 checks" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["student"]  # and nothing beside it
    assert files_in(source) == [NAME]  # what is graded: no extension
    edition = nbformat.read(source / NAME, as_version=4)
    assert sources(edition)[2] == REGION


def test_release_takes_what_git_knows(kit, tmp_path, capsys):
    subprocess.run(["git", "rm", "-q", "--cached", "docs/comparison.png"], cwd=kit, check=True)
    (kit / "helpers" / "lib" / "report.css").unlink()
    (kit / "helpers" / "new.py").touch()
    release(tmp_path / "student", root=kit)
    gone = {"docs/comparison.png", "helpers/lib/report.css"}
    assert files_in(tmp_path / "student") == sorted([*({*STUDENT_FILES} - gone), *NOTEBOOKS])
    printed = capsys.readouterr().out
    assert "note: helpers/new.py is not copied, since git does not know it" in printed
    assert "note: docs/comparison.png is not copied" in printed
    shutil.rmtree(kit / ".git")
    with pytest.raises(KitError, match="clone the kit with git"):
        release(tmp_path / "other", root=kit)
    assert not (tmp_path / "other").exists()


def test_faults_keep_everything_back(kit, tmp_path, solution, capsys):
    solution.cells[3].source = "print(y)"
    solution.cells[7].source = "print(z)"
    nbformat.write(solution, kit / NOTEBOOKS[0])
    with pytest.raises(KitError, match="cannot be handed out, see above: nothing was written"):
        release(tmp_path / "student", root=kit)
    assert capsys.readouterr().out.count("no assert checks") == 2
    assert not (tmp_path / "student").exists()


def test_a_folder_in_use_is_left_alone(kit, tmp_path, capsys):
    (tmp_path / "student").mkdir()
    release(tmp_path / "student", root=kit)  # an empty one is taken
    before = files_in(tmp_path / "student")
    for options in (["student"], ["kit/README.md"], ["new", "--nbgrader", str(tmp_path / "new")]):
        assert cli.main(["release", "--out", str(tmp_path / options[0]), *options[1:]]) == 2
        assert "is in use: name a new or empty folder" in capsys.readouterr().err
    assert files_in(tmp_path / "student") == before
    assert not (tmp_path / "new").exists()


def test_a_failure_leaves_nothing_behind(kit, tmp_path):
    (tmp_path / "new").mkdir()
    with full_disk(10), pytest.raises(KitError, match=r"cannot write .*: File too large"):
        release(tmp_path / "new" / "student", root=kit)
    assert list((tmp_path / "new").iterdir()) == []


def test_check_runs_the_solutions_on_mini_and_keeps_nothing(
    kit, tmp_path, monkeypatch, solution, capfd
):
    """The real runner: an assert that students could not pass stops the release."""
    for package in ("helpers", "coursekit"):
        shutil.copytree(ROOT / package, kit / package, dirs_exist_ok=True)
    shutil.rmtree(kit / "data" / "mini")
    (kit / "data" / "mini").symlink_to(ROOT / "data" / "mini")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "mine"))
    release(tmp_path / "good", check=True, root=kit)
    solution.cells[3].source = "assert y == 7"
    nbformat.write(solution, kit / NOTEBOOKS[0])
    with pytest.raises(KitError, match="do not run with their solutions: nothing was written"):
        release(tmp_path / "bad", check=True, root=kit)
    assert "03_made_up, cell 3 (assert y == 7): AssertionError" in capfd.readouterr().err
    assert (tmp_path / "good").is_dir()
    assert not (tmp_path / "bad").exists() and not (tmp_path / "mine").exists()


# The kit itself

IMPORT_ALL = """
import importlib, importlib.util, pathlib, sys
# The kit that is tested is installed here, a student has only the edition.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import helpers
assert pathlib.Path(helpers.__file__).is_relative_to(pathlib.Path.cwd())
for package in ("helpers", "coursekit"):
    for path in pathlib.Path(package).rglob("*.py"):
        parts = path.with_suffix("").parts
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
assert importlib.util.find_spec("coursekit.grading") is None
from coursekit.__main__ import main
for command in ("submit", "release", "grade"):
    try:
        main([command, "--help"])
    except SystemExit as stop:
        print(command, stop.code)
"""


def test_the_edition_of_this_kit_works_by_itself(tmp_path):
    """Each module of a student's finds what it imports, and instructors' commands are hidden."""
    student = tmp_path / "student"
    assert cli.main(["release", "--out", str(student)]) == 0
    files = files_in(student)
    of_others = (*FOR_INSTRUCTORS, "tests", "benchmarks", ".ci", ".git/")
    assert not [name for name in files if name.startswith(of_others)]
    assert {"requirements.txt", "pyproject.toml", "docs/comparison.png"} <= set(files)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=student,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line[-1:] in "02"][-3:] == [
        "submit 0", "release 2", "grade 2",
    ]  # fmt: skip


def test_the_notebooks_of_the_kit_can_be_released():
    for path in [*notebook_paths().values(), *extension_paths().values()]:
        solution = read_notebook(path)
        student = student_edition(path.name, solution)
        assert edition_faults(path.name, solution, student) == []
