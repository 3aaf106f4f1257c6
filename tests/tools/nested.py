"""A pytest run of its own, in another process, with this project's conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import v4

ROOT = Path(__file__).resolve().parents[2]


def run_pytest(
    folder: Path, notebooks: Mapping[str, Sequence[object]], *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder`, with these notebooks (name to code cells or their sources)."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("notebooks", "tests"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "tests" / "test_one.py").write_text("def test_one():\n    pass\n")
    for name, cells in notebooks.items():
        made = [v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        nbformat.write(v4.new_notebook(cells=made), folder / "notebooks" / f"{name}.ipynb")
    own = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *arguments],
        cwd=folder,
        env={**own, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=150,
    )
