"""What a notebook of the student's edition needs on Google Colab: a badge, and the kit there.

Colab opens a single notebook from a repository on GitHub, without the files beside it. So the first
code cell fetches the rest, on Colab only.
"""

from __future__ import annotations

import copy
import re
from pathlib import PurePosixPath
from typing import NamedTuple

from nbformat import NotebookNode

from helpers.errors import KitError

COLAB = "https://colab.research.google.com"
LACKING = ("efficientnet_pytorch", "torchsummary", "pooch")  # what Colab may not have

FETCH = """\
import sys

if "google.colab" in sys.modules and "helpers" not in sys.modules:
    # On Colab only: fetch the kit, and install what is missing there.
    import os
    from pathlib import Path
    from subprocess import check_call

    kit = Path.home() / "{name}"
    if not kit.exists():
        address = "https://github.com/{owner}/{name}"
        check_call(["git", "clone", "-q", "--depth=1", "--branch={branch}", address, str(kit)])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    check_call([*pip, {packages}, "-e", str(kit)])
    os.chdir(kit / "{folder}")
    sys.path.insert(0, str(kit))

"""


class Repository(NamedTuple):
    """Where on GitHub the student's edition will be."""

    owner: str
    name: str
    branch: str


def repository_of(text: str) -> Repository:
    """Read "owner/name" or "owner/name@branch"; raises `KitError` for other texts."""
    found = re.fullmatch(r"([\w-]+)/([\w.-]+?)(?:@([\w./-]+))?", text)
    if found is None:
        raise KitError(f"--repository {text!r}: write owner/name, or owner/name@branch")
    return Repository(found[1], found[2], found[3] or "main")


def for_colab(notebook: NotebookNode, repository: Repository, path: str) -> NotebookNode:
    """Copy a notebook, with a badge below its title and a first code cell that works on Colab.

    Args:
        notebook: As students get it; it has a title and a code cell.
        repository: Where it will be on GitHub.
        path: Where the notebook is in the repository.
    """
    notebook = copy.deepcopy(notebook)
    owner, name, branch = repository
    where = f"{COLAB}/github/{owner}/{name}/blob/{branch}/{path}"
    first, _, rest = notebook.cells[0].source.partition("\n")
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({where})"
    notebook.cells[0].source = f"{first}\n\n{badge}\n{rest}"
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    packages = ", ".join(f'"{name}"' for name in LACKING)
    fetch = FETCH.format(
        **repository._asdict(), packages=packages, folder=PurePosixPath(path).parent
    )
    setup.source = fetch + setup.source
    return notebook
