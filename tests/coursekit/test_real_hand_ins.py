"""Real runs of the mini profile, handed in by students with different ids, and copies among them.

`pytest -m slow tests/coursekit/test_real_hand_ins.py -s`. The runs have shortened recipes, and
still take minutes each. KIT_REAL_RUNS sets how many there are; KIT_REAL_HAND_INS names a folder
where they are kept, and taken from the next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coursekit.grading.grade import grade_class
from coursekit.grading.gradebook import Grade
from coursekit.grading.rubric import read_rubric
from coursekit.handin.release import kit_files
from coursekit.notebooks import notebook_paths
from helpers.lib.folders import ROOT
from tools.sample_class import SHORT_ANSWER, answer, zipped

pytestmark = pytest.mark.slow
RUNS = int(os.environ.get("KIT_REAL_RUNS", "10"))
METHOD = "resnet18_extractor"  # whose honest runs are the most alike


def set_up_desk(folder: Path) -> None:
    """A student's copy of helpers and tools, with shortened recipes."""
    for name in kit_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    recipes = folder / "helpers" / "recipes.py"
    rows = re.compile(r'(\("mini", +\d+, +\d+, +)(\d+),')
    text = recipes.read_text(encoding="utf-8")
    shorter, count = rows.subn(lambda m: f"{m[1]}{max(2, int(m[2]) // 6)},", text)
    assert count >= 4
    recipes.write_text(shorter, encoding="utf-8")


def work(desk: Path, student: str, seed: int, out: Path) -> None:
    """Write the answers into the solutions, run everything, hand it in."""
    shutil.rmtree(desk / "results", ignore_errors=True)
    (desk / "notebooks").mkdir(exist_ok=True)
    chance = np.random.default_rng(seed)
    for path in notebook_paths().values():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [c for c in notebook["cells"] if "answer" in c["metadata"].get("tags", [])]
        for place, cell in enumerate(cells):
            # Two students have one short answer in common by chance.
            short = seed < 2 and (path.stem[:2], place) == ("01", 2)
            cell["source"] = f"*Your answer:* {SHORT_ANSWER if short else answer(chance)}"
        text = json.dumps(notebook).replace('student=\\"\\"', f'student=\\"{student}\\"')
        (desk / "notebooks" / path.name).write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name[:4] != "KIT_"}
    environment |= {"PYTHONPATH": str(desk), "KIT_PROFILE": "mini"}
    for command in (["run", "--profile", "mini", "--save-notebooks"],
                    ["submit", "--anyway", "--out", str(out)]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "coursekit", *command],
            cwd=desk, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def hand_ins(tmp_path_factory) -> list[Path]:
    """One hand-in a student."""
    kept = os.environ.get("KIT_REAL_HAND_INS")
    out = Path(kept) if kept else tmp_path_factory.mktemp("hand-ins")
    out.mkdir(parents=True, exist_ok=True)
    desk = tmp_path_factory.mktemp("desk")
    set_up_desk(desk)
    paths = []
    for seed in range(RUNS):
        student = f"r{2000000 + 131 * seed}"
        paths.append(out / f"submission-{student}.zip")
        if not paths[-1].exists():
            work(desk, student, seed, out)
    return paths


def graded(folder: Path, monkeypatch, copies: dict[str, bytes]) -> dict[str, Grade]:
    """Grade copies of hand-ins, by the names of their files."""
    monkeypatch.setenv("KIT_DATA", str(folder / "no data"))
    (folder / "class").mkdir()
    for name, data in copies.items():
        (folder / "class" / name).write_bytes(data)
    return {grade.place: grade for grade in grade_class(folder / "class", folder / "grades")}


def test_honest_runs_have_full_points_and_no_flag(hand_ins, tmp_path, monkeypatch):
    """Round trip: run, hand in, grade; only the points for the full profile are lost."""
    grades = graded(tmp_path, monkeypatch, {path.name: path.read_bytes() for path in hand_ins})
    rubric = read_rubric()
    (profile,) = (line.points for line in rubric.lines if line.look == "profile")
    read = sum(line.points for line in rubric.lines if line.look == "answers")
    for name, grade in grades.items():
        assert list(map(str, grade.flags)) == [], name
        assert (grade.total(rubric), grade.waiting(rubric)) == (100 - read - profile, read), name
        assert grade.profile == "mini" and len(grade.runs) == 4
    accuracies = {grade.runs[METHOD].accuracy for grade in grades.values()}
    assert RUNS < 5 or len(accuracies) > 1


Files = dict[str, bytes]


def edit_accuracy(mine: Files, theirs: Files) -> None:
    """Another accuracy in the record of B5, and in its notebook."""
    name = "results/efficientnet_b5_finetune/record.json"
    record = json.loads(mine[name])
    test = record["test"]
    before = f"{test['accuracy']:.1%} ({test['correct']}/{test['total']})"
    test["correct"] -= 40  # downwards, since some are near the top
    test["accuracy"] = test["correct"] / test["total"]
    after = f"{test['accuracy']:.1%} ({test['correct']}/{test['total']})"
    mine[name] = json.dumps(record).encode()
    notebook = "notebooks/05_efficientnet_b5_finetune.ipynb"
    assert before.encode() in mine[notebook]
    mine[notebook] = mine[notebook].replace(before.encode(), after.encode())


def copy_predictions(mine: Files, theirs: Files) -> None:
    """Somebody else's predictions, and a record that says what they give."""
    table, name = f"results/{METHOD}/predictions.csv", f"results/{METHOD}/record.json"
    mine[table] = theirs[table]
    record = json.loads(mine[name])
    record["test"] = json.loads(theirs[name])["test"]
    record["files"]["predictions.csv"] = hashlib.sha256(mine[table]).hexdigest()
    mine[name] = json.dumps(record).encode()


def copy_answers(mine: Files, theirs: Files) -> None:
    """Somebody else's answers, as they are."""
    for name in (name for name in mine if name.endswith(".ipynb")):
        notebook, other = json.loads(mine[name]), json.loads(theirs[name])
        for cell, source in zip(notebook["cells"], other["cells"], strict=True):
            if "answer" in cell["metadata"].get("tags", []):
                cell["source"] = source["source"]
        mine[name] = json.dumps(notebook).encode()


@pytest.mark.parametrize(
    ("cheat", "kind", "both"),
    [
        (edit_accuracy, "accuracy", False),
        (copy_predictions, "same predictions", True),
        (copy_answers, "same answers", True),
    ],
)
def test_what_is_planted_among_them_is_found(
    cheat: Callable, kind: str, both: bool, hand_ins, tmp_path, monkeypatch
):
    """The one who cheats is flagged, and the source of a copy; nobody else."""
    copies = {path.name: path.read_bytes() for path in hand_ins}
    mine, theirs = (
        {name: packed.read(name) for name in packed.namelist()}
        for packed in (zipfile.ZipFile(hand_ins[0]), zipfile.ZipFile(hand_ins[int(both)]))
    )
    cheat(mine, theirs)
    manifest = json.loads(mine.pop("manifest.json"))
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in mine.items()}
    copies[hand_ins[0].name] = zipped({**mine, "manifest.json": json.dumps(manifest).encode()})
    grades = graded(tmp_path, monkeypatch, copies)
    found = {name for name, grade in grades.items() if grade.flags}
    assert found == {path.name for path in hand_ins[: 2 if both else 1]}
    assert kind in {flag.kind for flag in grades[hand_ins[0].name].flags}
