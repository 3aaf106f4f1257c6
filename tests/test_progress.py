"""The table of epochs as a notebook shows it: one calm bar, and nothing of it in the end."""

from __future__ import annotations

import itertools
import time

import pytest

from helpers.lib import progress
from helpers.lib.progress import HEADER, REFRESH, SAMPLE, EpochTable

BATCHES = 10


def row(epoch: int) -> dict[str, float]:
    shares = {"train_accuracy": 0.5, "val_accuracy": 0.1 * epoch, "train_loss": 1, "val_loss": 1}
    seconds = {f"{name}_seconds": 1.0 for name in ("training", "loading", "evaluation")}
    return {"epoch": epoch, **shares, **seconds}


@pytest.fixture
def train(monkeypatch):
    """Let a run of made-up batches pass in a notebook; returns what was shown, text by text."""
    shown: list[str] = []
    now = [0.0]

    class Output:
        def show(self, text: str) -> None:
            shown.append(text)

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "_Output", Output)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def run(num_epochs: int, seconds: float, loaded: int = 0) -> list[str]:
        history = [row(epoch) for epoch in range(1, loaded + 1)]
        with EpochTable(num_epochs, BATCHES, history=history) as table:
            for epoch in range(loaded + 1, num_epochs + 1):
                for _ in range(BATCHES):
                    now[0] += seconds
                    table.batch_done(1.25, 0.5)
                table.epoch_done(row(epoch), is_best=True)
        return shown

    return run


def bars(shown: list[str]) -> list[str]:
    return [last for text in shown if "[" in (last := text.splitlines()[-1])]


def test_a_bar_tells_accuracy_and_what_is_left(train):
    lines = bars(train(2, 1.0))
    assert len(lines) == 2 * BATCHES
    assert (
        lines[4] == "   1/2    [##########..........] 5/10, loss 1.250, accuracy 50.0%, 15 s left"
    )
    assert lines[-1].endswith("[####################] 10/10, loss 1.250, accuracy 50.0%, 0 s left")
    assert not any("left" in line for line in lines[: SAMPLE - 1])
    assert all("left" in line for line in lines[SAMPLE - 1 :])


def test_what_was_loaded_does_not_count_as_passed(train):
    assert bars(train(3, 2.0, loaded=1))[SAMPLE].endswith("30 s left")


def test_nothing_flickers(train):
    """It is drawn only so often, and no line that was shown goes while epochs run."""
    shown = train(4, REFRESH / 5)
    assert len(shown) <= 4 * BATCHES / 5 + 4 + 1  # the bars, the epochs, the end
    tables = [[line for line in text.splitlines() if "[" not in line] for text in shown]
    for before, after in itertools.pairwise(tables):
        assert after[: len(before)] == before
    heights = [len(text.splitlines()) for text in shown]
    assert heights == sorted(heights)


def test_the_end_is_the_bare_table(train):
    lines = train(3, 1.0)[-1].splitlines()
    assert lines[0] == HEADER and len(lines) == 1 + 3 + 1
    assert not any("[" in line for line in lines)
    assert lines[-1] == "best on val: epoch 3, 30.0%"
