"""Reading hand-ins: whatever is in them, each gets a row, and nothing is run or unpacked."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import helpers
from coursekit.grading import archive, slim
from coursekit.grading.archive import HandInError
from coursekit.grading.case import Case
from coursekit.grading.cells import parse_notebook
from coursekit.grading.find import find_hand_ins, guess_student
from coursekit.grading.grade import grade_class, make_grader
from coursekit.grading.gradebook import Grade
from coursekit.grading.history import history_faults
from coursekit.grading.labels import read_labels
from coursekit.grading.printed import accuracy_printed, epochs_printed, recorded_accuracy
from coursekit.grading.read import HandIn, predictions_of
from coursekit.grading.rubric import read_rubric
from coursekit.grading.values import time_of
from helpers.errors import KitError
from helpers.lib.folders import MINI_FOLDER
from helpers.lib.label_files import HEADER, LABEL_FILES, is_whole
from helpers.lib.progress import EpochTable
from helpers.lib.records import record_fault
from tools import breakages
from tools.sample_class import build, make_hand_in, write_labels, zipped

FULL = 70  # points of the default rubric that do not wait for a person


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("class")


@pytest.fixture(scope="module")
def graded(folder) -> dict[str, Grade]:
    """A class in which every hand-in is broken in another way; its grades by that way."""
    labels = write_labels(folder / "data", test=150)
    names = {}
    (folder / "in").mkdir()
    for number, way in enumerate(breakages.ALL):
        hand_in = make_hand_in(number, labels)
        build(hand_in, labels)
        (folder / "in" / hand_in.file_name).write_bytes(way(hand_in))
        names[hand_in.file_name] = way.__name__
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_DATA", str(folder / "data"))
        grades = grade_class(folder / "in", folder / "out", workers=2)
    assert len(grades) == len(breakages.ALL)
    return {names[grade.place.partition("/")[0]]: grade for grade in grades}


@pytest.mark.parametrize("way", breakages.MILD, ids=lambda way: way.__name__)
def test_mild_damage_costs_no_points(way, graded):
    grade = graded[way.__name__]
    assert grade.flags == []
    assert grade.total(read_rubric()) == FULL
    silent = (breakages.zip_in_a_zip, breakages.in_a_folder, breakages.windows_slashes,
              breakages.no_ids, breakages.formula)  # fmt: skip
    assert bool(grade.faults) == (way not in silent)


@pytest.mark.parametrize("way", breakages.HARMFUL, ids=lambda way: way.__name__)
def test_harmful_damage_is_named(way, graded):
    grade = graded[way.__name__]
    assert grade.was_read
    assert grade.faults or grade.total(read_rubric()) < FULL
    assert 0 < grade.total(read_rubric()) <= FULL
    assert "the grader failed" not in grade.remarks


@pytest.mark.parametrize("way", breakages.DEADLY, ids=lambda way: way.__name__)
def test_what_cannot_be_read_has_a_row_that_says_why(way, graded):
    grade = graded[way.__name__]
    assert not grade.was_read
    assert grade.student == guess_student(grade.place) != ""
    assert "could not be read" in grade.remarks and "the grader failed" not in grade.remarks


def test_one_damaged_file_costs_only_itself(graded, folder):
    assert "larger than 4 MB" in graded["real_bomb"].remarks and graded["real_bomb"].was_read
    assert "cannot be" in graded["damaged_entry"].remarks and graded["damaged_entry"].was_read
    assert sorted(path.name for path in folder.iterdir()) == ["data", "in", "out"]
    text = (folder / "out" / "grades.csv").read_text(encoding="utf-8")
    assert "'=HYPERLINK" in text and ",=HYPERLINK" not in text


# Where hand-ins lie


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    name = breakages.write_unreadable(tmp_path)
    (place,) = find_hand_ins(tmp_path)
    assert (place.name, place.fault) == (name, "it is neither a file nor a folder")
    folder = tmp_path / "submission-s1"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    breakages.write_unreadable(folder)
    with find_hand_ins(folder)[0].open() as files:
        assert list(files.names) == ["manifest.json"]
        assert "no regular file" in files.faults[0]


def test_links_in_folders_are_not_followed(tmp_path):
    (tmp_path / "secret.ipynb").write_text("{}")
    folder = tmp_path / "class" / "submission-s1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    try:
        (folder / "01.ipynb").symlink_to(tmp_path / "secret.ipynb")
        (folder / "up").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "class" / "submission-s2").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    first, second = find_hand_ins(tmp_path / "class")
    with first.open() as files:
        assert list(files.names) == ["manifest.json"]
        assert len(files.faults) == 2
    assert second.fault == "it is a symbolic link: not followed"


def test_every_way_in_which_learning_systems_pack(tmp_path):
    files = {"manifest.json": b"{}", "notebooks/01.ipynb": b"{}"}
    inner = zipped(files)
    folder = tmp_path / "export"
    (folder / "Anna_12_file").mkdir(parents=True)
    (folder / "Anna_12_file" / "submission-s1.zip").write_bytes(inner)
    (folder / "ben_345_submission-s2.zip").write_bytes(inner)
    (folder / "canvas.zip").write_bytes(
        zipped({"c_1_submission-s3.zip": inner, "d_2_submission-s4 (1).zip": inner, "e.rar": b"x"})
    )
    loose = {f"submission-s5/{name}": data for name, data in files.items()}
    loose |= {"submission-s6/report.pdf": b"%PDF", "__MACOSX/x": b"", ".DS_Store": b""}
    (folder / "moodle.zip").write_bytes(zipped(loose))
    (folder / "submission-s7").mkdir()
    (folder / "submission-s7" / "01_dataset_tour.ipynb").write_bytes(b"{}")
    (folder / "essay.docx").write_bytes(b"PK")
    (folder / ".DS_Store").touch()
    (folder / "grades").mkdir()
    places = find_hand_ins(folder, leave_out=folder / "grades")
    good = {place.name: guess_student(place.name) for place in places if not place.fault}
    assert good == {
        "Anna_12_file/submission-s1.zip": "s1",
        "ben_345_submission-s2.zip": "s2",
        "canvas.zip/c_1_submission-s3.zip": "s3",
        "canvas.zip/d_2_submission-s4 (1).zip": "s4",
        "moodle.zip": "",
        "submission-s7": "s7",
    }
    assert {place.name for place in places if place.fault} == {"canvas.zip/e.rar", "essay.docx"}
    for place in places:
        if not place.fault and place.name != "submission-s7":
            with place.open() as archive_:
                assert "manifest.json" in archive_.names


def test_one_hand_in_alone_and_none(tmp_path):
    (tmp_path / "submission-s9-2.zip").write_bytes(zipped({"manifest.json": b"{}"}))
    (place,) = find_hand_ins(tmp_path / "submission-s9-2.zip")
    assert (place.name, guess_student(place.name)) == ("submission-s9-2.zip", "s9")
    with zipfile.ZipFile(tmp_path / "submission-s9-2.zip") as packed:
        packed.extractall(tmp_path / "x")
    (place,) = find_hand_ins(tmp_path / "x")
    assert not place.fault
    with pytest.raises(KitError, match="no folder or zip"):
        find_hand_ins(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="holds no hand-in"):
        find_hand_ins(tmp_path / "empty")


def test_limits_on_what_one_hand_in_holds(monkeypatch, folder, graded, tmp_path):
    monkeypatch.setattr(archive, "MOST_FILES", 5)
    place = find_hand_ins(folder / "in")[0]
    found = make_grader().grade(place)
    assert not found.was_read and "files: not read" in found.faults[0]


# Files of a hand-in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(deadline=None)
@given(JSON, st.integers(1, 9), st.booleans())
def test_slim_json_leaves_short_values_alone(value, size, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode("utf-8", "replace")
    assert slim.slim_json(blocks(text, size)) == (text, False)


def test_slim_json_cuts_what_is_long(monkeypatch):
    monkeypatch.setattr(slim, "LONGEST_TEXT", 20)
    monkeypatch.setattr(slim, "MOST_ITEMS", 3)
    value = {"text": '\\"' * 40, "list": [["x"] * 9, 1, 2, {"deep": list(range(50))}], "end": "e"}
    for size in range(1, 60):
        kept, cut = slim.slim_json(blocks(json.dumps(value).encode(), size))
        assert cut
        assert json.loads(kept) == {"text": "(left out)", "list": [["x"] * 3, 1, 2], "end": "e"}
    monkeypatch.setattr(slim, "MOST_KEPT", 100)
    with pytest.raises(HandInError, match="without its longest outputs"):
        slim.slim_json([json.dumps({f"k{i}": i for i in range(99)}).encode()])


@settings(deadline=None)
@given(JSON)
def test_no_json_brings_a_reader_down(value):
    record = value if isinstance(value, dict) else {"test": value}
    assert record_fault(record)
    assert history_faults({"history": value})
    for notebook in ({"cells": value, "nbformat": value}, {"cells": [value, {"outputs": value}]}):
        assert parse_notebook("x.ipynb", json.dumps(notebook).encode()).name == "x.ipynb"


@pytest.mark.parametrize(("length", "is_read"), [(600, True), (1_001, False)])
def test_tables_of_predictions(length, is_read):
    """Long names of pictures, and probabilities that cannot be."""
    name = "花" * length
    data = f"picture,label,prediction,probability\n{name},1,1,7.0\nb,1,2,-3\n".encode()
    if is_read:
        table = predictions_of(data)
        assert (table.pictures[0], table.correct) == (name, 1)
        assert table.probabilities.tolist() == [10_000, 0]
    else:
        with pytest.raises(HandInError, match="too long a name"):
            predictions_of(data)


# The instructor's labels


def test_labels_are_those_of_the_data_set(tmp_path):
    """The same fingerprint as a record of the drawn flowers has; None where there are no files."""
    data = helpers.load_data(
        helpers.start(profile="mini", device="cpu"), helpers.get_recipe("bn_cnn", "mini")
    )
    labels = read_labels(MINI_FOLDER / "flowers-102")
    assert labels is not None
    assert (labels.fingerprint, labels.sizes) == (data.fingerprint, data.sizes)
    assert read_labels(tmp_path) is None


def test_a_label_file_with_any_byte_changed_is_not_read(tmp_path):
    """scipy could crash on one, and take Python with it."""
    write_labels(tmp_path, test=150)
    path = tmp_path / "flowers-102" / "setid.mat"
    drawn = [(MINI_FOLDER / "flowers-102" / name).read_bytes() for name in LABEL_FILES]
    for whole in (path.read_bytes(), *drawn):
        assert is_whole(whole)
        for place in range(HEADER - 4, len(whole), 1 + len(whole) // 200):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 + place % 255
            assert not is_whole(bytes(spoilt)), place
        assert not is_whole(whole[:-1]) and not is_whole(whole + b"0")
    path.write_bytes(b"MATLAB 5.0 but not really" * 20)
    with pytest.raises(KitError, match="is damaged"):
        read_labels(path.parent)


# What the student's side writes


def test_what_is_recorded_is_what_the_grader_reads(workspace, data, cnn):
    """The real writer's record, predictions and printed lines, through the grader's eyes."""
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.01)
    run = helpers.train_model(cnn, data, criterion, optimizer, num_epochs=2, progress=False)
    score = helpers.test(cnn, data)
    recipe = {"method": "bn_cnn", "size": 16}
    folder = helpers.save_result(workspace, recipe, model=cnn, data=data, run=run, score=score)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    table = predictions_of((folder / "predictions.csv").read_bytes())
    assert record_fault(record) == "" and history_faults(record) == []
    assert time_of(record["finished"]) is not None
    assert (table.correct, table.pictures) == (score.correct, list(score.ids))
    assert np.array_equal(table.guesses, score.predictions.numpy())
    lines = EpochTable(2, 1, show=False)
    for row in run.history:
        lines.epoch_done(row, is_best=False)
    text = "\n".join([*lines.lines, f"test: {score}"])
    shown = [{"output_type": "display_data", "data": {"text/plain": text}}]
    cells = [{"cell_type": "code", "outputs": shown, "source": "x"}]
    notebook = parse_notebook("02_x.ipynb", json.dumps({"nbformat": 4, "cells": cells}).encode())
    hand_in = HandIn("x", notebooks={"02": notebook}, records={"bn_cnn": record})
    case = Case(hand_in, {"02": notebook})
    assert accuracy_printed(case, "02") == recorded_accuracy(record) is not None
    assert epochs_printed(case, "bn_cnn", "02") == (2, 0)
    record["history"][1]["val_loss"] += 0.5
    assert epochs_printed(case, "bn_cnn", "02") == (2, 1)
