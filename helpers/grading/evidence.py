"""What a hand-in shows for each line of the rubric. Everything is read, nothing is run."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..recipes import METHODS
from .cells import Cell, Notebook, Question, answer_to, in_order, match_cells, questions_in
from .labels import Labels
from .read import HandIn, accuracy_of, dig, number_of, text_of
from .rubric import Line, share_of

NO_LABELS = "not checked: no labels here"
_ACCURACY = re.compile(r"^test: +accuracy ([\d.]+) ?% \(([\d,]+)/([\d,]+)\)", re.MULTILINE)
_EPOCH = re.compile(
    r"^ *(\d+)/(\d+) +(\S+) +([\d.]+)% +(\S+) +([\d.]+)% +[\d.]+", re.MULTILINE
)  # fmt: skip
_SIZE = re.compile(r"^ *(train|val|test) +([\d,]+)\b", re.MULTILINE)
_FIRST_LOSS = 1.5  # nats around ln(classes) that the loss of an untrained network may be
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Finding:
    """What one line found: the share of its points, None when a person has to say; and why."""

    share: float | None
    remark: str = ""


@dataclass(frozen=True)
class Measured:
    """A method's accuracy, counted from its predictions."""

    correct: int
    total: int
    checked: bool  # against the instructor's own labels
    fault: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.total, 1)


@dataclass
class Case:
    """A hand-in beside what the instructor has: the template's notebooks, and labels if any."""

    hand_in: HandIn
    templates: dict[str, Notebook]
    labels: dict[str, Labels] = field(default_factory=dict)  # by profile

    @cached_property
    def matched(self) -> dict[str, dict[int, Cell]]:
        """By notebook, the student's cell for each of the template's, by its index there."""
        notebooks = self.hand_in.notebooks
        return {
            n: match_cells(notebooks[n], t) for n, t in self.templates.items() if n in notebooks
        }

    @cached_property
    def questions(self) -> dict[str, Question]:
        """Every question of the assignment, by its key such as "03.2"."""
        return questions_in(self.templates)

    @cached_property
    def answers(self) -> dict[str, str]:
        """The student's answer to each question, "" for none."""
        notebooks = self.hand_in.notebooks
        return {
            key: answer_to(q, self.matched[q.notebook], notebooks[q.notebook])
            if q.notebook in notebooks
            else ""
            for key, q in self.questions.items()
        }

    def own_labels(self, method: str) -> Labels | None:
        """The instructor's labels for a method's pictures, None when there are none."""
        record = self.hand_in.records.get(method, {})
        is_flowers = text_of(dig(record, "data", "name")).startswith("Flowers102")
        return self.labels.get(text_of(record.get("profile"))) if is_flowers else None

    def measured(self, method: str) -> Measured | None:
        """A method's accuracy from its predictions; None when there are none."""
        predictions = self.hand_in.predictions.get(method)
        if predictions is None:
            return None
        total, labels = len(predictions.pictures), self.own_labels(method)
        if labels is None:
            return Measured(predictions.correct, total, checked=False)
        known = labels.test
        missing = len(known.keys() - set(predictions.pictures))
        unknown = len(set(predictions.pictures) - known.keys())
        doubled = total - len(set(predictions.pictures))
        pairs = zip(predictions.pictures, predictions.guesses.tolist(), strict=True)
        correct = sum(known.get(picture) == guess for picture, guess in pairs)
        fault = ""
        if missing or unknown or doubled:
            fault = (
                f"its pictures are not the test split: {missing} missing, {unknown} unknown, "
                f"{doubled} doubled"
            )
        return Measured(correct, total, checked=True, fault=fault)


def look(case: Case, line: Line) -> Finding:
    """What a hand-in shows for one line of the rubric."""
    if line.notebook and line.notebook in case.templates:
        if line.notebook not in case.hand_in.notebooks:
            return Finding(0, f"notebook {line.notebook} is missing")
    elif line.notebook:
        return Finding(None, f"the assignment has no notebook {line.notebook}")
    if line.method and line.method not in case.hand_in.records:
        return Finding(0, f"there is no record of {METHODS[line.method]}")
    return _LOOKS[line.look](case, line)


def _profile(case: Case, line: Line) -> Finding:
    profiles = {text_of(record.get("profile")) for record in case.hand_in.records.values()}
    if not profiles:
        return Finding(0, "there is no record")
    if profiles == {"full"}:
        return Finding(1)
    names = ", ".join(sorted(name or "unknown" for name in profiles))
    return Finding(0, f"the records are of the profile {names}")


def _fingerprint(case: Case, line: Line) -> Finding:
    prints = {m: text_of(dig(r, "data", "fingerprint")) for m, r in case.hand_in.records.items()}
    known = [labels.fingerprint for m in prints if (labels := case.own_labels(m)) is not None]
    found = [value for value in prints.values() if value]
    if not found:
        return Finding(0, "there is no record of the data")
    wanted = known[0] if known else max(sorted(found), key=found.count)
    share = found.count(wanted) / len(METHODS)
    others = [METHODS[method] for method, value in prints.items() if value != wanted]
    remarks = [f"other pictures or splits: {', '.join(others)}"] * bool(others)
    remarks += [NO_LABELS] * (not known)
    return Finding(share, "; ".join(remarks))


def _sizes(case: Case, line: Line) -> Finding:
    records = case.hand_in.records
    known = [labels.sizes for m in records if (labels := case.own_labels(m)) is not None]
    sizes = [dig(record, "data", "sizes") for record in records.values()]
    wanted = next((size for size in (*known, *sizes) if isinstance(size, dict)), None)
    if wanted is None:
        return Finding(0, "there is no record of the data to compare the sizes with")
    printed = dict(_SIZE.findall(_printed(case, line.notebook)))
    right = [s for s in ("train", "val", "test") if _int(printed.get(s, "")) == wanted.get(s)]
    if len(right) == 3:
        return Finding(1)
    return Finding(len(right) / 3, f"sizes printed and right: {', '.join(right) or 'none'}")


def _ran(case: Case, line: Line) -> Finding:
    template, matched = case.templates[line.notebook], case.matched[line.notebook]
    wanted = [i for i, c in enumerate(template.cells) if c.kind == "code" and c.source.strip()]
    there = [matched[index] for index in wanted if index in matched]
    failed = (i for i in wanted if i in matched and matched[i].errors)
    errors = [
        matched[i].errors[0] for i in failed if "raises-exception" not in template.cells[i].tags
    ]
    ran = sum(cell.count is not None for cell in there)
    share = max(ran - len(errors), 0) / max(len(wanted), 1)
    remarks = []
    if len(there) < len(wanted):
        remarks.append(f"{len(wanted) - len(there)} of {len(wanted)} code cells are gone")
    if errors:
        remarks.append(f"{len(errors)} ended in an error ({', '.join(sorted(set(errors)))[:80]})")
    if ran < len(there):
        remarks.append(f"{len(there) - ran} were not run")
    if not in_order(case.hand_in.notebooks[line.notebook].code):
        share /= 2
        remarks.append("the cells did not run once each from top to bottom")
    return Finding(share, "; ".join(remarks))


def _figures(case: Case, line: Line) -> Finding:
    return _cells_show(case, line, lambda cell: cell.pictures > 0, "no picture from")


def _printed_something(case: Case, line: Line) -> Finding:
    return _cells_show(case, line, lambda cell: bool(cell.printed.strip()), "nothing printed by")


def _cells_show(case: Case, line: Line, shows: Callable[[Cell], bool], complaint: str) -> Finding:
    """The part of the template's calls that a student's cells make and show something for."""
    wanted = found = 0
    lacking = []
    for name in line.calls:
        call = re.compile(rf"\b{re.escape(name)}\(")
        needed = sum(bool(call.search(cell.source)) for cell in case.templates[line.notebook].code)
        cells = case.hand_in.notebooks[line.notebook].code
        there = sum(shows(cell) for cell in cells if call.search(cell.source))
        wanted, found = wanted + needed, found + min(needed, there)
        if there < needed:
            lacking.append(name)
    if not wanted:
        return Finding(None, f"the notebook does not call {', '.join(line.calls)}")
    return Finding(found / wanted, f"{complaint} {', '.join(lacking)}" if lacking else "")


def _history(case: Case, line: Line) -> Finding:
    faults = history_faults(case.hand_in.records[line.method])
    return Finding(0 if faults else 1, "; ".join(faults))


def _epochs(case: Case, line: Line) -> Finding:
    """Half for a plausible history, half for the printed table that agrees with it."""
    record = case.hand_in.records[line.method]
    faults = history_faults(record)
    seen, wrong = epochs_printed(case, line.method, line.notebook)
    remarks = list(faults)
    if not seen:
        remarks.append("the table of epochs is not printed")
    elif wrong:
        remarks.append(f"{wrong} of {seen} printed epochs are not those of the record")
    return Finding((not faults) / 2 + (seen > 0 and not wrong) / 2, "; ".join(remarks))


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
    values = [number_of(row.get(name)) for name in names]
    if None in values:
        return False
    shown = [f"{values[0]:.3f}", f"{values[1]:.1%}", f"{values[2]:.3f}", f"{values[3]:.1%}"]
    return [found[2], f"{found[3]}%", found[4], f"{found[5]}%"] == shown


def history_faults(record: dict[str, Any]) -> list[str]:
    """What is not plausible in a record's history, a sentence each."""
    return list(itertools.islice(_history_faults(record), 4))


def _history_faults(record: dict[str, Any]) -> Iterator[str]:
    history = record.get("history")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        yield "there is no history"
        return
    if len(history) != record.get("epochs"):
        yield f"the history has {len(history)} epochs, the record says {record.get('epochs')!r:.40}"
    for number, row in enumerate(history, start=1):
        accuracies = [number_of(row.get(name)) for name in ("train_accuracy", "val_accuracy")]
        losses = [number_of(row.get(name)) for name in ("train_loss", "val_loss")]
        if row.get("epoch") != number or None in (*accuracies, *losses):
            yield f"epoch {number} is damaged"
            return
        if not all(0 <= a <= 1 for a in accuracies) or not all(loss >= 0 for loss in losses):
            yield f"epoch {number} has an accuracy or a loss that cannot be"
            return
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
    seconds = dig(record, "seconds")
    total = number_of(record.get("training_seconds"))
    names = ("training", "loading", "features")
    parts = [number_of(dig(seconds, name)) for name in names]
    if total is None or None in parts or abs(total - sum(parts)) > 0.01 * max(total, 1):
        yield "the seconds of training do not add up"
        return
    rows = [number_of(row.get("training_seconds")) for row in history]
    if None in rows or abs(sum(rows) - parts[0]) > 0.01 * max(parts[0], 1):
        yield "the seconds of the epochs are not those of the run"


def _printed_accuracy(case: Case, line: Line) -> Finding:
    shown = accuracy_printed(case, line.notebook)
    if shown is None:
        return Finding(0, "no line 'test: accuracy ...' is printed")
    said = recorded_accuracy(case.hand_in.records[line.method])
    if shown != said:
        return Finding(0, f"it prints {shown}, the record says {said or 'none'}")
    return Finding(1)


def accuracy_printed(case: Case, notebook: str) -> str | None:
    """The last test accuracy that a notebook prints, as "48.3% (232/480)"."""
    found = _ACCURACY.findall(_printed(case, notebook))
    return "{}% ({}/{})".format(*found[-1]) if found else None


def recorded_accuracy(record: dict[str, Any]) -> str | None:
    """The test accuracy of a record in the form in which a notebook prints it."""
    accuracy = accuracy_of(record)
    counts = [number_of(dig(record, "test", name)) for name in ("correct", "total")]
    if accuracy is None or None in counts:
        return None
    return f"{accuracy:.1%} ({int(counts[0]):,}/{int(counts[1]):,})"


def _predictions(case: Case, line: Line) -> Finding:
    measured = case.measured(line.method)
    if measured is None:
        return Finding(0, "there are no predictions that can be read")
    if measured.fault:
        return Finding(0, measured.fault)
    said = recorded_accuracy(case.hand_in.records[line.method])
    counted = f"{measured.accuracy:.1%} ({measured.correct:,}/{measured.total:,})"
    if counted != said:
        return Finding(0, f"the predictions give {counted}, the record says {said or 'none'}")
    return Finding(1, "" if measured.checked else NO_LABELS)


def _accuracy(case: Case, line: Line) -> Finding:
    measured, record = case.measured(line.method), case.hand_in.records[line.method]
    if measured is None or measured.fault:
        return Finding(0, "without its predictions an accuracy does not count")
    name = text_of(dig(record, "data", "name"))
    if record.get("profile") != "full":
        return Finding(1, f"{measured.accuracy:.1%} on mini, where any accuracy counts")
    if name != "Flowers102":
        return Finding(None, f"{measured.accuracy:.1%} of {name[:40]}; the bands are Flowers102's")
    share = share_of(measured.accuracy, line.bands)
    return Finding(share, f"{measured.accuracy:.1%}")


def _table(case: Case, line: Line) -> Finding:
    rows = table_printed(case, line.notebook)
    if not rows:
        return Finding(0, "the comparison table is not printed")
    wrong, missing = table_differences(case, rows)
    remarks = [f"not in the table: {', '.join(missing)}"] * bool(missing) + wrong
    share = 1 - (len(missing) + len(wrong)) / len(METHODS)
    return Finding(max(share, 0), "; ".join(remarks))


def table_printed(case: Case, notebook: str) -> dict[str, dict[str, str]]:
    """The last comparison table that a notebook prints: method's title -> column -> text."""
    lines = _printed(case, notebook).splitlines()
    heads = [i for i, text in enumerate(lines) if text.startswith("Method ") and "accuracy" in text]
    if not heads:
        return {}
    names = re.split(r" {2,}", lines[heads[-1]].strip())
    rows = (re.split(r" {2,}", text.strip()) for text in lines[heads[-1] + 2 : heads[-1] + 10])
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)}


def table_differences(case: Case, rows: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Where a printed table is not what the records say, and the methods that it lacks."""
    wrong, missing = [], []
    for method, title in METHODS.items():
        record, row = case.hand_in.records.get(method), rows.get(title)
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


def _answers(case: Case, line: Line) -> Finding:
    keys = [f"{line.notebook}.{number}" for number in line.questions]
    unknown = [key for key in keys if key not in case.questions]
    if unknown:
        return Finding(None, f"the assignment has no question {', '.join(unknown)}")
    given = sum(bool(case.answers[key]) for key in keys)
    if not given:
        return Finding(0, "no question is answered")
    return Finding(None, f"{given} of {len(keys)} answered")


def _printed(case: Case, notebook: str) -> str:
    """All that the cells of a notebook print, in order."""
    there = case.hand_in.notebooks.get(notebook)
    return "\n".join(cell.printed for cell in there.code) if there else ""


def _int(text: str) -> int | None:
    digits = text.replace(",", "")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


_LOOKS: dict[str, Callable[[Case, Line], Finding]] = {
    "profile": _profile,
    "fingerprint": _fingerprint,
    "sizes": _sizes,
    "ran": _ran,
    "figures": _figures,
    "printed": _printed_something,
    "history": _history,
    "epochs": _epochs,
    "printed_accuracy": _printed_accuracy,
    "predictions": _predictions,
    "accuracy": _accuracy,
    "table": _table,
    "answers": _answers,
}
