"""Real runs of the mini profile, handed in by students with different ids, and copies among them.

`pytest -m slow tests/test_real_hand_ins.py -s`. The runs have shortened recipes, and still take
minutes each. KIT_REAL_RUNS sets how many there are; KIT_REAL_HAND_INS names a folder where they are
kept, and taken from the next time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sample_class import SHORT_ANSWER, answer, zipped

from coursekit.grading.grade import grade_class
from coursekit.grading.gradebook import Grade
from coursekit.grading.rubric import read_rubric
from coursekit.handin import release
from coursekit.notebooks import notebook_paths

pytestmark = pytest.mark.slow
RUNS = int(os.environ.get("KIT_REAL_RUNS", "10"))
METHOD = "resnet18_extractor"  # whose honest runs are the most alike


class Desk:
    """A student's copy of the kit, with solutions and shortened recipes; one student at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        release._copy_kit(folder)
        (folder / "notebooks").mkdir()
        recipes = folder / "helpers" / "recipes.py"
        text = recipes.read_text(encoding="utf-8")
        rows = re.compile(r'(\("mini", +\d+, +\d+, +)(\d+),')
        shorter, count = rows.subn(lambda m: f"{m[1]}{max(2, int(m[2]) // 6)},", text)
        assert count >= 4
        recipes.write_text(shorter, encoding="utf-8")

    def work(self, student: str, seed: int, out: Path) -> float:
        """Write the answers, run everything, hand it in; returns the seconds of the run."""
        shutil.rmtree(self.folder / "results", ignore_errors=True)
        chance = np.random.default_rng(seed)
        for path in notebook_paths().values():
            notebook = json.loads(path.read_text(encoding="utf-8"))
            self._answer(notebook, path.stem[:2], chance, alike=seed < 2)
            text = json.dumps(notebook).replace('student=\\"\\"', f'student=\\"{student}\\"')
            (self.folder / "notebooks" / path.name).write_text(text, encoding="utf-8")
        began = time.perf_counter()
        self._kit("run", "--profile", "mini", "--save-notebooks")
        seconds = time.perf_counter() - began
        self._kit("submit", "--anyway", "--out", str(out))
        return seconds

    def _answer(
        self, notebook: dict, number: str, chance: np.random.Generator, *, alike: bool
    ) -> None:
        """Answers of their own words; two students have one short answer in common by chance."""
        cells = [c for c in notebook["cells"] if "answer" in c["metadata"].get("tags", [])]
        for place, cell in enumerate(cells):
            short = alike and (number, place) == ("01", 2)
            cell["source"] = f"*Your answer:* {SHORT_ANSWER if short else answer(chance)}"

    def _kit(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name[:4] != "KIT_"}
        environment |= {"PYTHONPATH": str(self.folder), "KIT_PROFILE": "mini"}
        done = subprocess.run(
            [sys.executable, "-m", "coursekit", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def hand_ins(tmp_path_factory) -> list[Path]:
    """One hand-in a student."""
    kept = os.environ.get("KIT_REAL_HAND_INS")
    out = Path(kept) if kept else tmp_path_factory.mktemp("hand-ins")
    out.mkdir(parents=True, exist_ok=True)
    desk = None
    for seed in range(RUNS):
        student = f"r{2000000 + 131 * seed}"
        if not (out / f"submission-{student}.zip").exists():
            desk = desk or Desk(tmp_path_factory.mktemp("desk"))
            print(f"\n{student}: {desk.work(student, seed, out):.0f} s")
    return [out / f"submission-r{2000000 + 131 * seed}.zip" for seed in range(RUNS)]


def graded(folder: Path, monkeypatch, copies: dict[str, bytes]) -> dict[str, Grade]:
    """Grade copies of hand-ins, by the names of their files."""
    monkeypatch.setenv("KIT_DATA", str(folder / "no data"))
    (folder / "class").mkdir()
    for name, data in copies.items():
        (folder / "class" / name).write_bytes(data)
    began = time.perf_counter()
    grades = grade_class(folder / "class", folder / "grades")
    print(f"\n{len(grades)} hand-ins graded in {time.perf_counter() - began:.1f} s")
    return {grade.place: grade for grade in grades}


def flags_of(grade: Grade) -> list[str]:
    return [f"{flag.kind}: {flag.text} {flag.other}" for flag in grade.flags]


def test_honest_runs_have_full_points_and_no_flag(hand_ins, tmp_path, monkeypatch):
    """Round trip: run, hand in, grade; only the points for the full profile are lost."""
    grades = graded(tmp_path, monkeypatch, {path.name: path.read_bytes() for path in hand_ins})
    rubric = read_rubric()
    (profile,) = (line.points for line in rubric.lines if line.look == "profile")
    for name, grade in grades.items():
        assert flags_of(grade) == [], name
        assert grade.total(rubric) == rubric.machine_points - profile, name
        assert grade.waiting(rubric) == rubric.points - rubric.machine_points
        assert grade.profile == "mini" and len(grade.runs) == 4
    accuracies = {grade.runs[METHOD].accuracy for grade in grades.values()}
    seeds = {grade.runs[METHOD].seed for grade in grades.values()}
    assert len(seeds) == RUNS and (RUNS < 5 or len(accuracies) > 1)


def files_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def sealed(files: dict[str, bytes]) -> bytes:
    """Packed again, with a manifest whose hashes fit."""
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return zipped({**files, "manifest.json": json.dumps(manifest).encode()})


def edit_accuracy(mine: dict[str, bytes], theirs: dict[str, bytes]) -> None:
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


def copy_predictions(mine: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    """Somebody else's predictions, and a record that says what they give."""
    table, name = f"results/{METHOD}/predictions.csv", f"results/{METHOD}/record.json"
    mine[table] = theirs[table]
    record, other = json.loads(mine[name]), json.loads(theirs[name])
    record["test"] = other["test"]
    record["files"]["predictions.csv"] = hashlib.sha256(mine[table]).hexdigest()
    mine[name] = json.dumps(record).encode()


def copy_answers(mine: dict[str, bytes], theirs: dict[str, bytes]) -> None:
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
    if both and len(hand_ins) < 2:
        pytest.skip("it takes two")
    copies = {path.name: path.read_bytes() for path in hand_ins}
    mine, theirs = files_of(hand_ins[0]), files_of(hand_ins[int(both)])
    cheat(mine, theirs)
    copies[hand_ins[0].name] = sealed(mine)
    grades = graded(tmp_path, monkeypatch, copies)
    found = {name for name, grade in grades.items() if grade.flags}
    assert found == {path.name for path in hand_ins[: 2 if both else 1]}
    assert kind in {flag.kind for flag in grades[hand_ins[0].name].flags}


def test_the_tables_hold_the_test_split(hand_ins):
    for path in hand_ins:
        text = files_of(path)[f"results/{METHOD}/predictions.csv"].decode()
        assert len(list(csv.DictReader(io.StringIO(text)))) == 480
