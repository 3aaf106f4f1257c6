"""The student's edition: solutions out, asserts in, and what keeps it from being handed out."""

from __future__ import annotations

import ast
import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from coursekit import notebooks
from coursekit.handin import release
from coursekit.handin.release import (
    CODE_STUB,
    asserts_of,
    edition_faults,
    nbgrader_edition,
    roles,
    student_edition,
)
from coursekit.questions import ANSWER_STUB
from helpers import __main__ as cli
from helpers.errors import KitError
from helpers.lib.identity import kit_version

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


def code(source: str, *tags: str) -> nbformat.NotebookNode:
    cell = v4.new_code_cell(source, execution_count=1, metadata={"tags": list(tags)})
    cell.outputs = [v4.new_output("stream", name="stdout", text="what it printed\n")]
    return cell


def text(source: str, *tags: str) -> nbformat.NotebookNode:
    return v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def notebook_of(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    notebook = v4.new_notebook(cells=list(cells))
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"03-{number:02d}"
    return notebook


@pytest.fixture
def solution() -> nbformat.NotebookNode:
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


def sources(notebook: nbformat.NotebookNode) -> list[str]:
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


def test_the_same_asserts_hold_for_the_solution_and_stop_a_student(solution):
    student = student_edition(NAME, solution)
    namespace: dict = {}
    for cell in solution.cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
    for number in (3, 5, 7):
        assert asserts_of(student.cells[number].source) == asserts_of(solution.cells[number].source)
        with pytest.raises(NameError):
            exec(student.cells[number].source, {})


def test_a_notebook_without_markers_keeps_its_sources():
    plain = notebook_of(text("# A"), code("%matplotlib inline\nx = 1\n"), code("assert x"))
    student = student_edition(NAME, plain)
    assert sources(student) == sources(plain)
    assert edition_faults(NAME, plain, student) == []


def test_the_edition_of_an_edition_is_the_same(solution):
    once = student_edition(NAME, solution)
    assert student_edition(NAME, once) == once


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
        "### BEGIN SOLUTION\n### END SOLUTION\n### END SOLUTION",
        "### END SOLUTION\n### BEGIN SOLUTION",
    ],
)
def test_markers_come_in_pairs(source):
    with pytest.raises(KitError, match=r"03_made_up\.ipynb, cell 03-01: ### (BEGIN|END) SOLUTION"):
        student_edition(NAME, notebook_of(code(source)))


def test_asserts_of():
    source = "%time x = 1\n!ls\nassert x, 'why'\ndef f():\n    assert  f != x\n# assert y\n"
    assert asserts_of(source) == ["assert x, 'why'", "assert f != x"]
    assert asserts_of("%%bash\nassert x") == asserts_of("if") == []


# What keeps an edition back


def other_assert(solution, student):
    student.cells[3].source = "assert y == 0"
    return "cell 03-04: the solution does not have `assert y == 0`"


def added_assert(solution, student):
    student.cells.insert(3, v4.new_code_cell("assert False", id="new"))
    return "cell new: the solution does not have `assert False`"


def no_assert(solution, student):
    student.cells[3].source = "print(y)"
    return "cell 03-03: no assert checks what the student writes there"


def no_assert_at_the_end(solution, student):
    student.cells[7].source = "print(z)"
    return "cell 03-07: no assert checks what the student writes there"


def solution_left(solution, student):
    student.cells[1].source += "\ny = sum(x ** n\n    for n in range(10))"
    return "cell 03-02: gives away the solution of cell 03-03"


def whole_solution_left(solution, student):
    student.cells[6].source = solution.cells[6].source
    return "cell 03-07: gives away the solution of cell 03-07"


def model_answer_left(solution, student):
    student.cells[9].source = solution.cells[9].source
    return "cell 03-10: gives away the solution of cell 03-10"


def model_answer_cell_left(solution, student):
    student.cells.append(solution.cells[10])
    return "cell 03-11: gives away the solution of cell 03-11"


def no_python(solution, student):
    student.cells[1].source = "import math as"
    return "cell 03-02: is no Python without its solution"


def marker_in_text(solution, student):
    student.cells[0].source += "\n### BEGIN SOLUTION"
    return "cell 03-01: markers work in code cells"


def student_id(solution, student):
    student.cells[1].source = 'workspace = start(student="s7")'
    return "cell 03-02: holds the student id 's7'"


def doubled_id(solution, student):
    student.cells[1].id = "03-03"
    return "cells without an id, or two with one"


@pytest.mark.parametrize(
    "spoil",
    [
        other_assert, added_assert, no_assert, no_assert_at_the_end, solution_left,
        whole_solution_left, model_answer_left, model_answer_cell_left, no_python, marker_in_text,
        student_id, doubled_id,
    ],
)  # fmt: skip
def test_fault_is_one_line(spoil, solution):
    student = student_edition(NAME, solution)
    message = spoil(solution, student)
    (fault,) = edition_faults(NAME, solution, student)
    assert message in fault
    assert fault.startswith(NAME)
    assert "\n" not in fault


def test_an_assert_in_the_cell_of_the_todo_is_enough():
    cell = code(REGION + "\nassert y > 0")
    student = student_edition(NAME, notebook_of(cell))
    assert edition_faults(NAME, notebook_of(cell), student) == []


# nbgrader


def nbgrader_faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What nbgrader's own validator of metadata schema 3 would object to, rule by rule."""
    faults, ids = [], []
    for cell in notebook.cells:
        meta = cell.metadata.get("nbgrader")
        if meta is None:
            continue
        known = {"schema_version", "grade", "locked", "solution", "task", "grade_id", "points"}
        if set(meta) - known:
            faults.append("unknown keys")
        if meta["schema_version"] != 3 or meta["task"] is not False:
            faults.append("another schema")
        if not all(type(meta[key]) is bool for key in ("grade", "locked", "solution")):
            faults.append("no flags")
        if not meta["grade_id"] or set(meta["grade_id"]) - set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        ):
            faults.append("bad grade_id")
        if meta["grade"] != ("points" in meta) or meta.get("points", 0) < 0:
            faults.append("points without a grade, or a grade without points")
        if cell.cell_type == "markdown" and meta["grade"] != meta["solution"]:
            faults.append("a Markdown cell is graded and a solution, or neither")
        ids.append(meta["grade_id"])
    return faults + ["two cells with one id"] * (len(set(ids)) < len(ids))


def test_nbgrader_metadata(solution):
    solution.cells[9].metadata["nbgrader"] = {"points": 5}
    for edition in (student_edition(NAME, solution), nbgrader_edition(NAME, solution)):
        assert nbgrader_faults(edition) == []
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


def test_nbgrader_edition_keeps_solutions_and_markers(solution):
    edition = nbgrader_edition(NAME, solution)
    assert sources(edition)[:9] == sources(solution)[:9]
    assert sources(edition)[9:] == [ANSWER_STUB]


def test_roles_are_the_same_in_all_editions(solution):
    wanted = ["", "", *["todo", "check"] * 3, "question", "answer"]
    assert roles(solution) == [*wanted, ""]
    assert roles(student_edition(NAME, solution)) == wanted
    assert roles(nbgrader_edition(NAME, solution)) == wanted


# The whole edition


README = b"# A kit\n\n![what came out](docs/comparison.png)\n[guide](docs/instructors.md)\n"


@pytest.fixture
def kit(tmp_path, monkeypatch, solution) -> Path:
    """A kit of its own, without git: a few files, and one notebook with solutions."""
    root = tmp_path / "kit"
    for name in (
        "README.md", "helpers/__init__.py", "helpers/__pycache__/a.pyc", "helpers/lib/report.css",
        "coursekit/grading/__init__.py", "coursekit/grading/submit.py", "coursekit/grading/rubric.toml",
        "coursekit/grading/grade.py", "coursekit/grading/more/submit.py", "tests/test_solutions.py",
        "data/mini/draw.py", "data/mini/flowers-102/jpg/a.jpg", "data/flowers-102/setid.mat",
        "docs/comparison.png", "docs/instructors.md", "results/mini/record.json",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content of " + name.encode())
    (root / "README.md").write_bytes(README)
    (root / "notebooks").mkdir()
    nbformat.write(solution, root / "notebooks" / NAME)
    monkeypatch.setattr(release, "ROOT", root)
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", root / "notebooks")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return root


def test_extensions_are_released_beside_the_assignment(kit, tmp_path):
    folder = kit / "notebooks" / "extensions"
    folder.mkdir()
    notebook = nbformat.read(kit / "notebooks" / NAME, as_version=4)
    nbformat.write(notebook, folder / "07_more.ipynb")
    release.release(tmp_path / "student", nbgrader=tmp_path / "source")
    handed_out = [
        (tmp_path / "student" / "notebooks" / name).read_text(encoding="utf-8")
        for name in (NAME, "extensions/07_more.ipynb")
    ]
    assert all("BEGIN SOLUTION" not in text for text in handed_out)
    # nbgrader gets what is graded
    assert not list((tmp_path / "source").rglob("07_more.ipynb"))


STUDENT_FILES = [
    "README.md",
    "data/mini/draw.py",
    "docs/comparison.png",
    "helpers/__init__.py",
    "coursekit/grading/__init__.py",
    "coursekit/grading/submit.py",
    "helpers/lib/report.css",
]


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_release_without_git(kit, tmp_path, capsys):
    out = tmp_path / "new" / "student"
    assert cli.main(["release", "--out", str(out)]) == 0
    assert files_in(out) == sorted([*STUDENT_FILES, f"notebooks/{NAME}"])
    assert (out / "README.md").read_bytes() == README
    student = nbformat.read(out / "notebooks" / NAME, as_version=4)
    assert "the whole secret" not in "".join(sources(student))
    assert f"notebooks/{NAME}: 1 question, 3 TODOs, 3 checks" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["student"]  # and nothing beside it


def test_release_takes_what_git_knows(kit, tmp_path, capsys):
    for command in (["init", "-q"], ["add", "."], ["rm", "-q", "--cached", "docs/comparison.png"]):
        subprocess.run(["git", *command], cwd=kit, check=True)
    (kit / "helpers" / "kit" / "report.css").unlink()
    (kit / "helpers" / "new.py").touch()
    release.release(tmp_path / "student")
    gone = {"docs/comparison.png", "helpers/lib/report.css"}
    tracked = {*STUDENT_FILES, "helpers/__pycache__/a.pyc", "data/mini/flowers-102/jpg/a.jpg"}
    assert files_in(tmp_path / "student") == sorted([*(tracked - gone), f"notebooks/{NAME}"])
    printed = capsys.readouterr().out
    assert "note: helpers/new.py is not copied, since git does not know it" in printed
    assert "note: docs/comparison.png is not copied" in printed


def test_release_for_nbgrader(kit, tmp_path):
    source = tmp_path / "source"
    assert cli.main(["release", "--out", str(tmp_path / "a"), "--nbgrader", str(source)]) == 0
    assert files_in(source) == [NAME]
    edition = nbformat.read(source / NAME, as_version=4)
    assert edition.cells[2].source == REGION
    assert edition.cells[2].metadata.nbgrader.grade_id == "todo-03-03"


def test_faults_keep_everything_back(kit, tmp_path, solution, capsys):
    solution.cells[3].source = "print(y)"
    solution.cells[7].source = "print(z)"
    nbformat.write(solution, kit / "notebooks" / NAME)
    assert cli.main(["release", "--out", str(tmp_path / "student")]) == 2
    output = capsys.readouterr()
    assert output.out.count("no assert checks") == 2
    assert "error: the notebooks cannot be handed out, see above: nothing was written" in output.err
    assert not (tmp_path / "student").exists()


def test_a_folder_in_use_is_left_alone(kit, tmp_path, capsys):
    (tmp_path / "student").mkdir()
    release.release(tmp_path / "student")  # an empty one is taken
    before = files_in(tmp_path / "student")
    for options in (["student"], ["kit/README.md"], ["new", "--nbgrader", str(tmp_path / "new")]):
        assert cli.main(["release", "--out", str(tmp_path / options[0]), *options[1:]]) == 2
        assert "is in use: name a new or empty folder" in capsys.readouterr().err
    assert files_in(tmp_path / "student") == before
    assert not (tmp_path / "new").exists()


def test_a_failure_leaves_nothing_behind(kit, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release.shutil, "copyfile", fail)
    out = tmp_path / "new" / "student"
    with pytest.raises(KitError, match=r"cannot write .*: No space left on device"):
        release.release(out)
    assert list(out.parent.iterdir()) == []


def test_check_runs_the_solutions_on_mini_and_keeps_nothing(kit, tmp_path, monkeypatch):
    from coursekit.run import runner

    ran = []

    def run_notebooks(profile):
        ran.append((profile, Path(os.environ["KIT_RESULTS"])))
        assert ran[0][1].is_dir()

    monkeypatch.setattr(runner, "run_notebooks", run_notebooks)
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "mine"))
    release.release(tmp_path / "student", check=True)
    ((profile, results),) = ran
    assert profile == "mini"
    assert not results.exists()
    assert os.environ["KIT_RESULTS"] == str(tmp_path / "mine")


def test_a_solution_that_fails_its_assert_is_not_released(kit, tmp_path, monkeypatch, solution):
    """The real runner: a check that students could not pass stops the release."""
    solution.cells[3].source = "assert y == 7"
    nbformat.write(solution, kit / "notebooks" / NAME)
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "mine"))
    with pytest.raises(KitError, match=r"03_made_up, cell 3 \(assert y == 7\): AssertionError"):
        release.release(tmp_path / "student", check=True)
    assert not (tmp_path / "student").exists()
    assert not (tmp_path / "mine").exists()


def test_students_get_every_module_that_theirs_import():
    names = {name.as_posix() for name in release.kit_files()}
    assert {"coursekit/grading/submit.py", "helpers/lib/runner.py", "requirements.txt"} <= names
    assert not [name for name in names if name.startswith(("tests/", "notebooks/"))]
    shown = {name for name in names if name.startswith("docs/")}
    readme = (release.ROOT / "README.md").read_text(encoding="utf-8")
    assert shown and shown == set(re.findall(r"\((docs/\w+\.(?:png|jpg))\)", readme))
    lacking = set()
    for name in filter(lambda name: name.startswith("helpers/"), names):
        if not name.endswith(".py"):
            continue
        tree = ast.parse((release.ROOT / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = Path(name).parents[node.level - 1]
                wanted = folder.joinpath(*(node.module or "").split(".")).as_posix()
                if not {f"{wanted}.py", f"{wanted}/__init__.py"} & names:
                    lacking.add((name, wanted))
    # The commands of instructors are offered only where their rooms are.
    of_instructors = {"coursekit/grading/release", "coursekit/grading/grade"}
    assert {pair for pair in lacking if pair[1] not in of_instructors} == set()


@pytest.mark.slow
def test_the_copied_kit_answers(tmp_path):
    release._copy_kit(tmp_path)
    script = (
        "import sys, coursekit.__main__ as cli, coursekit.handin.submit\n"
        "print(cli.__file__, cli._has_room('grading.release'))\n"
        "cli.main(['submit', '--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'helpers' / '__main__.py'} False")
    assert "usage: python -m coursekit submit" in done.stdout


def test_the_notebooks_of_the_kit_can_be_released():
    for path in sorted((release.ROOT / "notebooks").glob("*.ipynb")):
        solution = notebooks.read_notebook(path)
        student = student_edition(path.name, solution)
        assert edition_faults(path.name, solution, student) == []
        assert nbgrader_faults(student) == []
