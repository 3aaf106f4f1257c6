"""Where things are: the kit itself, its data, its results, its weights. Reading changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI_FOLDER = ROOT / "data" / "mini"


def folder_from_environment(variable: str, default: str | Path) -> Path:
    """The folder that an environment variable names; relative ones are below the kit's root."""
    return (ROOT / Path(os.environ.get(variable) or default).expanduser()).resolve()


def folders() -> tuple[Path, Path]:
    """The data folder and the results folder."""
    data = folder_from_environment("KIT_DATA", "data")
    return data, folder_from_environment("KIT_RESULTS", "results")


def weights_dir() -> Path:
    """Where pretrained weights are kept: hub/checkpoints below `TORCH_HOME`, else torch's own."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = folder_from_environment("TORCH_HOME", Path(cache) / "torch")
    return home / "hub" / "checkpoints"


def show_path(path: Path) -> str:
    """A path as a person wants to read it: relative to the kit or to the home folder."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + (path.relative_to(base).as_posix())
    return str(path)
