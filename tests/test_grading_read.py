"""Reading hand-ins: whatever is in them, each gets a row, and nothing is run or unpacked."""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile

import breakages
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_class import build, make_hand_in, write_labels, zipped

from coursekit.grading import archive, slim
from coursekit.grading.archive import HandInError, open_archive
from coursekit.grading.case import Case
from coursekit.grading.cells import parse_notebook
from coursekit.grading.find import find_hand_ins, guess_student
from coursekit.grading.grade import Grader, read_templates
from coursekit.grading.history import history_faults
from coursekit.grading.labels import read_labels
from coursekit.grading.printed import _ACCURACY, epochs_printed, recorded_accuracy
from coursekit.grading.read import parse_predictions, read_hand_in, record_faults, time_of
from coursekit.grading.rubric import read_rubric
from helpers.data import fingerprint
from helpers.errors import KitError
from helpers.lib.folders import MINI_FOLDER
from helpers.lib.label_files import HEADER, LABEL_FILES, is_whole
from helpers.lib.sources import Listing

FULL = 70  # points of the default rubric that do not wait for a person


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return write_labels(tmp_path_factory.mktemp("data"), test=150)


@pytest.fixture(scope="module")
def built(labels):
    hand_in = make_hand_in(1, labels)
    build(hand_in, labels)
    return hand_in


@pytest.fixture
def hand_in(built):
    """A hand-in of one's own to break."""
    other = copy.copy(built)
    other.files, other.notebooks = dict(built.files), dict(built.notebooks)
    return other


@pytest.fixture
def grader(labels, tmp_path_factory):
    known = {"full": labels}
    return Grader(read_rubric(), read_templates(), known, tmp_path_factory.mktemp("cache"))


def grade(grader, tmp_path, data: bytes, name: str = "submission-s1.zip"):
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    (folder / name).write_bytes(data)
    (place,) = find_hand_ins(folder)
    return grader.grade(place)


def test_an_honest_hand_in_gets_all_points_of_the_machine(grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, zipped(hand_in.files))
    assert (found.faults, found.flags) == ([], [])
    assert found.total(grader.rubric) == grader.rubric.machine_points == FULL
    assert found.waiting(grader.rubric) == 30
    assert (found.student, found.profile) == (hand_in.student, "full")


@pytest.mark.parametrize("breakage", breakages.MILD, ids=lambda b: b.__name__)
def test_mild_damage_costs_no_points(breakage, grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, breakage(hand_in))
    assert found.flags == []
    assert found.total(grader.rubric) == FULL
    assert found.student == hand_in.student
    silent = (breakages.zip_in_a_zip, breakages.in_a_folder, breakages.windows_slashes,
              breakages.no_ids, breakages.formula)  # fmt: skip
    assert bool(found.faults) == (breakage not in silent)


@pytest.mark.parametrize("breakage", breakages.HARMFUL, ids=lambda b: b.__name__)
def test_harmful_damage_is_named(breakage, grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, breakage(hand_in))
    assert found.was_read
    assert found.faults or found.total(grader.rubric) < FULL
    assert 0 < found.total(grader.rubric) <= FULL
    assert not any("the grader failed" in fault for fault in found.faults)


@pytest.mark.parametrize("breakage", breakages.DEADLY, ids=lambda b: b.__name__)
def test_what_cannot_be_read_has_a_row_that_says_why(breakage, grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, breakage(hand_in), "submission-s77.zip")
    assert not found.was_read
    assert found.student == "s77"
    assert any("could not be read" in fault for fault in found.faults)
    assert not any("the grader failed" in fault for fault in found.faults)


def test_zeros_that_unpack_to_much_are_not_read(grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, breakages.real_bomb(hand_in))
    assert any("larger than 4 MB" in fault for fault in found.faults)


def test_a_damaged_entry_costs_only_itself(grader, hand_in, tmp_path):
    found = grade(grader, tmp_path, breakages.damaged_entry(hand_in))
    assert found.was_read
    assert any("cannot be" in fault for fault in found.faults)


def test_nothing_is_written_where_names_point(grader, hand_in, tmp_path):
    grade(grader, tmp_path, breakages.path_traversal(hand_in))
    assert [path.name for path in tmp_path.iterdir()] == ["hand-ins"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang(grader, tmp_path):
    name = breakages.write_unreadable(tmp_path)
    (place,) = find_hand_ins(tmp_path)
    assert (place.name, place.fault) == (name, "it is neither a file nor a folder")
    folder = tmp_path / "submission-s1"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    breakages.write_unreadable(folder)
    with open_archive(folder) as files:
        assert list(files.names) == ["manifest.json"]
        assert "no regular file" in files.faults[0]


def test_links_in_folders_are_not_followed(grader, tmp_path):
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


def test_every_way_in_which_learning_systems_pack(hand_in, tmp_path):
    inner = zipped(hand_in.files)
    folder = tmp_path / "export"
    (folder / "Anna_12_file").mkdir(parents=True)
    (folder / "Anna_12_file" / "submission-s1.zip").write_bytes(inner)
    (folder / "ben_345_submission-s2.zip").write_bytes(inner)
    (folder / "canvas.zip").write_bytes(
        zipped({"c_1_submission-s3.zip": inner, "d_2_submission-s4 (1).zip": inner, "e.rar": b"x"})
    )
    loose = {f"submission-s5/{name}": data for name, data in hand_in.files.items()}
    loose |= {"submission-s6/report.pdf": b"%PDF", "__MACOSX/x": b"", ".DS_Store": b""}
    (folder / "moodle.zip").write_bytes(zipped(loose))
    (folder / "submission-s7").mkdir()
    (folder / "submission-s7" / "01_dataset_tour.ipynb").write_bytes(b"{}")
    (folder / "essay.docx").write_bytes(b"PK")
    (folder / ".DS_Store").touch()
    (folder / "grades").mkdir()
    places = find_hand_ins(folder, leave_out=folder / "grades")
    assert [place.name for place in places] == [
        "Anna_12_file",
        "ben_345_submission-s2.zip",
        "canvas.zip/c_1_submission-s3.zip",
        "canvas.zip/d_2_submission-s4 (1).zip",
        "canvas.zip/e.rar",
        "essay.docx",
        "moodle.zip/submission-s5",
        "moodle.zip/submission-s6",
        "submission-s7",
    ] or places
    good = [place for place in places if not place.fault]
    assert len(good) == 6
    for place in good[:5]:
        with place.open() as files:
            assert "manifest.json" in files.names


def test_one_hand_in_alone(hand_in, tmp_path):
    (tmp_path / "submission-s9.zip").write_bytes(zipped(hand_in.files))
    (place,) = find_hand_ins(tmp_path / "submission-s9.zip")
    assert place.name == "submission-s9.zip"
    with zipfile.ZipFile(tmp_path / "submission-s9.zip") as packed:
        packed.extractall(tmp_path / "submission-s9")
    (place,) = find_hand_ins(tmp_path / "submission-s9")
    assert not place.fault


def test_no_hand_in_is_an_error(tmp_path):
    with pytest.raises(KitError, match="no folder or zip"):
        find_hand_ins(tmp_path / "nowhere")
    with pytest.raises(KitError, match="holds no hand-in"):
        find_hand_ins(tmp_path)


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("submission-s1.zip", "s1"),
        ("anna_7_9_submission-s1-2.zip", "s1"),
        ("x.zip/submission-s1 (3).zip", "s1"),
        ("submission-s1", "s1"),
        ("homework.zip", None),
    ],
)
def test_guessing_a_student(name, student):
    assert guess_student(name) == student


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, st.integers(1, 9), st.booleans())
def test_slim_json_leaves_short_values_alone(value, piece, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode("utf-8", "replace")
    before, slim.PIECE = slim.PIECE, piece
    try:
        kept, cut = slim.slim_json(io.BytesIO(text).read)
    finally:
        slim.PIECE = before
    assert (kept, cut) == (text, False)


def test_slim_json_cuts_what_is_long(monkeypatch):
    monkeypatch.setattr(slim, "LONGEST_TEXT", 20)
    monkeypatch.setattr(slim, "MOST_ITEMS", 3)
    value = {"text": '\\"' * 40, "list": [["x"] * 9, 1, 2, {"deep": list(range(50))}], "end": "e"}
    for piece in range(1, 60):
        monkeypatch.setattr(slim, "PIECE", piece)
        kept, cut = slim.slim_json(io.BytesIO(json.dumps(value).encode()).read)
        assert cut
        assert json.loads(kept) == {"text": "(left out)", "list": [["x"] * 3, 1, 2], "end": "e"}


def test_slim_json_has_a_limit(monkeypatch):
    monkeypatch.setattr(slim, "MOST_KEPT", 100)
    with pytest.raises(HandInError, match="without its longest outputs"):
        slim.slim_json(io.BytesIO(json.dumps({f"k{i}": i for i in range(99)}).encode()).read)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_bring_a_reader_down(data):
    for parse in (lambda: parse_notebook("x.ipynb", data), lambda: parse_predictions(data, "")):
        try:
            parse()
        except HandInError as error:
            assert str(error)


@settings(deadline=None)
@given(JSON)
def test_no_json_brings_a_reader_down(value):
    record_faults(value if isinstance(value, dict) else {"test": value}, "bn_cnn")
    history_faults({"history": value})
    text = json.dumps({"cells": value, "nbformat": value}).encode()
    parse_notebook("x.ipynb", text)
    parse_notebook("x.ipynb", json.dumps({"cells": [value, {"outputs": value}]}).encode())


def test_limits_on_what_one_hand_in_holds(monkeypatch, grader, hand_in, tmp_path):
    monkeypatch.setattr(archive, "MOST_FILES", 5)
    found = grade(grader, tmp_path, zipped(hand_in.files))
    assert not found.was_read
    assert "files: not read" in found.faults[0]


def test_labels_have_the_kit_s_own_fingerprint(labels, tmp_path):
    write_labels(tmp_path, test=150)
    assert read_labels(tmp_path / "flowers-102") == labels
    assert read_labels(tmp_path) is None
    splits = {split: ([], []) for split in ("train", "val")}
    root = tmp_path / "jpg"
    paths = [root / picture for picture in labels.test]
    listing = Listing("x", [], splits | {"test": (paths, list(labels.test.values()))}, root)
    only_test = fingerprint(listing)
    from helpers.lib.identity import fingerprint_of

    assert only_test == fingerprint_of({"train": [], "val": [], "test": labels.test.items()})


def test_a_label_file_with_any_byte_changed_is_not_read(labels, tmp_path):
    """scipy could crash on one, and take Python with it."""
    write_labels(tmp_path, test=150)
    whole = (tmp_path / "flowers-102" / "setid.mat").read_bytes()
    assert is_whole(whole)
    for place in range(HEADER - 4, len(whole), 7):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 + place % 255
        assert not is_whole(bytes(spoilt)), place
    assert not is_whole(whole[:-1]) and not is_whole(whole + b"0") and not is_whole(whole[:HEADER])


@pytest.mark.parametrize("name", LABEL_FILES)
def test_the_drawn_label_files_are_known_by_their_hash(name):
    whole = (MINI_FOLDER / "flowers-102" / name).read_bytes()
    assert is_whole(whole)
    assert not is_whole(whole[:-1] + bytes([whole[-1] ^ 1]))


def test_damaged_labels_are_an_error(tmp_path):
    for name in ("imagelabels.mat", "setid.mat"):
        (tmp_path / name).write_bytes(b"MATLAB 5.0 but not really" * 20)
    with pytest.raises(KitError, match="is damaged"):
        read_labels(tmp_path)


def test_what_the_kit_records_is_what_the_grader_reads(workspace, data, cnn):
    """The real writer's record, predictions and printed lines, through the grader's eyes."""
    import dataclasses

    import torch

    import helpers
    from coursekit.grading.read import HandIn
    from helpers.lib.progress import EpochTable

    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(cnn.parameters(), lr=0.01)
    run = helpers.train_model(cnn, data, criterion, optimizer, num_epochs=2, progress=False)
    score = helpers.test(cnn, data.test)
    recipe = dataclasses.replace(helpers.get_recipe("bn_cnn", "mini"), num_epochs=2)
    folder = helpers.save_result(workspace, recipe, model=cnn, data=data, run=run, score=score)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    table = parse_predictions((folder / "predictions.csv").read_bytes(), "")
    assert record_faults(record, "bn_cnn") == []
    assert history_faults(record) == []
    assert time_of(record["finished"]) is not None
    assert table.correct == score.correct
    assert table.pictures == list(score.ids)
    assert np.array_equal(table.guesses, score.predictions.numpy())
    ((percent, correct, total),) = _ACCURACY.findall(f"test: {score}")
    assert recorded_accuracy(record) == f"{percent}% ({correct}/{total})"
    lines = EpochTable(2, 1, show=False)
    for row in run.history:
        lines.epoch_done(row, is_best=False)
    shown = {"cell_type": "code", "outputs": [
        {"output_type": "display_data", "data": {"text/plain": "\n".join(lines.lines)}}
    ], "source": "x"}  # fmt: skip
    notebook = parse_notebook("02_x.ipynb", json.dumps({"nbformat": 4, "cells": [shown]}).encode())
    case = Case(HandIn("x", notebooks={"02": notebook}, records={"bn_cnn": record}),
                {"02": notebook})  # fmt: skip
    assert epochs_printed(case, "bn_cnn", "02") == (2, 0)
    record["history"][1]["val_loss"] += 0.5
    assert epochs_printed(case, "bn_cnn", "02") == (2, 1)


def test_a_failing_grader_costs_one_row(grader, hand_in, tmp_path, monkeypatch):
    from coursekit.grading import grade as module

    monkeypatch.setattr(module, "read_hand_in", lambda *_: 1 / 0)
    found = grade(grader, tmp_path, zipped(hand_in.files))
    assert "ZeroDivisionError" in found.faults[0]


def test_reading_keeps_what_can_be_read(hand_in, grader, tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(hand_in.files))
    (place,) = find_hand_ins(tmp_path)
    read = read_hand_in(place, grader.templates)
    assert sorted(read.notebooks) == ["01", "02", "03", "04", "05", "06"]
    assert len(read.records) == len(read.predictions) == 4
    assert len(read.log) == sum(len(n.code) for n in read.notebooks.values())
    assert read.changed == []


@pytest.mark.parametrize(("length", "is_read"), [(600, True), (1_001, False)])
def test_pictures_may_have_the_longest_names_that_systems_allow(length, is_read):
    name = "花" * length
    data = f"picture,label,prediction,probability\n{name},1,2,0.5\n".encode()
    if is_read:
        assert parse_predictions(data, "").pictures == [name]
    else:
        with pytest.raises(HandInError, match="too long a name"):
            parse_predictions(data, "")
