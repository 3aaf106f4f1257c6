"""What in one hand-in does not fit together: flags with their evidence, for a person to judge.

A flag never takes a point. Each may have an honest cause; the text says what was seen, no more.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from coursekit.grading.case import Case
from coursekit.grading.printed import (
    accuracy_printed,
    epochs_printed,
    recorded_accuracy,
    table_differences,
    table_printed,
)
from coursekit.grading.values import accuracy_of, dig, numbers_of, text_of, time_of
from coursekit.notebooks import COMPARISON
from helpers.lib.cell_log import Entry
from helpers.lib.identity import seed_of
from helpers.recipes import METHODS

SLACK = 120  # seconds that a record may be older or younger than the cell that wrote it


@dataclass(frozen=True)
class Flag:
    """Something for a person to look at. `other` names another hand-in when there is one."""

    kind: str
    text: str
    other: str = ""

    def __str__(self) -> str:
        return f"[{self.kind}] {self.text}" + (f" (with {self.other})" if self.other else "")


def flags_of(case: Case) -> list[Flag]:
    """All flags of one hand-in by itself, in a fixed order."""
    return [flag for check in _CHECKS for flag in check(case)]


def _files(case: Case) -> Iterator[Flag]:
    if changed := case.hand_in.changed:
        yield Flag("files", f"changed after the hand-in was packed: {', '.join(changed)}"[:300])


def _accuracies(case: Case) -> Iterator[Flag]:
    """The notebook, the record, the predictions and their hash must tell the same story."""
    for method, record in case.hand_in.records.items():
        title, said = METHODS[method].title, recorded_accuracy(record)
        shown = accuracy_printed(case, METHODS[method].notebook)
        if shown is not None and shown != said:
            yield Flag("accuracy", f"{title}: the notebook prints {shown}, the record says {said}")
        accuracy = accuracy_of(record)
        counts = numbers_of(record.get("test"), "correct", "total")
        if accuracy is not None and counts is not None and counts[1]:
            counted = counts[0] / counts[1]
            if abs(counted - accuracy) > 1e-6:
                text = f"{title}: the record's accuracy {accuracy:.4f} is not {counted:.4f}"
                yield Flag("accuracy", text)
        yield from _predictions(case, method, title, said)


def _predictions(case: Case, method: str, title: str, said: str | None) -> Iterator[Flag]:
    predictions, measured = case.hand_in.predictions.get(method), case.measured(method)
    if predictions is None or measured is None:
        return
    wanted = dig(case.hand_in.records[method], "files", "predictions.csv")
    if wanted != case.hand_in.hashes[method]:
        yield Flag("predictions", f"{title}: its predictions are not the file that was recorded")
    if said is not None and str(measured) != said:
        whose = "your" if measured.checked else "its own"
        text = f"against {whose} labels the predictions give {measured}, the record says {said}"
        yield Flag("accuracy", f"{title}: {text}")
    labels = case.own_labels(method)
    if labels is not None:
        pairs = zip(predictions.pictures, predictions.labels.tolist(), strict=True)
        wrong = sum(labels.test.get(picture, label) != label for picture, label in pairs)
        if wrong:
            yield Flag("predictions", f"{title}: {wrong} labels in its table are not the data's")


def _table(case: Case) -> Iterator[Flag]:
    rows = table_printed(case, COMPARISON)
    wrong, _ = table_differences(case, rows) if rows else ([], [])
    for text in wrong:
        yield Flag("table", f"the comparison in notebook {COMPARISON} differs: {text}")


def _epochs(case: Case) -> Iterator[Flag]:
    for method in case.hand_in.records:
        seen, wrong = epochs_printed(case, method, METHODS[method].notebook)
        if wrong:
            text = f"{wrong} of {seen} printed epochs are not those of the record"
            yield Flag("history", f"{METHODS[method].title}: {text}")


def _seeds(case: Case) -> Iterator[Flag]:
    student = case.hand_in.student
    if not student:
        return
    wanted = seed_of(student)
    owners: dict[str, list[str]] = {}
    seeds: dict[str, list[str]] = {}
    for method, record in case.hand_in.records.items():
        owner, seed = text_of(record.get("student")) or "nobody", f"{record.get('seed')!r:.40}"
        if owner != student:
            owners.setdefault(owner, []).append(METHODS[method].title)
        if seed != str(wanted):
            seeds.setdefault(seed, []).append(METHODS[method].title)
    for owner, titles in owners.items():
        yield Flag("student", f"records of {owner!r:.80}: {', '.join(titles)}")
    for seed, titles in seeds.items():
        text = f"seed {seed}, but {student!r:.80} has {wanted}: {', '.join(titles)}"
        yield Flag("seed", text)


def _log(case: Case) -> Iterator[Flag]:
    """The cells that ran must be the cells that are there."""
    if case.hand_in.log is None:
        return
    for number, notebook in case.hand_in.notebooks.items():
        logged = {entry.cell for entry in case.logs[number]}
        # The log begins with the cell that calls start(): what ran before it is unknown to it.
        code = notebook.code
        first = next((i for i, cell in enumerate(code) if "start(" in cell.source), -1)
        ran = [(i, c) for i, c in enumerate(code, start=1) if i > first + 1 and c.count is not None]
        lacking = [place for place, cell in ran if cell.digest not in logged]
        name = case.templates[number].name
        if ran and len(lacking) == len(ran):
            yield Flag("log", f"{name} has {len(ran)} executed cells, and none of them is logged")
        elif lacking:
            places = ", ".join(map(str, lacking[:8])) + (", ..." if len(lacking) > 8 else "")
            yield Flag(
                "log",
                f"{name}: {len(lacking)} of {len(ran)} executed cells are not in the log as they "
                f"are now (code cells {places})",
            )


def _dates(case: Case) -> Iterator[Flag]:
    """A record must have been written while a cell of its notebook ran."""
    for name, record in case.hand_in.records.items():
        method = METHODS[name]
        lines = case.logs.get(method.notebook, [])
        finished = time_of(record.get("finished"))
        if not lines or any(_fits(finished, line) for line in lines):
            continue
        said = f"{finished:%Y-%m-%d %H:%M}" if finished else "no time"
        yield Flag("date", f"{method.title}: recorded at {said} UTC, when nothing of it ran")


def _fits(finished: datetime.datetime | None, line: Entry) -> bool:
    if finished is None:
        return False
    return abs((finished - line.ended).total_seconds()) <= line.seconds + SLACK


def _machines(case: Case) -> Iterator[Flag]:
    """Two machines may be honest: one with a GPU for training, one for handing in."""
    manifest = dig(case.hand_in.manifest, "machine")
    there = {"the manifest": manifest} if isinstance(manifest, dict) else {}
    records = case.hand_in.records
    there |= {METHODS[method].title: dig(record, "machine") for method, record in records.items()}
    for key in ("system", "device_name"):
        values = {name: text_of(dig(machine, key)) for name, machine in there.items()}
        if key == "system":
            values = {name: _family(value) for name, value in values.items()}
        if len({value for value in values.values() if value}) > 1:
            said = "; ".join(f"{name}: {value[:60]}" for name, value in values.items() if value)
            yield Flag("machine", f"several machines ({said})")
            return


def _family(system: str) -> str:
    """A system without its version, which an update changes: "Linux x86_64"."""
    kinds = re.findall("x86_64|AMD64|arm64|aarch64", system)
    return " ".join([system.partition("-")[0], *kinds[:1]]).strip()


_CHECKS = (_files, _accuracies, _table, _epochs, _seeds, _log, _dates, _machines)
