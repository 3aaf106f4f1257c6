"""What a hand-in shows for each line of the rubric. Everything is read, nothing is run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from coursekit.grading.case import Case
from coursekit.grading.cells import Cell, in_order
from coursekit.grading.history import history_faults
from coursekit.grading.printed import (
    accuracy_printed,
    epochs_printed,
    recorded_accuracy,
    sizes_printed,
    table_differences,
    table_printed,
)
from coursekit.grading.rubric import Line, fraction_of
from coursekit.grading.values import dig, text_of
from coursekit.notebooks import MAY_FAIL
from helpers.recipes import METHODS

NO_LABELS = "not checked: no labels here"


@dataclass(frozen=True)
class Finding:
    """What one line found: the fraction of its points, None when a person has to say; and why."""

    fraction: float | None
    remark: str = ""


def look(case: Case, line: Line) -> Finding:
    """What a hand-in shows for one line of the rubric."""
    if line.notebook and line.notebook in case.templates:
        if line.notebook not in case.hand_in.notebooks:
            return Finding(0, f"notebook {line.notebook} is missing")
    elif line.notebook:
        return Finding(None, f"the assignment has no notebook {line.notebook}")
    if line.method and line.method not in case.hand_in.records:
        return Finding(0, f"there is no record of {METHODS[line.method].title}")
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
    fraction = found.count(wanted) / len(METHODS)
    others = [METHODS[method].title for method, value in prints.items() if value != wanted]
    remarks = [f"other pictures or splits: {', '.join(others)}"] * bool(others)
    remarks += [NO_LABELS] * (not known)
    return Finding(fraction, "; ".join(remarks))


def _sizes(case: Case, line: Line) -> Finding:
    records = case.hand_in.records
    known = [labels.sizes for m in records if (labels := case.own_labels(m)) is not None]
    sizes = [dig(record, "data", "sizes") for record in records.values()]
    wanted = next((size for size in (*known, *sizes) if isinstance(size, dict)), None)
    if wanted is None:
        return Finding(0, "there is no record of the data to compare the sizes with")
    printed = sizes_printed(case, line.notebook)
    right = [s for s in ("train", "val", "test") if printed.get(s) == str(wanted.get(s))]
    if len(right) == 3:
        return Finding(1)
    return Finding(len(right) / 3, f"sizes printed and right: {', '.join(right) or 'none'}")


def _ran(case: Case, line: Line) -> Finding:
    template, matched = case.templates[line.notebook], case.matched[line.notebook]
    wanted = [i for i, c in enumerate(template.cells) if c.kind == "code" and c.source.strip()]
    there = [matched[index] for index in wanted if index in matched]
    failed = (i for i in wanted if i in matched and matched[i].errors)
    errors = [matched[i].errors[0] for i in failed if MAY_FAIL not in template.cells[i].tags]
    ran = sum(cell.count is not None for cell in there)
    fraction = max(ran - len(errors), 0) / max(len(wanted), 1)
    remarks = []
    if len(there) < len(wanted):
        remarks.append(f"{len(wanted) - len(there)} of {len(wanted)} code cells are gone")
    if errors:
        remarks.append(f"{len(errors)} ended in an error ({', '.join(sorted(set(errors)))[:80]})")
    if ran < len(there):
        remarks.append(f"{len(there) - ran} were not run")
    if not in_order(case.hand_in.notebooks[line.notebook].code):
        fraction /= 2
        remarks.append("the cells did not run once each from top to bottom")
    return Finding(fraction, "; ".join(remarks))


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


def _printed_accuracy(case: Case, line: Line) -> Finding:
    shown = accuracy_printed(case, line.notebook)
    if shown is None:
        return Finding(0, "no line 'test: accuracy ...' is printed")
    said = recorded_accuracy(case.hand_in.records[line.method])
    if shown != said:
        return Finding(0, f"it prints {shown}, the record says {said or 'none'}")
    return Finding(1)


def _predictions(case: Case, line: Line) -> Finding:
    measured = case.measured(line.method)
    if measured is None:
        return Finding(0, "there are no predictions that can be read")
    if measured.fault:
        return Finding(0, measured.fault)
    said = recorded_accuracy(case.hand_in.records[line.method])
    if str(measured) != said:
        return Finding(0, f"the predictions give {measured}, the record says {said or 'none'}")
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
    fraction = fraction_of(measured.accuracy, line.bands)
    return Finding(fraction, f"{measured.accuracy:.1%}")


def _table(case: Case, line: Line) -> Finding:
    rows = table_printed(case, line.notebook)
    if not rows:
        return Finding(0, "the comparison table is not printed")
    wrong, missing = table_differences(case, rows)
    remarks = [f"not in the table: {', '.join(missing)}"] * bool(missing) + wrong
    fraction = 1 - (len(missing) + len(wrong)) / len(METHODS)
    return Finding(max(fraction, 0), "; ".join(remarks))


def _answers(case: Case, line: Line) -> Finding:
    keys = [f"{line.notebook}.{number}" for number in line.questions]
    unknown = [key for key in keys if key not in case.questions]
    if unknown:
        return Finding(None, f"the assignment has no question {', '.join(unknown)}")
    given = sum(bool(case.answers[key]) for key in keys)
    if not given:
        return Finding(0, "no question is answered")
    return Finding(None, f"{given} of {len(keys)} answered")


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
