"""What a record and its table of predictions hold, so that whoever reads them may rely on it."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMAS = (1, 2)  # of records that can be read; 2 also says how to use the network on a photo
COLUMNS = ("picture", "label", "prediction", "probability", "class", "predicted_class")
MOST_ROWS = 100_000  # of a table of predictions
LONGEST_PICTURE = 1_000  # characters of a picture's id: a path, and a file's name may have 255

Schema = dict[str, Any]
# "description" is how a message calls what must stand there.
TEXT: Schema = {"type": "string", "description": "a text"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"], "description": "a text or null"}
COUNT: Schema = {"type": "integer", "minimum": 0, "description": "a count"}
POSITIVE: Schema = {"type": "integer", "minimum": 1, "description": "a count above 0"}
NUMBER: Schema = {"type": "number", "minimum": 0, "description": "a number that is not negative"}
FRACTION: Schema = {**NUMBER, "maximum": 1, "description": "a number between 0 and 1"}


def an_object(properties: Mapping[str, Schema], *, optional: Sequence[str] = ()) -> Schema:
    """The schema of an object with these properties, all required but the optional ones."""
    required = [name for name in properties if name not in optional]
    described = {"type": "object", "description": "an object"}
    return {**described, "properties": dict(properties), "required": required}


def a_map(value: Schema) -> Schema:
    """The schema of an object with any keys, whose values are alike."""
    return {"type": "object", "description": "an object", "additionalProperties": value}


def a_list(value: Schema, length: int | None = None) -> Schema:
    """The schema of a list of values that are alike."""
    if length is None:
        return {"type": "array", "description": "a list", "items": value}
    lengths = {"minItems": length, "maxItems": length}
    return {"type": "array", "description": f"a list of {length}", "items": value, **lengths}


_EPOCH = {"epoch": COUNT, "train_loss": NUMBER, "train_accuracy": FRACTION}
_EPOCH |= {"val_loss": NUMBER, "val_accuracy": FRACTION}
_MACHINE = dict.fromkeys(("device", "device_name", "precision", "system"), TEXT)
_THREE_NUMBERS = a_list({"type": "number", "description": "a number"}, 3)
_NORMALIZATION = {
    **an_object({"mean": _THREE_NUMBERS, "std": _THREE_NUMBERS}),
    "type": ["object", "null"],
}
_DATA = {"name": TEXT, "note": TEXT, "fingerprint": TEXT, "classes": POSITIVE}
RECORD: Schema = {
    **an_object(
        {
            "method": TEXT,
            "profile": TEXT,
            "student": TEXT_OR_NULL,
            "seed": COUNT,
            "finished": TEXT,
            "data": an_object({**_DATA, "sizes": a_map(COUNT)}),
            "val": an_object({"accuracy": FRACTION, "epoch": COUNT}),
            "test": an_object(
                {
                    "correct": COUNT,
                    "total": POSITIVE,
                    "accuracy": FRACTION,
                    "interval": a_list(FRACTION, 2),
                }
            ),
            "epochs": POSITIVE,
            "first_loss": NUMBER,
            "seconds": a_map(NUMBER),
            "training_seconds": NUMBER,
            "weights": an_object({"kind": TEXT, "source": TEXT}),
            "parameters": an_object({"total": COUNT, "trainable": COUNT}),
            "recipe": an_object({}),
            "machine": an_object({**_MACHINE, "threads": COUNT}),
            "versions": a_map(TEXT),
            "history": a_list(an_object(_EPOCH)),
            "files": {**a_map(TEXT), "required": ["predictions.csv"]},
        }
    ),
    "if": {"properties": {"schema": {"const": 2}}, "required": ["schema"]},
    "then": an_object(
        {
            "data": an_object({"class_names": a_list(TEXT), "normalization": _NORMALIZATION}),
            "input_shape": a_list(POSITIVE),
            "settings": an_object({}),
        }
    ),
}


def record_fault(record: Any) -> str:
    """One line that names the first fault of a record of schema 1 or 2; "" when there is none."""
    return first_fault(record, RECORD)


def first_fault(value: Any, schema: Schema) -> str:
    """One line that says what in plain values is not as a JSON schema wants it; "" for nothing.

    Numbers must be finite, and texts must be such that UTF-8 can hold them. The schema's
    "description"s say what must stand in a place.
    """
    try:
        error = next(_validator()(schema).iter_errors(value), None)
        return "" if error is None else _in_words(error)
    except RecursionError:
        return "it is nested too deeply"


def _in_words(error: Any) -> str:
    """A fault that jsonschema has found, in one short line."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    place = _short("".join(steps).lstrip("."))
    if error.validator == "required":
        lacking = [key for key in error.validator_value if key not in error.instance]
        return f"it has no {'.'.join(filter(None, [place, lacking[0]]))}"
    if error.validator == "additionalProperties":
        unknown = sorted(map(str, set(error.instance) - set(error.schema["properties"])))
        return f"{_short(', '.join(unknown))} is not used here"
    wanted = error.schema.get("description", error.validator_value)
    return f"its {place or 'content'} is {_short(repr(error.instance))}, not {wanted}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text:.37}..."


@functools.cache
def _validator() -> Any:
    """The class that checks values against schemas, stricter than JSON's own types."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "string": lambda _, value: _is_text(value),
            "integer": lambda _, value: type(value) is int and abs(value) < 2**53,
            "number": lambda _, value: _is_number(value),
        }
    )
    return extend(Draft202012Validator, type_checker=checker)


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be written down: JSON can hold halves of characters."""
    return isinstance(value, str) and value == value.encode("utf-8", "replace").decode("utf-8")


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


@dataclass
class Predictions:
    """The table of one method's predictions, a line a test picture."""

    pictures: list[str]  # ids
    labels: np.ndarray  # (pictures,) int32
    guesses: np.ndarray  # (pictures,) int32
    probabilities: np.ndarray  # (pictures,) int16: of the guess, in 1/10,000, as it is written
    names: dict[int, str]  # of the classes that occur; {} when the table has no names

    @property
    def correct(self) -> int:
        return int((self.labels == self.guesses).sum())


def parse_predictions(text: str) -> Predictions:
    """Read the text of a predictions.csv, whoever wrote it; probabilities are held in 0 ... 1.

    Raises `ValueError` of one line when it is no table as `save_result` writes it.
    """
    try:
        rows = csv.reader(io.StringIO(text))
        head = next(rows, [])
        columns = [head.index(name) for name in COLUMNS[:4]]
        taken = list(itertools.islice(rows, MOST_ROWS + 1))
        pictures, labels, guesses, chances = ([row[column] for row in taken] for column in columns)
        probability = np.array(chances, dtype=float)
        numbers = [np.array(values, dtype=np.int32) for values in (labels, guesses)]
        names: dict[int, str] = {}
        for column, name in zip(columns[1:3], COLUMNS[4:], strict=True):
            if name in head:
                names |= {int(row[column]): row[head.index(name)] for row in taken}
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise ValueError(f"its lines are not as save_result writes them ({error})") from None
    if len(taken) > MOST_ROWS:
        raise ValueError(f"more than {MOST_ROWS:,} lines")
    if max(map(len, pictures), default=0) > LONGEST_PICTURE:
        raise ValueError("a picture has too long a name")
    if not np.isfinite(probability).all():
        raise ValueError("a probability is not a number")
    shown = np.rint(np.clip(probability, 0, 1) * 10_000).astype(np.int16)
    return Predictions(pictures, numbers[0], numbers[1], shown, names)
