"""Whether the history in a record can be that of a training run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from coursekit.grading.values import accuracy_of, dig, number_of, numbers_of
from helpers.lib.records import RECORD, first_fault

_FIRST_LOSS = 1.5  # nats around ln(classes) that the loss of an untrained network may be
_ROUNDING = 1e-6


def history_faults(record: dict[str, Any]) -> list[str]:
    """What is not plausible in a record's history, a sentence each."""
    return list(itertools.islice(_history_faults(record), 4))


def _history_faults(record: dict[str, Any]) -> Iterator[str]:
    history: Any = record.get("history")
    if fault := first_fault(history, RECORD["properties"]["history"]):
        yield f"the history is damaged ({fault})"
        return
    if len(history) != record.get("epochs"):
        yield f"the history has {len(history)} epochs, the record says {record.get('epochs')!r:.40}"
    if [row["epoch"] for row in history] != list(range(1, len(history) + 1)):
        yield "the epochs of the history are not in order"
    best = max((row["val_accuracy"] for row in history), default=None)
    said = accuracy_of(record, "val")
    if best is None or said is None or abs(best - said) > _ROUNDING:
        yield "the best val accuracy of the history is not the recorded one"
    first, classes = number_of(record.get("first_loss")), number_of(dig(record, "data", "classes"))
    if first is None or not classes or classes < 2 or abs(first - math.log(classes)) > _FIRST_LOSS:
        yield "the first loss is not that of an untrained network"
    yield from _time_faults(record, history)


def _time_faults(record: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[str]:
    """Seconds must add up; how many they are is the machine's affair."""
    total = number_of(record.get("training_seconds"))
    parts = numbers_of(record.get("seconds"), "training", "loading", "features")
    if total is None or parts is None or abs(total - sum(parts)) > 0.01 * max(total, 1):
        yield "the seconds of training do not add up"
        return
    rows = [number_of(row.get("training_seconds")) for row in history]
    seconds = sum(row for row in rows if row is not None)
    if None in rows or abs(seconds - parts[0]) > 0.01 * max(parts[0], 1):
        yield "the seconds of the epochs are not those of the run"
