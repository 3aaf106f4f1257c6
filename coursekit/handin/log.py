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
    """Read a log.

    Args:
        text: what log.jsonl holds.

    Returns:
        Its entries in their order, and how many of its lines are damaged.
    """
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
        hashes: the `source_hash` of each code cell of the notebook.
        entries: of the log.
        name: the notebook's file name.

    Returns:
        The entries of these cells, cell by cell, and the numbers (from 1) of the cells that the
        session does not show.
    """
    sessions: dict[str, list[Entry]] = {}
    for entry in entries:
        sessions.setdefault(entry.session, []).append(entry)
    best_rank, best, best_absent = (1, False), [], list(range(1, len(hashes) + 1))
    for session in sessions.values():
        ran = {(entry.count, entry.cell): entry for entry in session}
        shown = [ran.get(key) for key in enumerate(hashes, start=1)]
        found = [entry for entry in shown if entry is not None]
        rank = len(found), any(entry.notebook == name for entry in found)
        if rank >= best_rank:
            best_rank, best = rank, found
            best_absent = [number for number, entry in enumerate(shown, start=1) if not entry]
    return best, best_absent
