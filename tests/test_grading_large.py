"""Three hundred hand-ins, a tenth of them broken: none lost, the tampered ones found.

`pytest -m slow tests/test_grading_large.py -s` prints what it took. KIT_CLASS sets the size.
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

import breakages
import psutil
import pytest
import sample_class
from sample_class import EDITS, SHORT_ANSWER, HandIn, build, make_hand_in, set_answer, zipped

from helpers.lib.folders import ROOT

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
    ways = [huge if way is breakages.huge_output else way for way in breakages.ALL]
    ways.remove(huge)
    # Those that leave nothing to grade first: a class of three hundred does not get to the last.
    ways = [duplicate_id, huge, *breakages.DEADLY, *ways]
    ways = list(dict.fromkeys(ways))
    return [ways[number % len(ways)] for number in range(SIZE // 10)]


def write_class(folder: Path, data_dir: Path) -> dict[str, str]:
    """Write the class; returns what each hand-in is, by file name."""
    labels = sample_class.write_labels(data_dir, test=6149)
    folder.mkdir(parents=True)
    kinds: dict[str, str] = {}

    def put(hand_in: HandIn, kind: str, data: bytes = b"") -> None:
        (folder / hand_in.file_name).write_bytes(data or zipped(build(hand_in, labels)))
        kinds[hand_in.file_name] = kind

    number = 0
    while number < 2:  # the same short answer, by chance
        hand_in = make_hand_in(number, labels)
        set_answer(hand_in, "01", 2, SHORT_ANSWER)
        put(hand_in, "honest")
        number += 1
    for way in damages():
        hand_in = make_hand_in(number, labels)
        build(hand_in, labels)
        data = way(hand_in)
        (folder / hand_in.file_name).write_bytes(data)
        kinds[hand_in.file_name] = way.__name__
        number += 1
    for repeat in range(max(SIZE // 30, 5)):
        hand_in, other = make_hand_in(number, labels), make_hand_in(0, labels)
        EDITS[repeat % len(EDITS)](hand_in, other)
        put(hand_in, "edited")
        number += 1
    for copying in COPIES:
        for _ in range(max(SIZE // 60, 1)):
            hand_in, other = make_hand_in(number, labels), make_hand_in(number + 1, labels)
            copying(hand_in, other)
            put(hand_in, copying.__name__)
            put(other, "source")
            number += 2
    while number < SIZE:
        put(make_hand_in(number, labels), "honest")
        number += 1
    return kinds


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class, its rows by hand-in, and what the command printed."""
    folder = tmp_path_factory.mktemp("large")
    kinds = write_class(folder / "hand-ins", folder / "data")
    command = [sys.executable, "-m", "coursekit", "grade", str(folder / "hand-ins")]
    began, most = time.perf_counter(), 0
    with (folder / "printed.txt").open("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            [*command, "--out", str(folder / "grades")],
            cwd=ROOT,
            stdout=printed,
            stderr=printed,
            env=os.environ | {"KIT_DATA": str(folder / "data")},
        )
        while process.poll() is None:
            most = max(most, memory_of(process.pid))
            time.sleep(0.1)
        printed.seek(0)
        text = printed.read()
    print(f"\n{len(kinds)} hand-ins in {time.perf_counter() - began:.0f} s, {most / 1e6:.0f} MB")
    with (folder / "grades" / "grades.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["hand_in"]: row for row in csv.DictReader(stream)}
    return kinds, rows, (process.returncode, text, most)


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


def test_every_hand_in_has_a_row_and_there_is_no_traceback(graded):
    kinds, rows, (status, printed, most) = graded
    assert status == 0
    assert "Traceback" not in printed
    assert 0 < most < 1e9
    assert {name.partition("/")[0] for name in rows} == set(kinds)
    assert len(rows) == len(kinds) == SIZE
    assert not [row["remarks"] for row in rows.values() if "the grader failed" in row["remarks"]]


def test_the_tampered_are_flagged_and_the_honest_are_not(graded):
    kinds, rows, _ = graded
    planted = ("edited", "copy_work", "copy_predictions")
    missed = [name for name, kind in kinds.items() if kind in planted and not rows[name]["flags"]]
    honest = [name for name, kind in kinds.items() if kind == "honest"]
    blamed = [f"{name}: {rows[name]['flags']}" for name in honest if rows[name]["flags"]]
    print(f"\n{len(honest)} honest, {len(blamed)} of them flagged; {len(missed)} planted missed")
    assert missed == []
    assert len(blamed) <= 0.01 * len(honest), blamed


def test_mild_damage_keeps_its_points_in_a_large_class(graded):
    kinds, rows, _ = graded
    mild = {way.__name__ for way in breakages.MILD}
    by_place = {name.partition("/")[0]: row for name, row in rows.items()}
    totals = {by_place[name]["total"] for name, kind in kinds.items() if kind in mild}
    assert totals == {"70"}
