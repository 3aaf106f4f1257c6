"""Files are whole or not there: full disks, folders that are none, two writers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers import KitError, start
from helpers.errors import WriteError
from helpers.lib.assignment import remember_student
from helpers.lib.files import (
    only_writer,
    read_json,
    save_tensors,
    write_json,
    write_text,
    written_atomically,
)
from tools.tiny import full_disk


def save_state(folder: Path) -> None:
    with written_atomically(folder / "weights.pt") as temporary:
        save_tensors({"weight": torch.rand(30_000)}, temporary)


def save_state_to_stream(folder: Path) -> None:
    with written_atomically(folder / "w.pt") as temporary, temporary.open("wb") as stream:
        torch.save({"weight": torch.rand(30_000)}, stream)


def remember_a_student(folder: Path) -> None:
    known = (remember_student(None, folder) or "s") + "s" * 50_000  # it is written when it changes
    remember_student(known, folder)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: write_text(folder / "text.txt", "many letters " * 5000),
    "json": lambda folder: write_json(folder / "record.json", list(range(20_000))),
    "tensors": save_state,
    "stream": save_state_to_stream,
    "student": remember_a_student,
}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but locks, with its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("limit", [0, 1000])
def test_a_full_disk_is_said_and_costs_no_earlier_file(kind, limit, tmp_path):
    write = WRITERS[kind]
    write(tmp_path)
    before = tree(tmp_path)
    with full_disk(limit), pytest.raises(WriteError, match=r"^cannot write .*") as caught:
        write(tmp_path)
    assert "\n" not in str(caught.value) and next(iter(before)) in str(caught.value)
    assert tree(tmp_path) == before  # and no half-written file beside it
    write(tmp_path)
    assert len(tree(tmp_path)) == 1


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_in_the_place_of_a_folder_is_named(kind, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"^cannot write .*file"):
        WRITERS[kind](tmp_path / "file")
    with (
        pytest.raises(WriteError, match="cannot write in"),
        only_writer(tmp_path / "file/x/.l", "it"),
    ):
        pass


def test_a_failure_inside_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "earlier")
    with pytest.raises(ZeroDivisionError), written_atomically(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert tree(tmp_path) == {"a.txt": b"earlier"}


def test_only_one_writes_at_a_time_and_the_lock_goes_with_it(tmp_path):
    with (
        only_writer(tmp_path / ".lock", "the result x"),
        pytest.raises(KitError, match="the result x is being written by another run: wait"),
        only_writer(tmp_path / ".lock", "the result x"),
    ):
        pass
    with only_writer(tmp_path / ".lock", "the result x"):
        assert (tmp_path / ".lock").exists()


def test_json_goes_round_in_any_script_and_numbers_must_be_numbers(tmp_path):
    path, value = tmp_path / "a.json", {"name": "Blüte 花", "x": [1, 2.5, None]}
    write_json(path, value)
    assert read_json(path) == value and "花" in path.read_text(encoding="utf-8")
    with pytest.raises(KitError, match="NaN or infinite"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_json_that_is_none_is_named(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(KitError, match=r"cannot read .*a\.json"):
        read_json(tmp_path / "a.json")


def test_a_student_id_that_cannot_be_kept_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    with full_disk(0), pytest.raises(KitError, match=r"cannot write .*assignment\.json"):
        start("s1", profile="mini", device="cpu")
