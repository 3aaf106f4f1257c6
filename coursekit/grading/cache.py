"""What is kept of a hand-in that has been looked at, so that an interrupted run goes on."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from coursekit.grading.archive import HandInError
from coursekit.grading.evidence import Finding
from coursekit.grading.find import Place, content_hash
from coursekit.grading.gradebook import Grade, Run
from coursekit.grading.similarity import Material
from coursekit.grading.tampering import Flag
from helpers.errors import KitError
from helpers.lib.files import write_text

FOLDER = Path(__file__).parent


def grader_version() -> str:
    """A hash of this package and of what it decides with: changed code grades anew."""
    digest = hashlib.sha256()
    others = [FOLDER.parent / "kit" / "identity.py", FOLDER.parent / "recipes.py"]
    for path in [*sorted(FOLDER.glob("*.py")), *others]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def key_of(place: Place, settings: str) -> str | None:
    """The name under which a grade is kept; None when the hand-in cannot even be read."""
    try:
        content = content_hash(place)
    except (HandInError, OSError, KitError):
        return None
    return hashlib.sha256(f"{content}\n{settings}".encode()).hexdigest()


def save(path: Path, grade: Grade) -> None:
    """Keep a grade, whole or not at all."""
    write_text(path, json.dumps(_plain(grade), separators=(",", ":")))


def load(path: Path) -> Grade | None:
    """A kept grade; None when there is none, or a damaged one."""
    try:
        return _grade(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """Dataclasses and arrays as plain JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return [value.dtype.str, base64.b64encode(value.tobytes()).decode("ascii")]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _array(value: list[str]) -> np.ndarray:
    kind, text = value
    return np.frombuffer(base64.b64decode(text), dtype=np.dtype(kind))


def _grade(raw: dict[str, Any]) -> Grade:
    material = raw["material"]
    for name in ("answers", "guesses", "chances", "mistakes"):
        material[name] = {key: _array(value) for key, value in material[name].items()}
    material["code"] = _array(material["code"])
    material["sessions"] = tuple(material["sessions"])
    raw["material"] = Material(**material)
    raw["findings"] = {key: Finding(**value) for key, value in raw["findings"].items()}
    raw["runs"] = {key: Run(**value) for key, value in raw["runs"].items()}
    raw["flags"] = [Flag(**value) for value in raw["flags"]]
    return Grade(**raw)
