"""The command `check`: what this machine has and lacks, line by line, with what to do about it.

It must also run where packages are missing, so whatever needs one is imported after that was said.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 10)
INSTALL = "run `python -m pip install -r requirements.txt` in the folder of the kit"

# A text, and what it means: "ok", "missing" (only the full profile needs it), "problem", or "stop":
# a problem without whose end the mini profile cannot run.
Finding = tuple[str, str]


def check_machine(dataset: str | None = None) -> int:
    """Print what this machine has and lacks.

    Args:
        dataset: A data set or folder whose every picture is looked at, too; None: the one that
            notebook 01 has chosen, unless it is Flowers102.

    Returns:
        0 when the mini profile can run, else 1.
    """
    stopped = False
    for status, text in _findings(dataset):
        print(f"[{'problem' if status == 'stop' else status}]".ljust(10) + text)
        stopped |= status == "stop"
    print("The mini profile cannot run yet: see above." if stopped else "The mini profile can run.")
    return int(stopped)


def _findings(dataset: str | None) -> Iterator[Finding]:
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info >= OLDEST_PYTHON:
        yield "ok", text
    else:
        yield "stop", f"{text}: the kit needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    yield from _packages()
    try:
        from coursekit.machine import findings
    except ImportError as error:
        yield "stop", f"cannot look further: {error}"
        return
    yield from findings(dataset)


def _packages() -> Iterator[Finding]:
    """A finding about each line of requirements.txt."""
    from packaging.requirements import Requirement

    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue  # of another Python
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield "stop", f"{wanted.name} is not installed: {INSTALL}"
            continue
        if wanted.specifier.contains(version, prereleases=True):
            yield "ok", f"{wanted.name} {version}"
        else:
            yield "stop", f"{wanted.name} {version}, but {wanted.specifier} is wanted: {INSTALL}"
