"""Facts about notebook files: which there are, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from helpers.errors import KitError
from helpers.lib.folders import ROOT
from helpers.lib.identity import kit_version
from helpers.recipes import METHODS

NOTEBOOK_FOLDER = ROOT / "notebooks"
METHOD_OF = {method.notebook: name for name, method in METHODS.items()}  # by "02" ... "05"
EXTENSIONS = "extensions"  # the folder of those beyond the assignment, among the notebooks
COMPARISON = "06"  # reads what the others wrote: it is out of date as soon as one of them ran
MAY_FAIL = "raises-exception"  # nbval's tag of a cell whose error is meant
OWN_METADATA = "kit"  # the key of what `release` notes in a notebook's metadata
MOST_LINES = 25  # of a code cell
MOST_BYTES = 500_000
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Folders that stand at the top of somebody's machine. A longer list would find fractions in prose.
_TOPS = (
    "home|Users|root|tmp|work|workspace|workspaces|mnt|media|opt|var|usr|etc|srv|private|scratch|"
    "Volumes|content|kaggle"
)
_ABSOLUTE = re.compile(
    rf"(?<![\w.~)}}<\-])/(?:{_TOPS})(?=[/\s\"'`,;:)\]]|\.?$)[^\s\"'`,;:)\]]*"
    r"|\b[A-Z]:(?:\\{1,2}|/)\w{2,}[^\s\"'`,;)\]]*",
    re.MULTILINE,
)
_NOT_A_PATH = re.compile(r"\b(?:https?|ftp)://[^\s\"'<>)\]]+|\bdata:[\w.+/-]+;base64,[\w+/=]+")


def notebook_paths() -> dict[str, Path]:
    """The notebooks of the assignment in their order, from stem to path."""
    return _numbered(NOTEBOOK_FOLDER)


def extension_paths() -> dict[str, Path]:
    """The notebooks of the extensions in their order, from stem to path; none are needed."""
    return _numbered(NOTEBOOK_FOLDER / EXTENSIONS)


def _numbered(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def select_notebooks(names: Sequence[str] | None, *, extensions: bool = False) -> list[Path]:
    """The notebooks that `names` mean, in their own order, each once.

    Args:
        names: Numbers such as "01", stems, or file names, of either kind; None: all of one kind.
        extensions: Without names, all extensions instead of all of the assignment.

    Raises:
        KitError: A name fits no notebook, or there is none.
    """
    assignment, further = notebook_paths(), extension_paths()
    known = assignment | further
    chosen = set() if names else {*(further if extensions else assignment)}
    for name in names or ():
        stem = Path(name).name.removesuffix(".ipynb")
        fits = [one for one in known if stem in (one, one[:2])]
        if not fits:
            raise KitError(f"no notebook {name!r}: there are {', '.join(known)}")
        chosen.update(fits)
    if not chosen:
        folder = NOTEBOOK_FOLDER / EXTENSIONS if extensions else NOTEBOOK_FOLDER
        raise KitError(f"no notebook in {folder}: fetch the kit again")
    return [path for stem, path in known.items() if stem in chosen]


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook of format 4; raises `KitError` that says why the file is not one."""
    try:
        # Unlike nbformat.read, it leaves complaining to us.
        notebook = v4.reads(Path(path).read_text(encoding="utf-8"))
        nbformat.validate(notebook, version=4)
    except OSError as error:
        raise KitError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # nbformat fails in many ways on what is no notebook
        reason = (str(error).splitlines() or [""])[0]
        raise KitError(f"{path} is not a valid notebook: {reason}") from None
    return notebook


def bare_metadata(notebook: NotebookNode) -> NotebookNode:
    """A notebook's metadata without what differs from one machine and run to the next."""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    bare = {"kernelspec": kernel, "language_info": {"name": "python"}}
    if OWN_METADATA in notebook.metadata:
        bare[OWN_METADATA] = notebook.metadata[OWN_METADATA]
    return nbformat.from_dict(bare)


def version_note(name: str, notebook: NotebookNode) -> str:
    """A line that says so when a notebook was released with another version of the kit, else ""."""
    version = notebook.metadata.get(OWN_METADATA, {}).get("version")
    if version in (None, kit_version()):
        return ""
    return (
        f"NOTE     {name} belongs to version {version} of the kit, the helpers here are "
        f"{kit_version()}: take both from one version"
    )


def tags_of(cell: NotebookNode) -> list[str]:
    """The tags of a cell; [] when it has none."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold something, in order: cell n is the n-th one executed."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def has_error(cell: NotebookNode) -> bool:
    """Whether a cell ended in an error that is not meant."""
    failed = any(output.output_type == "error" for output in cell.outputs)
    return failed and MAY_FAIL not in tags_of(cell)


def run_faults(notebook: NotebookNode) -> list[str]:
    """What shows that a notebook did not run from top to bottom without an error; [] when it did.

    They keep it from being handed in; `notebook_faults` of a committed notebook are more.
    """
    faults, cells = [], list(enumerate(code_cells(notebook), start=1))
    for number, cell in cells:
        if cell.execution_count is None:
            faults.append(f"code cell {number} was not executed")
        elif cell.execution_count != number:
            count = cell.execution_count
            faults.append(f"code cell {number} has the execution count {count}: run all cells")
            break  # all that follow are off by as much
    return faults + [
        f"code cell {number} ended in an error" for number, cell in cells if has_error(cell)
    ]


def notebook_faults(path: Path) -> list[str]:
    """What keeps a notebook from being committed, a line a fault; [] when nothing."""
    try:
        notebook = read_notebook(path)
    except KitError as error:
        return [str(error)]
    faults = run_faults(notebook)
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = len(cell.source.splitlines())
        if lines > MOST_LINES:
            faults.append(f"code cell {number} has {lines} lines, more than {MOST_LINES}")
        if any(output.get("name") == "stderr" for output in cell.outputs):
            faults.append(f"code cell {number} writes to stderr: fix what it is warned of")
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs):
            faults.append(f"code cell {number} shows a widget, which is empty without its kernel")
    texts = [cell.source for cell in notebook.cells] + [shown_text(notebook)]
    faults += [f"it holds the absolute path {name}" for name in absolute_paths("\n".join(texts))]
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        faults.append(f"its kernel is {kernel!r}: choose the kernel 'python3' and save")
    if (size := path.stat().st_size) > MOST_BYTES:
        faults.append(f"{size:,} bytes, more than {MOST_BYTES:,}: show smaller or fewer figures")
    return [f"{path.name}: {fault}" for fault in faults]


def absolute_paths(text: str) -> list[str]:
    """The absolute paths in a text, each once, in order; addresses of the web are none."""
    return list(dict.fromkeys(_ABSOLUTE.findall(_NOT_A_PATH.sub(" ", text))))


def shown_text(notebook: NotebookNode) -> str:
    """All the text that the outputs of a notebook show."""
    texts: list[str] = []
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.output_type == "error":
            texts += [output.evalue, *output.traceback]
        else:
            texts += [text for kind, text in output.data.items() if kind.startswith("text/")]
    return "\n".join(texts)
