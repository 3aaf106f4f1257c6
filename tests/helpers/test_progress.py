"""The table of epochs: what a notebook shows while a run goes on, and what is left of it."""

from __future__ import annotations

import itertools

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import v4

from helpers.lib.progress import HEADER, EpochTable, duration

RUN = """
import time
from helpers.lib import progress
from helpers.lib.progress import EpochTable
progress.REFRESH = 0.05
row = dict(train_loss=1.0, train_accuracy=0.5, val_loss=1.0, training_seconds=1.0,
           loading_seconds=0.0, evaluation_seconds=0.0)
with EpochTable(3, 10) as table:
    for epoch in (1, 2, 3):
        for batch in range(10):
            time.sleep(0.02)
            table.batch_done(1.25, 0.5)
        table.epoch_done({**row, "epoch": epoch, "val_accuracy": 0.1 * epoch}, is_best=True)
"""


def test_a_notebook_shows_one_calm_bar_and_keeps_the_bare_table(tmp_path):
    """In a real kernel: one output, redrawn in place."""
    shown: list[str] = []

    class Client(NotebookClient):
        def process_message(self, message, cell, index):
            data = message["content"].get("data", {})
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append(data["text/plain"])
            return super().process_message(message, cell, index)

    notebook = v4.new_notebook(cells=[v4.new_code_cell(RUN)])
    Client(
        notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (output,) = notebook.cells[0].outputs
    lines = output["data"]["text/plain"].splitlines()
    assert lines[0] == HEADER and len(lines) == 1 + 3 + 1
    assert lines[-1] == "best on val: epoch 3, 30.0%"
    bars = [text.splitlines()[-1] for text in shown if "[#" in text or "[." in text]
    assert 4 <= len(bars) <= 30
    assert any("5/10, loss 1.250, accuracy 50.0%" in bar or "left" in bar for bar in bars)
    tables = [[line for line in text.splitlines() if "[" not in line] for text in shown]
    assert all(after[: len(before)] == before for before, after in itertools.pairwise(tables))
    nbformat.validate(notebook)


def row(epoch: int, seconds: float = 1.0) -> dict[str, float]:
    values = {"train_accuracy": 0.5, "val_accuracy": 0.1 * epoch, "train_loss": 1, "val_loss": 1}
    values |= dict.fromkeys(("training_seconds", "loading_seconds", "evaluation_seconds"), seconds)
    return {"epoch": epoch, **values}


def test_a_long_run_shows_some_of_its_epochs_and_the_last(capsys):
    with EpochTable(100, 1) as table:
        for epoch in range(1, 101):
            table.epoch_done(row(epoch), is_best=False)
    epochs = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert epochs[0] == "1/100" and epochs[-1] == "100/100" and len(epochs) <= 25


def test_loaded_rows_are_marked(capsys):
    with EpochTable(3, 1, history=[row(1), row(2)], note="drawn") as table:
        table.epoch_done(row(3), is_best=True)
    lines = capsys.readouterr().out.splitlines()
    assert ["loaded" in line for line in lines] == [False, True, True, False, False]
    assert lines[-1] == "best on val: epoch 3, 30.0% (drawn)"


def test_nothing_is_shown_unless_wanted(capsys):
    with EpochTable(1, 1, show=False) as table:
        table.epoch_done(row(1), is_best=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(45.2, "45 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (59.6, "1 min 00 s")],
)
def test_seconds_are_said_as_a_person_says_them(seconds, said):
    assert duration(seconds) == said
