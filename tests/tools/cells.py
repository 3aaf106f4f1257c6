"""Run the code cells of a notebook as plain Python."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat


def run_cells(path: Path, names: dict[str, Any]) -> list[Any]:
    """Run every code cell with these names; returns what a notebook would show below each."""
    shown = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, path.name, "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), path.name, "eval"), names))
    return shown
