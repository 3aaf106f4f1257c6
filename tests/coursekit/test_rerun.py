"""Executing hand-ins again: only when asked for, within limits, and nothing that it can spoil."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coursekit import __main__ as cli
from coursekit.grading.evidence import Finding
from coursekit.grading.find import find_hand_ins
from coursekit.grading.grade import grade_class, make_grader
from coursekit.grading.gradebook import Grade
from coursekit.grading.pages import class_page, feedback_page
from coursekit.grading.rerun import EXECUTE, RAN, Limits, Rerun, kept, run_again, without_network
from coursekit.grading.rubric import read_rubric
from coursekit.notebooks import notebook_paths
from tools.made_up import write_result
from tools.sample_class import zipped

SHORT = Limits(minutes=1, memory=2)
POSIX = pytest.mark.skipif(os.name != "posix", reason="there are no such limits here")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no such limit here")
TEMPLATES = make_grader().templates


def hand_in_of(folder: Path, student: str = "s1", **cells: str) -> Path:
    """A zip whose notebooks have these cells, by number as `nb02`; the others have none."""
    files = {"manifest.json": json.dumps({"schema": 1, "student": student}).encode()}
    for number, template in TEMPLATES.items():
        source = cells.get(f"nb{number}", "pass")
        shape = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
        code = {"cell_type": "code", "outputs": [], "metadata": {}, "execution_count": 1}
        texts = [
            {"cell_type": "markdown", "metadata": {}, "id": cell.key, "source": cell.source}
            for cell in template.cells
            if cell.kind == "markdown"
        ]
        sources = [
            {**code, "id": f"own-{n}", "source": s} for n, s in enumerate(source.split("#%"))
        ]
        files[f"notebooks/{template.name}"] = json.dumps(
            {**shape, "cells": [*texts, *sources]}
        ).encode()
    path = folder / f"submission-{student}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zipped(files))
    return path


def outcomes(folder: Path, limits: Limits = SHORT, **cells: str) -> dict[str, str]:
    """What came of the notebooks that are named, of a hand-in with these cells."""
    (place,) = find_hand_ins(hand_in_of(folder / "in", **cells))
    chosen = {n: TEMPLATES[n] for n in sorted(name.removeprefix("nb") for name in cells)}
    return {one.notebook: one.outcome for one in run_again(place, "s1", chosen, {}, limits)}


def test_what_comes_of_notebooks(tmp_path):
    """One goes wrong, the next one runs, and each has a kernel and a folder of its own."""
    found = outcomes(
        tmp_path,
        nb02="x = 1#%open('here', 'w').close()#%print('\\n' * 10**6)#%%matplotlib inline",
        nb03="import os#%assert os.path.exists('here')#%y = x + 1#%y",
        nb04="raise SystemExit(3)",
        nb05="import os#%os._exit(7)",
        nb06="input()",
    )
    assert found == {
        "02": RAN,
        "03": "failed in code cell 3: NameError: name 'x' is not defined",
        "04": "failed in code cell 1: SystemExit: 3",
        "05": "its process ended with status 7, in code cell 2",
        "06": found["06"],
    }
    assert found["06"].startswith("failed in code cell 1: ")


def test_time_is_limited(tmp_path):
    """What a notebook has started ends with it, and those after it are not run."""
    note = tmp_path / "pid"
    found = outcomes(
        tmp_path,
        Limits(minutes=0.1, memory=2),
        nb02="import pathlib, subprocess, sys#%"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])#%"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))#%"
        "while True: pass",
        nb03="pass",
    )
    assert found == {"02": "stopped after 6 s, in code cell 4", "03": "not run: the time was up"}
    pid = int(note.read_text())
    if os.name == "posix" and psutil.pid_exists(pid):
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@LINUX
def test_memory_is_limited(tmp_path):
    cells = "x = bytearray(10**8)#%x = bytearray(3 * 10**9)"
    found = outcomes(tmp_path, Limits(minutes=1, memory=1.5), nb02=cells)
    assert found == {"02": "failed in code cell 2: MemoryError"}


@POSIX
def test_nothing_of_this_user_s_environment_is_given_away(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    source = (
        "import os, pathlib#%assert 'secret' not in os.environ.values()#%"
        f"assert pathlib.Path.home() != pathlib.Path({str(Path.home())!r})#%"
        "assert os.environ['KIT_PROFILE'] == 'mini'#%"
        "assert os.environ['KIT_DATASET'] == 'Flowers102'"
    )
    assert outcomes(tmp_path, nb02=source) == {"02": RAN}


@pytest.mark.skipif(not without_network(), reason="this system cannot take the network away")
def test_there_is_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        socket.create_connection(address, timeout=5).close()
        found = outcomes(tmp_path, nb02=f"import socket#%socket.create_connection({address}, 5)")
    assert found["02"].startswith("failed in code cell 2: OSError")
    assert "no network" in str(SHORT)


@pytest.fixture
def class_of_two(tmp_path, monkeypatch) -> Path:
    """Two hand-ins that leave a mark when they are run; one of them writes a result."""
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "no data"))
    write_result(tmp_path / "result", "bn_cnn", student="s1")
    copy = (
        "import os, pathlib, shutil#%"
        f"pathlib.Path({str(tmp_path)!r}, 'ran').touch()#%"
        "shutil.copytree("
        f"{str(tmp_path / 'result')!r}, os.environ['KIT_RESULTS'] + '/mini', dirs_exist_ok=True)"
    )
    hand_in_of(tmp_path / "class", "s1", nb02=copy)
    hand_in_of(tmp_path / "class", "s2")
    (tmp_path / "class" / "submission-s3.zip").write_bytes(b"no zip")
    return tmp_path


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as stream:
        return {row["hand_in"]: row for row in csv.DictReader(stream)}


def test_students_code_runs_only_when_asked_for(class_of_two):
    grade_class(class_of_two / "class", class_of_two / "grades", workers=1)
    assert not (class_of_two / "ran").exists()
    assert {row["rerun"] for row in rows_of(class_of_two / "grades").values()} == {""}
    assert "Run again" not in (class_of_two / "grades" / "class.html").read_text(encoding="utf-8")


def test_what_came_is_information(class_of_two):
    """It stands in the grade book and on the pages, gives no points, and is kept."""
    submissions, out = class_of_two / "class", class_of_two / "grades"
    before = [grade.total(read_rubric()) for grade in grade_class(submissions, out, workers=1)]
    options = {"rerun": ["s1", "submission-s3.zip"], "limits": SHORT, "workers": 1}
    grades = grade_class(submissions, out, **options)
    assert (class_of_two / "ran").exists()
    assert [grade.total(read_rubric()) for grade in grades] == before
    rows = rows_of(out)
    assert rows["submission-s1.zip"]["rerun"] == "6 of 6 notebooks ran"
    assert rows["submission-s2.zip"]["rerun"] == ""
    assert rows["submission-s3.zip"]["rerun"].startswith("0 of 6 notebooks ran; 01 is missing")
    pages = [out / "class.html", out / "feedback" / "s1.html"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "Run again" in text and "points" in text
    assert "Run again" not in (out / "feedback" / "s2.html").read_text(encoding="utf-8")
    (class_of_two / "ran").unlink()
    again = grade_class(submissions, out, workers=1)  # without asking for it
    assert not (class_of_two / "ran").exists()
    assert rows_of(out)["submission-s1.zip"]["rerun"] == "6 of 6 notebooks ran"
    (grade,) = (grade for grade in again if grade.student == "s1")
    (place,) = find_hand_ins(submissions / "submission-s1.zip")
    assert grade.reruns == kept(out / ".cache", place) != []


def test_errors_of_students_are_text_on_pages():
    reruns = [Rerun("03", "failed in code cell 1: <script>alert(1)</script>", 1.0)]
    grade = Grade("x.zip", student="s2", findings={"x": Finding(0)}, reruns=reruns)
    for page in (feedback_page(grade, read_rubric(), {}), class_page([grade], read_rubric(), {})):
        assert "<script" not in page and "&lt;script&gt;" in page


def test_accuracy_is_counted_from_the_new_predictions(class_of_two):
    (place,) = find_hand_ins(class_of_two / "class" / "submission-s1.zip")
    (rerun,) = run_again(place, "s1", {"02": TEMPLATES["02"]}, {}, SHORT)
    record = json.loads((class_of_two / "result" / "bn_cnn" / "record.json").read_text())
    assert rerun.accuracy == record["test"]["accuracy"]


def test_the_command(class_of_two, capsys):
    arguments = ["grade", str(class_of_two / "class"), "--out", str(class_of_two / "grades")]
    assert cli.main([*arguments, "--rerun", "s9"]) == 2
    assert "--rerun s9: no hand-in of that student" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--rerun", "s1", "--rerun-minutes", "0"])
    assert "--rerun-minutes: 0: use" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["grade", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "THIS RUNS THEIR CODE" in said and "no sandbox" in said and "container" in said


@pytest.mark.slow
def test_the_model_solutions_run_again(tmp_path, monkeypatch):
    """The solution edition, handed in as it is, gives five accuracies and no failure."""
    files = {"manifest.json": json.dumps({"schema": 1, "student": "s7"}).encode()}
    for path in notebook_paths().values():
        files[f"notebooks/{path.name}"] = path.read_bytes()
    (tmp_path / "submission-s7.zip").write_bytes(zipped(files))
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "no data"))
    (grade,) = grade_class(tmp_path, tmp_path / "grades", rerun=["all"], workers=1)
    assert [one.outcome for one in grade.reruns] == [RAN] * 6
    found = [one.accuracy for one in grade.reruns]
    assert found[0] is found[5] is None
    assert min(found[1:5]) > 0.2 and found[2] > found[1]


def test_a_task_stands_by_itself():
    """The limits hold before anything else is loaded."""
    code = f"import runpy, sys; runpy.run_path({str(EXECUTE)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"helpers", "IPython", "torch"} & set(done.stdout.split())
