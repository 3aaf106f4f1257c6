"""Reading the log of cells that helpers/lib/cell_log.py writes: what ran, and in which session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from helpers.lib.cell_log import Entry

# Of which types a line's values are, by name; what JSON calls a number may come as either.
_TYPES: dict[str, tuple[type, ...]] = {
    "notebook": (str, type(None)),
    "cell": (str,),
    "count": (int,),
    "time": (str,),
    "ok": (bool,),
    "seconds": (float, int),
    "session": (str,),
}


def read_log(text: str) -> tuple[list[Entry], int]:
    """The entries that log.jsonl holds, in their order, and how many of its lines are damaged."""
    entries, damaged = [], 0
    for line in filter(str.strip, text.split("\n")):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, RecursionError, OverflowError):
            damaged += 1
    return entries, damaged


def _entry(values: Any) -> Entry:
    """An entry from the values of its line; raises `ValueError` when they cannot be."""
    if not isinstance(values, dict) or set(values) != set(_TYPES):
        raise ValueError("no entry of a log")
    if any(type(values[name]) not in types for name, types in _TYPES.items()):
        raise ValueError("a value of another type")
    entry = Entry(**values)
    if entry.began.tzinfo is None:
        raise ValueError("a time without its zone")
    return entry


def best_session(
    hashes: Sequence[str], entries: Sequence[Entry], name: str
) -> tuple[list[Entry], list[int]]:
    """Find the session that ran most of a notebook's code cells as they stand, in their order.

    A session of this name is preferred, and a later one to an earlier one.

    Args:
        hashes: The `source_hash` of each code cell of the notebook.
        entries: Of the log.
        name: The notebook's file name.

    Returns:
        The entries of these cells, cell by cell, and the numbers (from 1) of the cells that the
        session does not show.
    """
    sessions: dict[str, dict[tuple[int, str], Entry]] = {}
    for entry in entries:
        sessions.setdefault(entry.session, {})[entry.count, entry.cell] = entry
    cells = list(enumerate(hashes, start=1))
    best_rank, best = (1, False), list[Entry]()
    for ran in sessions.values():
        found = [ran[cell] for cell in cells if cell in ran]
        rank = len(found), any(entry.notebook == name for entry in found)
        if rank >= best_rank:
            best_rank, best = rank, found
    return best, sorted({number for number, _ in cells} - {entry.count for entry in best})
