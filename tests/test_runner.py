"""The runner, on tiny notebooks: what it runs, what it keeps, and how it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from made_up import write_notebook, write_result
from nbformat import v4
from tiny import write_class_folders

from coursekit import notebooks
from coursekit.notebooks import notebook_faults
from coursekit.run import runner
from helpers.data import data_set_of
from helpers.errors import KitError
from helpers.lib.files import only_writer
from helpers.lib.identity import kit_version
from helpers.workspace import find_workspace

NOTE = "open('order.txt', 'a').write('{0} ')"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with notebooks/ and results/ of its own."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", tmp_path / "notebooks")
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    return tmp_path


def order_of(place: Path) -> list[str]:
    return (place / "notebooks" / "order.txt").read_text().split()


def copy_of(place: Path, name: str) -> nbformat.NotebookNode:
    return nbformat.read(place / "results" / "mini" / "notebooks" / f"{name}.ipynb", as_version=4)


def test_runs_in_order_in_this_python_and_saves(place, monkeypatch, capsys):
    folder = place / "notebooks"
    kernel = place / "jupyter" / "kernels" / "python3"  # somebody else's, of the same name
    kernel.mkdir(parents=True)
    spec = {"argv": ["no-such-python"], "display_name": "other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(place / "jupyter"))
    second = write_notebook(folder, "02_b", NOTE.format("b"), "x")
    second.write_text(second.read_text().replace('"x"', '"1 + 1"'))
    first = write_notebook(
        folder,
        "01_a",
        NOTE.format("a"),
        "import os, sys\nprint(sys.executable, flush=True)\nprint(os.environ['KIT_PROFILE'])",
    )
    ids = [cell.id for cell in nbformat.read(first, as_version=4).cells]
    report = runner.run_notebooks(profile="mini", save_notebooks=True)
    assert order_of(place) == ["a", "b"]
    assert report == place / "results" / "mini" / "report.html"
    saved = nbformat.read(first, as_version=4)
    assert saved == copy_of(place, "01_a")
    (output,) = saved.cells[2].outputs
    assert output.text == f"{sys.executable}\nmini\n"
    assert [cell.id for cell in saved.cells] == ids
    assert all("execution" not in cell.metadata for cell in saved.cells)
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert notebook_faults(second) == []
    printed = capsys.readouterr().out
    assert "01_a: 2 cells in" in printed
    assert "report  " in printed


def test_a_notebook_of_another_version_is_recognised(place, capsys):
    path = write_notebook(place / "notebooks", "01_a", "x = 1")
    notebook = nbformat.read(path, as_version=4)
    assert notebooks.version_note(path.name, notebook) == ""
    notebook.metadata["kit"] = {"version": kit_version(), "questions": 0}
    assert notebooks.version_note(path.name, notebook) == ""
    notebook.metadata["kit"]["version"] = "0.0.1"
    nbformat.write(notebook, path)
    runner.run_notebooks(profile="mini")
    note = "NOTE     01_a.ipynb belongs to version 0.0.1 of the kit, the helpers here are "
    assert note in capsys.readouterr().out


def test_failing_cell_stops_the_run(place):
    folder = place / "notebooks"
    write_notebook(folder, "01_a", "x = 1", "\n# a reason\n1 / 0", "x = 2")
    write_notebook(folder, "02_b", NOTE.format("b"))
    with pytest.raises(KitError) as caught:
        runner.run_notebooks(profile="mini")
    message = str(caught.value)
    assert message.startswith("01_a, cell 2 (# a reason): ZeroDivisionError: division by zero")
    assert "\n" not in message
    assert not (folder / "order.txt").exists()
    cells = copy_of(place, "01_a").cells
    assert [cell.execution_count for cell in cells[1:]] == [1, 2, None]
    assert cells[2].outputs[0].output_type == "error"


def test_dead_kernel_stops_the_run(place):
    write_notebook(place / "notebooks", "01_a", "x = 1", "import os; os._exit(1)", "x = 2")
    with pytest.raises(KitError, match=r"01_a, cell 2 \(import os.*\): the kernel died"):
        runner.run_notebooks(profile="mini")
    assert copy_of(place, "01_a").cells[1].execution_count == 1


def test_interrupted_run_keeps_what_ran(place, monkeypatch):
    execute = runner.NotebookClient.execute_cell

    def interrupted(client, cell, *args, **options):
        if cell.source == "x = 2":
            raise KeyboardInterrupt
        return execute(client, cell, *args, **options)

    monkeypatch.setattr(runner.NotebookClient, "execute_cell", interrupted)
    write_notebook(place / "notebooks", "01_a", "x = 1", "x = 2")
    with pytest.raises(KeyboardInterrupt):
        runner.run_notebooks(profile="mini")
    assert [cell.execution_count for cell in copy_of(place, "01_a").cells[1:]] == [1, None]


@pytest.fixture
def pictures() -> str:
    """The fingerprint of the pictures that the mini profile has."""
    return data_set_of(find_workspace(profile="mini")).fingerprint


def test_resume_skips_what_is_done(place, pictures, capsys):
    folder, results = place / "notebooks", place / "results" / "mini"
    write_notebook(folder, "01_a", NOTE.format("a"))
    changed = write_notebook(folder, "03_c", NOTE.format("c"))
    write_notebook(folder, "02_b", NOTE.format("b"))
    write_notebook(folder, "06_f", NOTE.format("f"))
    runner.run_notebooks(profile="mini")
    assert order_of(place) == ["a", "b", "c", "f"]
    # 02 is complete and has its record, 03 lacks its record.
    record = write_result(results, "bn_cnn", fingerprint=pictures) / "record.json"
    newer = (results / "notebooks" / "06_f.ipynb").stat().st_mtime + 10
    os.utime(record, (newer, newer))
    runner.run_notebooks(profile="mini", resume=True)
    assert order_of(place)[4:] == ["c", "f"]
    assert "02_b: done before, skipped" in capsys.readouterr().out
    # A changed cell is run again; then nothing is left to do.
    write_result(results, "resnet18_finetune", fingerprint=pictures)
    changed.write_text(changed.read_text().replace("c ')", "C ')"))
    for copied in (results / "notebooks").iterdir():
        os.utime(copied, (newer + 10, newer + 10))
    runner.run_notebooks(profile="mini", names=["01", "02", "03"], resume=True)
    runner.run_notebooks(profile="mini", names=["01", "02", "03"], resume=True)
    assert order_of(place)[6:] == ["C"]
    assert (results / "bn_cnn" / "record.json").exists()


def test_resume_runs_again_what_is_about_another_data_set(place, pictures, capsys):
    """Notebook 01 chooses the data set, so it runs before the others are looked at."""
    folder, results = place / "notebooks", place / "results" / "mini"
    tour = write_notebook(folder, "01_a", NOTE.format("a"))
    write_notebook(folder, "02_b", NOTE.format("b"))
    write_notebook(folder, "06_f", NOTE.format("f"))
    write_result(results, "bn_cnn", fingerprint=pictures)
    runner.run_notebooks(profile="mini")
    write_result(results, "bn_cnn", fingerprint=pictures)  # 02 would have written it
    newer = (results / "bn_cnn" / "record.json").stat().st_mtime + 10
    os.utime(results / "notebooks" / "06_f.ipynb", (newer, newer))
    runner.run_notebooks(profile="mini", resume=True)
    assert order_of(place) == ["a", "b", "f"]
    photos = write_class_folders(place / "photos", {"dogs": 6, "cats": 6})
    choice = f"helpers.choose_dataset(helpers.start(), {str(photos)!r})"
    write_notebook(folder, "01_a", NOTE.format("A"), f"import helpers; {choice}")
    assert tour.exists()
    runner.run_notebooks(profile="mini", resume=True)
    assert order_of(place)[3:] == ["A", "b", "f"]
    told = "the record of bn_cnn is about other pictures or splits (Flowers102 (drawn))"
    assert told in capsys.readouterr().out


def test_fresh_run_keeps_the_previous_results(place):
    results = place / "results" / "mini"
    write_notebook(place / "notebooks", "02_b", "x = 1")
    for right in (0.2, 0.9):
        record = (write_result(results, "bn_cnn", right=right) / "record.json").read_text()
        for method in ("bn_cnn", "resnet18_finetune"):
            folder = results / "checkpoints" / method / "control"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "0.pt").write_text(f"{right}")
        write_result(results, "resnet18_finetune")
        runner.run_notebooks(profile="mini")
        kept = results / "previous" / "bn_cnn" / "record.json"
        assert kept.read_text() == record
        assert not (results / "bn_cnn").exists()
        assert not (results / "checkpoints" / "bn_cnn").exists()  # nothing is there to be loaded
        kept_too = results / "previous" / "checkpoints" / "bn_cnn" / "control" / "0.pt"
        assert kept_too.read_text() == f"{right}"
    assert (results / "resnet18_finetune" / "record.json").exists()
    assert (results / "checkpoints" / "resnet18_finetune" / "control" / "0.pt").exists()
    # Half a result replaces no kept one.
    (results / "bn_cnn").mkdir()
    runner.keep_previous(runner.find_workspace(profile="mini"), [place / "notebooks/02_b.ipynb"])
    assert kept.read_text() == record


TRAINS_AND_DIES = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from helpers import start
from test_checkpoints import kernel, stop_at
workspace, one = start(), kernel()
steps = []

def die(*_):
    steps.append(1)
    if len(steps) == 30 and not Path("died").exists():
        Path("died").touch()
        os._exit(1)

one.model.register_forward_pre_hook(die)
run = one.train(workspace.checkpoints_dir / "bn_cnn")
"""


@pytest.mark.slow
def test_resume_goes_on_with_the_training_of_a_kernel_that_died(place):
    write_notebook(place / "notebooks", "02_b", TRAINS_AND_DIES)

    def printed() -> str:
        (cell,) = (cell for cell in copy_of(place, "02_b").cells if cell.cell_type == "code")
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    with pytest.raises(KitError, match="the kernel died"):
        runner.run_notebooks(profile="mini")
    runner.run_notebooks(profile="mini", resume=True)
    assert "going on with epoch " in printed()
    runner.run_notebooks(profile="mini")
    assert "going on" not in printed()
    assert "loaded" not in printed()


def test_extensions_run_instead_of_the_assignment(place, capsys):
    folder, results = place / "notebooks", place / "results" / "mini"
    write_notebook(folder, "01_a", NOTE.format("a"))
    write_notebook(folder / "extensions", "07_x", NOTE.format("../x"), NOTE.format("x"))
    write_notebook(folder / "extensions", "08_y", "import os\nprint(os.getcwd())")
    write_result(results, "bn_cnn")
    record = write_result(results / "extensions" / "07_x", "resnet18_finetune") / "record.json"
    runner.run_notebooks(profile="mini", extensions=True)
    assert not (folder / "order.txt").exists()
    assert (folder / "extensions" / "order.txt").read_text() == "../x x "
    assert copy_of(place, "08_y").cells[1].outputs[0].text.strip().endswith("extensions")
    # Its runs were moved aside, and nothing of the assignment.
    assert not record.exists()
    assert (results / "previous/extensions/07_x/resnet18_finetune/record.json").exists()
    assert (results / "bn_cnn" / "record.json").exists()
    capsys.readouterr()
    write_result(results / "extensions" / "07_x", "resnet18_extractor")
    runner.run_notebooks(profile="mini", names=["07"], resume=True)
    printed = capsys.readouterr().out
    assert "07_x: done before, skipped" in printed
    assert "ResNet18 extractor" in printed.partition("\n07_x\n")[2]
    runner.run_notebooks(profile="mini")
    assert order_of(place) == ["a"]
    assert (results / "extensions" / "07_x").exists()


def test_one_run_at_a_time(place):
    write_notebook(place / "notebooks", "01_a", NOTE.format("a"))
    results = place / "results" / "mini"
    earlier = write_result(results, "bn_cnn")
    with (
        only_writer(results / ".run.lock", "a test"),
        pytest.raises(KitError, match="another run"),
    ):
        runner.run_notebooks(profile="mini")
    assert earlier.exists()
    assert not (place / "notebooks" / "order.txt").exists()


def test_streams_are_merged_where_they_follow_each_other():
    def stream(name, text):
        return v4.new_output("stream", name=name, text=text)

    figure = v4.new_output("display_data", {"text/plain": "figure"})
    merged = runner.merge_streams(
        [stream("stdout", "a"), stream("stdout", "b\n"), figure, stream("stdout", "1\r2\n")]
    )
    assert [output.get("text") for output in merged] == ["ab\n", None, "2\n"]
