"""What saved notebooks print of their results, and where it differs from the records."""

from __future__ import annotations

import re
from typing import Any

from coursekit.grading.case import Case
from coursekit.grading.values import accuracy_of, dig, number_of, numbers_of
from helpers.recipes import METHODS

_ACCURACY = re.compile(r"^test: +accuracy ([\d.]+) ?% \(([\d,]+)/([\d,]+)\)", re.MULTILINE)
_EPOCH = re.compile(
    r"^ *(\d+)/(\d+) +(\S+) +([\d.]+)% +(\S+) +([\d.]+)% +[\d.]+", re.MULTILINE
)  # fmt: skip
_SIZE = re.compile(r"^ *(train|val|test) +([\d,]+)\b", re.MULTILINE)


def printed_text(case: Case, notebook: str) -> str:
    """All that the cells of a notebook print, in order."""
    there = case.hand_in.notebooks.get(notebook)
    return "\n".join(cell.printed for cell in there.code) if there else ""


def sizes_printed(case: Case, notebook: str) -> dict[str, str]:
    """The sizes of the splits that a notebook prints, as digits."""
    found = _SIZE.findall(printed_text(case, notebook))
    return {split: size.replace(",", "") for split, size in found}


def accuracy_printed(case: Case, notebook: str) -> str | None:
    """The last test accuracy that a notebook prints, as "48.3% (232/480)"."""
    found = _ACCURACY.findall(printed_text(case, notebook))
    return "{}% ({}/{})".format(*found[-1]) if found else None


def recorded_accuracy(record: dict[str, Any]) -> str | None:
    """The test accuracy of a record in the form in which a notebook prints it."""
    accuracy = accuracy_of(record)
    counts = numbers_of(record.get("test"), "correct", "total")
    if accuracy is None or counts is None:
        return None
    return f"{accuracy:.1%} ({int(counts[0]):,}/{int(counts[1]):,})"


def epochs_printed(case: Case, method: str, notebook: str) -> tuple[int, int]:
    """How many epochs the table of training prints, and how many differ from the record."""
    history = dig(case.hand_in.records.get(method), "history")
    rows = {
        number_of(row.get("epoch")): row
        for row in (history if isinstance(history, list) else [])
        if isinstance(row, dict)
    }
    best: tuple[int, int] | None = None
    # A notebook may train several times; the run that agrees best is the recorded one.
    for cell in case.hand_in.notebooks[notebook].code if notebook in case.matched else ():
        lines = _EPOCH.findall(cell.printed)
        wrong = sum(not _same_epoch(found, rows.get(float(found[0]), {})) for found in lines)
        if lines and (best is None or wrong < best[1]):
            best = len(lines), wrong
    return best or (0, 0)


def _same_epoch(found: tuple[str, ...], row: dict[str, Any]) -> bool:
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    values = numbers_of(row, *names)
    if values is None:
        return False
    shown = [f"{values[0]:.3f}", f"{values[1]:.1%}", f"{values[2]:.3f}", f"{values[3]:.1%}"]
    return [found[2], f"{found[3]}%", found[4], f"{found[5]}%"] == shown


def table_printed(case: Case, notebook: str) -> dict[str, dict[str, str]]:
    """The last comparison table that a notebook prints: method's title -> column -> text."""
    lines = printed_text(case, notebook).splitlines()
    heads = [i for i, text in enumerate(lines) if text.startswith("Method ") and "accuracy" in text]
    if not heads:
        return {}
    names = re.split(r" {2,}", lines[heads[-1]].strip())
    rows = (re.split(r" {2,}", text.strip()) for text in lines[heads[-1] + 2 : heads[-1] + 10])
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)}


def table_differences(case: Case, rows: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Where a printed table is not what the records say, and the methods that it lacks."""
    wrong, missing = [], []
    for name, method in METHODS.items():
        title = method.title
        record, row = case.hand_in.records.get(name), rows.get(title)
        if row is None:
            missing.append(title)
            continue
        accuracy, seconds = accuracy_of(record), number_of(dig(record, "training_seconds"))
        said = {
            "Test accuracy": "none" if accuracy is None else f"{accuracy:.1%}",
            "Training": "none" if seconds is None else f"{seconds:,.1f} s",
        }
        differ = [
            f"{n} {row.get(n, 'none')}, recorded {v}" for n, v in said.items() if row.get(n) != v
        ]
        if differ:
            wrong.append(f"{title}: {'; '.join(differ)}")
    return wrong, missing
