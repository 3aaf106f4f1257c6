"""results/assignment.json: what one notebook decides for all, the student's id and the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.errors import KitError
from helpers.lib.files import read_json, write_json
from helpers.lib.identity import FLOWERS

# What assignment.json keeps, and how a message calls it.
KEPT = {"student": "student id", "dataset": "name of a data set"}


def remember_student(student: str | None, results_dir: Path) -> str | None:
    """Keep the id in assignment.json, so that it is typed once; without one, read it there."""
    student = str(student or "").strip()
    if not student:
        return read_assignment(results_dir).get("student")
    remember(results_dir, "student", student)
    return student


def read_assignment(results_dir: Path) -> dict[str, Any]:
    """What assignment.json keeps from one notebook to the next; raises `KitError` when damaged."""
    path = results_dir / "assignment.json"
    saved = read_json(path) if path.exists() else {}
    again = "delete it, and run notebook 01 again with your id in start()"
    if not isinstance(saved, dict):
        raise KitError(f"{path} holds no student id: {again}")
    for key, what in KEPT.items():
        value = saved.get(key)
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            raise KitError(f"{path} holds no {what}, its {key!r} is {value!r:.40}: {again}")
    return saved


def remember(results_dir: Path, key: str, value: str) -> None:
    """Keep a value in assignment.json, and whatever else is there."""
    saved = read_assignment(results_dir)
    default = FLOWERS if key == "dataset" else None
    if saved.get(key, default) != value:
        write_json(results_dir / "assignment.json", {**saved, key: value})
