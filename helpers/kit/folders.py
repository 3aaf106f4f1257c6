"""Where things are: the kit itself, its data, its results, its weights; needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI_FOLDER = ROOT / "data" / "mini"


def folders() -> tuple[Path, Path]:
    """The data folder and the results folder; also makes `TORCH_HOME` absolute, for torch."""
    if os.environ.get("TORCH_HOME"):
        os.environ["TORCH_HOME"] = str(folder_from_environment("TORCH_HOME", ""))
    else:  # torch would take an empty one for the folder that it stands in
        os.environ.pop("TORCH_HOME", None)
    return folder_from_environment("KIT_DATA", "data"), folder_from_environment(
        "KIT_RESULTS", "results"
    )


def folder_from_environment(variable: str, default: str) -> Path:
    """The folder that an environment variable names; relative ones are below the kit's root."""
    return (ROOT / Path(os.environ.get(variable) or default).expanduser()).resolve()


def show_path(path: Path) -> str:
    """A path as a person wants to read it: relative to the kit or to the home folder."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + (path.relative_to(base).as_posix())
    return str(path)
