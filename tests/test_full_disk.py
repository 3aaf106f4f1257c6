"""A full disk, or a folder that is none: one clear line, and every earlier file as it was.

Files may not grow beyond a limit here, which is how a full disk looks to a program. Permissions
would not do: they do not stop root.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from made_up import write_notebook, write_result
from test_results import save, saved, tree  # noqa: F401 (a fixture)
from tiny import full_disk, write_class_folders

from coursekit.handin.package import Manifest, write_handin
from coursekit.run.report import write_report
from helpers import bn_cnn, get_recipe, load_data, load_results, save_result, start
from helpers.errors import KitError, WriteError
from helpers.lib import picture_store
from helpers.lib.files import only_writer, write_json, write_text, written_atomically
from helpers.lib.packing import pack
from helpers.recipes import METHODS, Augmentation
from helpers.workspace import remember_student


def write_big_text(folder: Path) -> None:
    write_text(folder / "text.txt", "many letters " * 5000)


def write_big_json(folder: Path) -> None:
    write_json(folder / "record.json", list(range(20_000)))


def save_state(folder: Path) -> None:
    """As results and checkpoints do; torch tells of a full disk in its own way."""
    with written_atomically(folder / "weights.pt") as temporary:
        torch.save({"weight": torch.rand(30_000)}, temporary)


def save_state_to_stream(folder: Path) -> None:
    with written_atomically(folder / "w.pt") as temporary, temporary.open("wb") as stream:
        torch.save({"weight": torch.rand(30_000)}, stream)


def pack_weights(folder: Path) -> None:
    pack({"weight": torch.rand(300, 300)}, folder / "weights.npz")


def pack_hand_in(folder: Path) -> None:
    manifest = Manifest(kit="1", student="s1", name=None, created="2026-01-01T00:00:00+00:00",
                        profile="full", complete=True, missing=[], machine={})  # fmt: skip
    noise = torch.randint(256, (50_000,), dtype=torch.uint8).numpy().tobytes()
    write_handin(folder, manifest, {"results/log.jsonl": noise})


def remember_a_student(folder: Path) -> None:
    known = (remember_student(None, folder) or "s") + "s" * 50_000  # it is written when it changes
    remember_student(known, folder)


WRITERS = [write_big_text, write_big_json, save_state, save_state_to_stream, pack_weights,
           pack_hand_in, remember_a_student]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("limit", [0, 1000])
def test_a_full_disk_is_said_and_costs_no_earlier_file(tmp_path, write, limit):
    write(tmp_path)
    before = tree(tmp_path)
    assert len(before) == 1
    with full_disk(limit), pytest.raises(WriteError, match=r"^cannot write .*") as caught:
        write(tmp_path)
    assert "\n" not in str(caught.value)
    assert next(iter(before)) in str(caught.value)
    assert tree(tmp_path) == before  # and no half-written file beside it
    write(tmp_path)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, write, code):
    write(tmp_path)
    before = tree(tmp_path)

    def refuse(*args, **options):
        raise OSError(code, "no writing here")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(WriteError, match=r"^cannot write .*: no writing here$"):
        write(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"^cannot write .*file"):
        write(tmp_path / "file")


def test_a_lock_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    lock = tmp_path / "file" / "deep" / ".lock"
    with pytest.raises(WriteError, match="cannot write in"), only_writer(lock, "it"):
        pass


# The kit's own files, at every size at which the disk may be full


def fails_at_every_limit(
    folder: Path, write: Callable[[], object], parts: Sequence[float] = (0, 0.001, 0.1, 0.5, 0.999)
) -> None:
    """A full disk ends `write` in one line, and leaves `folder` as it is.

    `parts` say how much of its largest file there is room for.
    """
    before = tree(folder)
    largest = max(map(len, before.values()))
    for limit in (int(part * largest) for part in parts):
        with full_disk(limit), pytest.raises(WriteError, match=r"^cannot write "):
            write()
        assert tree(folder) == before


def test_a_result_is_saved_whole_or_not_at_all(saved):  # noqa: F811
    workspace, _, parts = saved
    save(saved)
    fails_at_every_limit(workspace.results_dir, lambda: save(saved))
    assert len(load_results(workspace, parts["data"])) == 1


def test_the_message_about_a_result_names_the_file(saved):  # noqa: F811
    with full_disk(10), pytest.raises(WriteError, match=r"bn_cnn.(weights\.pt|predictions\.csv): "):
        save(saved)


def test_weights_whose_end_is_lost_in_silence_are_noticed(saved, monkeypatch):  # noqa: F811
    """As torch 2.7 leaves them."""
    workspace, _, _ = saved
    write = torch.save

    def lose_the_end(content, path):
        write(content, path)
        os.truncate(path, path.stat().st_size - 20)

    monkeypatch.setattr(torch, "save", lose_the_end)
    with pytest.raises(WriteError, match=r"^cannot write .*No space left"):
        save(saved)
    assert not (workspace.results_dir / "bn_cnn" / "record.json").exists()


def test_a_report_is_written_whole_or_not_at_all(workspace, tmp_path):
    for method in METHODS:
        write_result(workspace.results_dir, method, student=None)
    notebook = write_notebook(tmp_path, "01_a", "1 + 1")
    write_report(workspace, [notebook])
    fails_at_every_limit(
        workspace.results_dir, lambda: write_report(workspace, [notebook]), parts=(0.5,)
    )


def test_without_room_for_decoded_pictures_memory_is_used(tmp_path, monkeypatch, workspace, capsys):
    """As under a quota, which is seen only when it is reached."""
    monkeypatch.setattr(picture_store, "IN_MEMORY", 0)
    monkeypatch.setattr(picture_store, "SPARE_DISK", 0)
    folder = write_class_folders(tmp_path / "mine", {"a": 10, "b": 10})
    decoded = tmp_path / "decoded"
    workspace = dataclasses.replace(workspace, decoded_dir=decoded)

    def pictures() -> list[torch.Tensor]:
        data = load_data(workspace, size=16, batch_size=4, augment=Augmentation(), dataset=folder)
        return [data.train.dataset.picture(index).clone() for index in range(data.sizes["train"])]

    expected = pictures()
    (kept,) = decoded.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])  # so that it is written anew
    with full_disk(1000):
        again = pictures()
    assert "cannot write" in capsys.readouterr().err
    assert all(map(torch.equal, expected, again))
    assert tree(decoded) == {kept.name: whole[:-1]}
    assert all(map(torch.equal, expected, pictures()))
    assert tree(decoded) == {kept.name: whole}


def test_a_student_id_that_cannot_be_kept_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    with full_disk(0), pytest.raises(KitError, match=r"cannot write .*assignment\.json"):
        start("s1", profile="mini", device="cpu")


def test_a_network_that_does_not_fit_on_the_disk(saved):  # noqa: F811
    """The weights are by far the largest file: those of an earlier run stay."""
    workspace, _, parts = saved
    save(saved)
    before = tree(workspace.results_dir)
    larger = bn_cnn(3, widths=(64, 64))
    with full_disk(100_000), pytest.raises(WriteError, match=r"bn_cnn.*: torch could not"):
        save_result(workspace, get_recipe("bn_cnn", "mini"), **{**parts, "model": larger})
    assert tree(workspace.results_dir) == before
