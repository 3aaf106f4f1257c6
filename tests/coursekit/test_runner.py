"""The runner, on tiny notebooks: what it runs, what it keeps, and how it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from coursekit import notebooks
from coursekit.__main__ import main
from coursekit.notebooks import notebook_faults
from coursekit.run.runner import run_notebooks
from helpers.data import data_set_of
from helpers.errors import KitError
from helpers.lib.files import only_writer
from helpers.lib.identity import kit_version
from helpers.workspace import find_workspace
from tools.made_up import write_notebook, write_result
from tools.tiny import write_class_folders

NOTE = "open('order.txt', 'a').write('{0} ')"
STOP_BUTTON = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with notebooks/ and results/ of its own."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    return tmp_path


def order_of(place: Path) -> list[str]:
    """What has run, in order."""
    return (place / "notebooks" / "order.txt").read_text().split()


def copy_of(place: Path, name: str) -> NotebookNode:
    return nbformat.read(place / "results" / "mini" / "notebooks" / f"{name}.ipynb", as_version=4)


def counts_in(notebook: NotebookNode) -> list[int | None]:
    return [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]


def make_newer(path: Path, than: Path) -> None:
    later = than.stat().st_mtime + 10
    os.utime(path, (later, later))


def test_runs_in_order_in_this_python_and_saves(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = place / "notebooks"
    kernel = place / "jupyter" / "kernels" / "python3"  # somebody else's, of the same name
    kernel.mkdir(parents=True)
    spec = {"argv": ["no-such-python"], "display_name": "other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(place / "jupyter"))
    second = write_notebook(folder, "02_b", NOTE.format("b"), "1 + 1")
    who = "import os, sys\nprint(sys.executable, flush=True)\nprint(os.environ['KIT_PROFILE'])"
    bar = "print('1\\r2')\nfrom IPython.display import display\ndisplay(3)\nprint('4')"
    first = write_notebook(folder, "01_a", NOTE.format("a"), who, bar)
    ids = [cell.id for cell in nbformat.read(first, as_version=4).cells]
    report = run_notebooks(profile="mini", save_notebooks=True)
    assert order_of(place) == ["a", "b"]
    assert report == place / "results" / "mini" / "report.html" and report.is_file()
    saved = nbformat.read(first, as_version=4)
    assert saved == copy_of(place, "01_a")
    (output,) = saved.cells[2].outputs  # one, however often the stream was flushed
    assert output.text == f"{sys.executable}\nmini\n"
    assert [output.get("text") for output in saved.cells[3].outputs] == ["2\n", None, "4\n"]
    assert [cell.id for cell in saved.cells] == ids
    assert all("execution" not in cell.metadata for cell in saved.cells)
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert notebook_faults(second) == []
    printed = capsys.readouterr().out
    assert "01_a: 3 cells in" in printed and "report  " in printed


def test_a_notebook_of_another_version_is_recognised(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write_notebook(place / "notebooks", "01_a", "x = 1")
    notebook = nbformat.read(path, as_version=4)
    for version, told in ((kit_version(), False), ("0.0.1", True)):
        notebook.metadata["kit"] = {"version": version, "questions": 0}
        nbformat.write(notebook, path)
        run_notebooks(profile="mini")
        note = "NOTE     01_a.ipynb belongs to version 0.0.1 of the kit, the helpers here are "
        assert (note in capsys.readouterr().out) == told


def test_failing_cell_stops_the_run(place: Path, capsys: pytest.CaptureFixture) -> None:
    write_notebook(place / "notebooks", "01_a", "x = 1", "\n# a reason\n1 / 0", "x = 2")
    write_notebook(place / "notebooks", "02_b", NOTE.format("b"))
    assert main(["run"]) == 2
    (message,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    where = "error: 01_a, cell 2 (# a reason): ZeroDivisionError: division by zero [what ran is in "
    assert message.startswith(where)
    assert not (place / "notebooks" / "order.txt").exists()
    assert counts_in(copy_of(place, "01_a")) == [1, 2, None]
    assert copy_of(place, "01_a").cells[2].outputs[0].output_type == "error"


def test_dead_kernel_stops_the_run(place: Path) -> None:
    write_notebook(place / "notebooks", "01_a", "x = 1", "import os; os._exit(1)", "x = 2")
    with pytest.raises(KitError, match=r"01_a, cell 2 \(import os.*\): the kernel died"):
        run_notebooks(profile="mini")
    assert copy_of(place, "01_a").cells[1].execution_count == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signal")
def test_interrupted_run_keeps_what_ran(place: Path, capsys: pytest.CaptureFixture) -> None:
    write_notebook(place / "notebooks", "01_a", "x = 1", STOP_BUTTON, "x = 2")
    assert main(["run"]) == 130
    assert "stopped: what was finished is kept" in capsys.readouterr().err
    assert counts_in(copy_of(place, "01_a"))[::2] == [1, None]


@pytest.fixture
def pictures() -> str:
    """The fingerprint of the pictures that the mini profile has."""
    return data_set_of(find_workspace(profile="mini")).fingerprint


def test_resume_skips_what_is_done(
    place: Path, pictures: str, capsys: pytest.CaptureFixture
) -> None:
    folder, results = place / "notebooks", place / "results" / "mini"
    write_notebook(folder, "01_a", NOTE.format("a"))
    changed = write_notebook(folder, "03_c", NOTE.format("c"))
    write_notebook(folder, "02_b", NOTE.format("b"))
    write_notebook(folder, "06_f", NOTE.format("f"))
    run_notebooks(profile="mini")
    assert order_of(place) == ["a", "b", "c", "f"]
    # 02 is complete and has its record, 03 lacks its record.
    record = write_result(results, "bn_cnn", fingerprint=pictures) / "record.json"
    checkpoint = results / "checkpoints" / "resnet18_finetune" / "0.pt"  # of a training to go on
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    make_newer(record, results / "notebooks" / "06_f.ipynb")
    run_notebooks(profile="mini", resume=True)
    assert order_of(place)[4:] == ["c", "f"]
    assert "02_b: done before, skipped" in capsys.readouterr().out
    # A changed cell is run again; then nothing is left to do.
    write_result(results, "resnet18_finetune", fingerprint=pictures)
    changed.write_text(changed.read_text().replace("c ')", "C ')"))
    for copied in (results / "notebooks").iterdir():
        make_newer(copied, record)
    for _ in range(2):
        run_notebooks(profile="mini", names=["01", "02", "03"], resume=True)
    assert order_of(place)[6:] == ["C"]
    assert record.exists() and checkpoint.exists()


def test_resume_runs_again_what_is_about_another_data_set(
    place: Path, pictures: str, capsys: pytest.CaptureFixture
) -> None:
    """Notebook 01 chooses the data set, so it runs before the others are looked at."""
    folder, results = place / "notebooks", place / "results" / "mini"
    write_notebook(folder, "01_a", NOTE.format("a"))
    write_notebook(folder, "02_b", NOTE.format("b"))
    run_notebooks(profile="mini")
    write_result(results, "bn_cnn", fingerprint=pictures)  # 02 would have written it
    run_notebooks(profile="mini", resume=True)
    assert order_of(place) == ["a", "b"]
    photos = write_class_folders(place / "photos", {"dogs": 6, "cats": 6})
    choice = f"helpers.choose_dataset(helpers.start(), {str(photos)!r})"
    write_notebook(folder, "01_a", NOTE.format("A"), f"import helpers; {choice}")
    run_notebooks(profile="mini", resume=True)
    assert order_of(place)[2:] == ["A", "b"]
    told = "the record of bn_cnn is about other pictures or splits (Flowers102 (drawn))"
    assert told in capsys.readouterr().out


def test_a_run_may_be_about_a_folder_of_ones_own(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("KIT_DATASET", "")  # and what the command sets is gone after the test
    write_class_folders(place / "data" / "photos", {"a": 5, "b": 5})
    code = "from helpers import *\nprint(choose_dataset(start(), 'Flowers102').dataset)"
    write_notebook(place / "notebooks", "01_a", code)
    assert main(["run", "--dataset", "no such folder"]) == 2
    assert "no data set 'no such folder'" in capsys.readouterr().err
    assert main(["run", "--dataset", "photos"]) == 0
    printed = str(copy_of(place, "01_a").cells)
    assert "photos, set by KIT_DATASET: Flowers102 is not used\\nphotos" in printed


def test_fresh_run_keeps_the_previous_results(place: Path) -> None:
    results = place / "results" / "mini"
    write_notebook(place / "notebooks", "02_b", "x = 1")
    kept = results / "previous" / "bn_cnn" / "record.json"
    other = write_result(results, "resnet18_finetune") / "record.json"
    for right in (0.2, 0.9):
        record = (write_result(results, "bn_cnn", right=right) / "record.json").read_text()
        checkpoint = results / "checkpoints" / "bn_cnn" / "control" / "0.pt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text(f"{right}")
        run_notebooks(profile="mini")
        assert kept.read_text() == record
        assert not (results / "bn_cnn").exists()
        assert not checkpoint.parents[1].exists()  # nothing is there to be loaded
        moved = results / "previous" / checkpoint.relative_to(results)
        assert moved.read_text() == f"{right}"
    assert other.exists()


def test_extensions_run_instead_of_the_assignment(
    place: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, results = place / "notebooks", place / "results" / "mini"
    write_notebook(folder, "01_a", NOTE.format("a"))
    write_notebook(folder / "extensions", "07_x", "import lib", NOTE.format("x"))
    (folder / "extensions" / "lib.py").touch()  # a kernel stands in the folder of its notebook
    write_result(results, "bn_cnn")
    record = write_result(results / "extensions" / "07_x", "resnet18_finetune") / "record.json"
    run_notebooks(profile="mini", extensions=True)
    assert not (folder / "order.txt").exists()
    assert (folder / "extensions" / "order.txt").read_text() == "x "
    # Its runs were moved aside, and nothing of the assignment.
    assert not record.exists()
    assert (results / "previous/extensions/07_x/resnet18_finetune/record.json").exists()
    assert (results / "bn_cnn" / "record.json").exists()
    capsys.readouterr()
    write_result(results / "extensions" / "07_x", "resnet18_extractor")
    run_notebooks(profile="mini", names=["07"], resume=True)
    printed = capsys.readouterr().out
    assert "07_x: done before, skipped" in printed
    assert "ResNet18 extractor" in printed.partition("\n07_x\n")[2]
    run_notebooks(profile="mini")
    assert order_of(place) == ["a"]
    assert (results / "extensions" / "07_x").exists()


def test_one_run_at_a_time(place: Path) -> None:
    write_notebook(place / "notebooks", "01_a", NOTE.format("a"))
    results = place / "results" / "mini"
    earlier = write_result(results, "bn_cnn")
    with (
        only_writer(results / ".run.lock", "a test"),
        pytest.raises(KitError, match="another run"),
    ):
        run_notebooks(profile="mini")
    assert earlier.exists()
    assert not (place / "notebooks" / "order.txt").exists()
