"""Where things are: the kit itself, its data, its results, its weights. Reading changes nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI_FOLDER = ROOT / "data" / "mini"


def folder_from_environment(variable: str, default: str | Path) -> Path:
    """The folder that an environment variable names; relative ones are below the kit's root."""
    wanted = Path(os.environ.get(variable) or default)
    if str(wanted).startswith("~"):
        with contextlib.suppress(RuntimeError):  # some users, as in a container, have no home
            wanted = wanted.expanduser()
    return (ROOT / wanted).resolve()


def folders() -> tuple[Path, Path]:
    """The data folder and the results folder."""
    data = folder_from_environment("KIT_DATA", "data")
    return data, folder_from_environment("KIT_RESULTS", "results")


def weights_dir() -> Path:
    """Where pretrained weights are kept: hub/checkpoints below `TORCH_HOME`, else torch's own.

    For a user without a home folder that is .cache below the kit.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or (_home() or ROOT) / ".cache"
    home = folder_from_environment("TORCH_HOME", Path(cache) / "torch")
    return home / "hub" / "checkpoints"


def _home() -> Path | None:
    """The home folder of this user; None for one who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def show_path(path: Path) -> str:
    """A path as a person wants to read it: relative to the kit or to the home folder."""
    for base, prefix in ((ROOT, ""), (_home(), "~/")):
        if base is not None and path.is_relative_to(base):
            return prefix + (path.relative_to(base).as_posix())
    return str(path)
