"""Three hundred hand-ins, a tenth of them broken: none lost, the tampered ones found.

`pytest -m slow tests/coursekit/test_grading_large.py -s` prints what it took. KIT_CLASS sets the
size.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers.lib.folders import ROOT
from tools import breakages, sample_class
from tools.sample_class import EDITS, SHORT_ANSWER, HandIn, build, make_hand_in, set_answer, zipped

pytestmark = pytest.mark.slow
SIZE = int(os.environ.get("KIT_CLASS", "300"))
COPIES = (sample_class.copy_work, sample_class.copy_predictions)


def duplicate_id(hand_in: HandIn) -> bytes:
    """The hand-in of a student who has handed in already."""
    breakages.seal(hand_in, student="s1000000")
    return zipped(hand_in.files)


def damages() -> list:
    """A list of ways to break a tenth of the class, as many different ones as fit."""
    huge = functools.partial(breakages.huge_output, megabytes=200 if SIZE >= 300 else 20)
    huge.__name__ = "huge_output"
    ways = [way for way in breakages.ALL if way is not breakages.huge_output]
    # Those that leave nothing to grade first: a class of three hundred does not get to the last.
    ways = list(dict.fromkeys([duplicate_id, huge, *breakages.DEADLY, *ways]))
    return [ways[number % len(ways)] for number in range(SIZE // 10)]


def write_class(folder: Path, data_dir: Path) -> dict[str, str]:
    """Write the class; returns what each hand-in is, by file name."""
    labels = sample_class.write_labels(data_dir, test=6149)
    folder.mkdir(parents=True)
    kinds: dict[str, str] = {}

    def put(hand_in: HandIn, kind: str, data: bytes | None = None) -> None:
        data = zipped(build(hand_in, labels)) if data is None else data
        (folder / hand_in.file_name).write_bytes(data)
        kinds[hand_in.file_name] = kind

    for _ in range(2):  # the same short answer, by chance
        hand_in = make_hand_in(len(kinds), labels)
        set_answer(hand_in, "01", 2, SHORT_ANSWER)
        put(hand_in, "honest")
    for way in damages():
        hand_in = make_hand_in(len(kinds), labels)
        build(hand_in, labels)
        put(hand_in, way.__name__, way(hand_in))
    for repeat in range(max(SIZE // 30, 5)):
        hand_in, other = make_hand_in(len(kinds), labels), make_hand_in(0, labels)
        EDITS[repeat % len(EDITS)](hand_in, other)
        put(hand_in, "edited")
    for copying in COPIES:
        for _ in range(max(SIZE // 60, 1)):
            hand_in, other = (make_hand_in(len(kinds) + one, labels) for one in (0, 1))
            copying(hand_in, other)
            put(hand_in, copying.__name__)
            put(other, "source")
    while len(kinds) < SIZE:
        put(make_hand_in(len(kinds), labels), "honest")
    return kinds


def memory_of(pid: int) -> int:
    """Bytes that a process and its children take; what they share counts once, on Linux."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = one.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


def test_a_class_of_hundreds(tmp_path):
    """Every hand-in has a row, the tampered are flagged, mild damage keeps its points."""
    kinds = write_class(tmp_path / "hand-ins", tmp_path / "data")
    command = [sys.executable, "-m", "coursekit", "grade", str(tmp_path / "hand-ins")]
    began, most = time.perf_counter(), 0
    with (tmp_path / "printed.txt").open("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "grades")],
            cwd=ROOT,
            stdout=printed,
            stderr=printed,
            env=os.environ | {"KIT_DATA": str(tmp_path / "data")},
        )
        while process.poll() is None:
            most = max(most, memory_of(process.pid))
            time.sleep(0.1)
        printed.seek(0)
        assert (process.returncode, "Traceback" in printed.read()) == (0, False)
    print(f"\n{len(kinds)} hand-ins in {time.perf_counter() - began:.0f} s, {most / 1e6:.0f} MB")
    assert 0 < most < 1e9
    with (tmp_path / "grades" / "grades.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["hand_in"].partition("/")[0]: row for row in csv.DictReader(stream)}
    assert set(rows) == set(kinds) and len(kinds) == SIZE
    assert not [row["remarks"] for row in rows.values() if "the grader failed" in row["remarks"]]
    planted = ("edited", "copy_work", "copy_predictions")
    assert not [name for name, k in kinds.items() if k in planted and not rows[name]["flags"]]
    honest = [name for name, kind in kinds.items() if kind == "honest"]
    blamed = [f"{name}: {rows[name]['flags']}" for name in honest if rows[name]["flags"]]
    assert len(blamed) <= 0.01 * len(honest), blamed
    mild = {way.__name__ for way in breakages.MILD}
    assert {rows[name]["total"] for name, kind in kinds.items() if kind in mild} == {"70"}
