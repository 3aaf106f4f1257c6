"""Values out of a record or manifest, which may hold anything."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

from coursekit.grading.cells import clean


def dig(value: Any, *path: str) -> Any:
    """A value deep in nested objects, None when there is no such path."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_of(value: Any) -> float | None:
    """A finite number, None for anything else (texts and truth values are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def numbers_of(value: Any, *names: str) -> list[float] | None:
    """The numbers under these names of an object, None unless there are all of them."""
    numbers = [number for name in names if (number := number_of(dig(value, name))) is not None]
    return numbers if len(numbers) == len(names) else None


def accuracy_of(record: dict[str, Any] | None, split: str = "test") -> float | None:
    """The accuracy in a record, None when it is none."""
    value = number_of(dig(record, split, "accuracy"))
    return value if value is not None and 0 <= value <= 1 else None


def text_of(value: Any) -> str:
    """A text that can be written as UTF-8, "" for anything else."""
    return clean(value) if isinstance(value, str) else ""


def time_of(value: Any) -> datetime.datetime | None:
    """A time with its zone (UTC when none is named), None when it is none."""
    try:
        # Python 3.10 does not know the "Z" of ISO 8601.
        time = datetime.datetime.fromisoformat(re.sub("Z$", "+00:00", text_of(value)))
        time = time.replace(tzinfo=time.tzinfo or datetime.timezone.utc)
        return time.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        return None
