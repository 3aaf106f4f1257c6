"""What a record holds, so that whoever reads one may rely on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def _text(value: Any) -> bool:
    """A text that can be written down: JSON can hold halves of characters."""
    return isinstance(value, str) and value == value.encode("utf-8", "replace").decode("utf-8")


def _text_or_none(value: Any) -> bool:
    return value is None or _text(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return _count(value) or (type(value) is float and math.isfinite(value) and value >= 0)


def _share(value: Any) -> bool:
    return _number(value) and value <= 1


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


# A rule and how a message calls what it takes.
_CALLED: dict[Callable[[Any], bool], str] = {
    _text: "a text",
    _text_or_none: "a text",
    _count: "a count",
    _number: "a number that is not negative",
    _share: "a number between 0 and 1",
    _positive: "a count above 0",
}
# What readers of a record use: a rule for each value, [rule] for a list of any length, a tuple of
# rules for one of that length, and under the key `None` the rule for whatever keys there are.
RECORD: dict[str | None, Any] = {
    "method": _text,
    "profile": _text,
    "student": _text_or_none,
    "seed": _count,
    "finished": _text,
    "data": {
        "name": _text,
        "note": _text,
        "fingerprint": _text,
        "classes": _positive,
        "sizes": {None: _count},
    },
    "val": {"accuracy": _share, "epoch": _count},
    "test": {
        "correct": _count,
        "total": _positive,
        "accuracy": _share,
        "interval": (_share, _share),
    },
    "epochs": _positive,
    "first_loss": _number,
    "seconds": {None: _number},
    "training_seconds": _number,
    "weights": {"kind": _text, "source": _text},
    "parameters": {"total": _count, "trainable": _count},
    "recipe": {"size": _positive, "num_epochs": _positive},
    "machine": {
        "device": _text,
        "device_name": _text,
        "threads": _count,
        "processes": _positive,
        "precision": _text,
        "system": _text,
    },
    "versions": {None: _text},
    "history": [
        {
            "epoch": _count,
            "train_loss": _number,
            "train_accuracy": _share,
            "val_loss": _number,
            "val_accuracy": _share,
        }
    ],
    "files": {"predictions.csv": _text},
}


def record_fault(value: Any, rule: Any = RECORD, place: str = "") -> str:
    """The first thing in a record that is not as it must be, in words; "" when all is."""
    if callable(rule):
        shown = repr(value) if len(repr(value)) <= 40 else f"{value!r:.37}..."
        return "" if rule(value) else f"its {place} is {shown}, not {_CALLED[rule]}"
    if isinstance(rule, list | tuple):
        if not isinstance(value, list):
            return f"its {place} is no list"
        rules = rule if isinstance(rule, tuple) else rule * len(value)
        if len(value) != len(rules):
            return f"its {place} has {len(value)} values, not {len(rules)}"
        pairs = [(one, rules[index], f"{place}[{index}]") for index, one in enumerate(value)]
    elif not isinstance(value, dict):
        return f"its {place} is no object"
    else:
        missing = [key for key in rule if key is not None and key not in value]
        if missing:
            return f"it has no {'.'.join(filter(None, [place, missing[0]]))}"
        pairs = [
            (one, rule.get(key, rule.get(None)), ".".join(filter(None, [place, key])))
            for key, one in value.items()
            if key in rule or None in rule
        ]
    faults = (record_fault(*pair) for pair in pairs)
    return next(filter(None, faults), "")
