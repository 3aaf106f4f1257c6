"""Facts about notebook files: which there are, and what is wrong with one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
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
CHOICE = "01"  # chooses the data set of all
COMPARISON = "06"  # reads what the others wrote: it is out of date as soon as one of them ran
MAY_FAIL = "raises-exception"  # nbval's tag of a cell whose error is meant
OWN_METADATA = "kit"  # the key of what `release` notes in a notebook's metadata
MOST_LINES = 25  # of a code cell
MOST_BYTES = 400_000
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

    Without names, all of the assignment, or with `extensions` all of these. A name is a number such
    as "01", a stem such as "01_dataset_tour", or a file name, of either kind. Raises `KitError`
    that lists what there is when a name fits none, and when there is no notebook.
    """
    assignment, further = notebook_paths(), extension_paths()
    every = list((further if extensions else assignment).values())
    if not every:
        folder = NOTEBOOK_FOLDER / EXTENSIONS if extensions else NOTEBOOK_FOLDER
        raise KitError(f"no notebook in {folder}: fetch the kit again")
    if not names:
        return every
    known = assignment | further
    chosen = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        fits = [one for one in known if stem in (one, one.partition("_")[0])]
        if not fits:
            raise KitError(f"no notebook {name!r}: there are {', '.join(known)}")
        chosen.update(fits)
    return [path for stem, path in known.items() if stem in chosen]


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook of format 4; raises `KitError` that says why the file is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("nbformat") != 4:
            raise KitError(f"{path} is not a notebook of format 4: save it with a current Jupyter")
        notebook = v4.reads(text)  # unlike nbformat.reads, it leaves complaining to us
        nbformat.validate(notebook)
    except OSError as error:
        raise KitError(f"cannot read {path}: {error.strerror or error}") from None
    except KitError:
        raise
    except Exception as error:  # nbformat fails in many ways on what is no notebook
        reason = (str(error).splitlines() or [""])[0]
        raise KitError(f"{path} is not a valid notebook: {reason}") from None
    return notebook


def bare_metadata(notebook: NotebookNode) -> NotebookNode:
    """A notebook's metadata without what differs from one machine and run to the next.

    It is the kernel's name, the language, and what the kit itself noted.
    """
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    bare = {"kernelspec": kernel, "language_info": {"name": "python"}}
    if OWN_METADATA in notebook.metadata:
        bare[OWN_METADATA] = notebook.metadata[OWN_METADATA]
    return nbformat.from_dict(bare)


def version_note(name: str, notebook: NotebookNode) -> str:
    """A line that says so when a notebook was released with another version of the kit, else ""."""
    noted = notebook.metadata.get(OWN_METADATA)
    version = noted.get("version") if isinstance(noted, dict) else None
    if version in (None, kit_version()):
        return ""
    return (
        f"NOTE     {name} belongs to version {version!s:.20} of the kit, the helpers here are "
        f"{kit_version()}: take both from one version"
    )


def tags_of(cell: NotebookNode) -> list[str]:
    """The tags of a cell; [] when it has none."""
    return cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold something, in order: cell n is the n-th one executed."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def may_fail(cell: NotebookNode) -> bool:
    """Whether an error of this cell is meant."""
    return MAY_FAIL in tags_of(cell)


def has_error(cell: NotebookNode) -> bool:
    """Whether a cell ended in an error that is not meant."""
    return not may_fail(cell) and any(output.output_type == "error" for output in cell.outputs)


def run_faults(notebook: NotebookNode) -> list[str]:
    """What shows that a notebook did not run from top to bottom without an error; [] when it did.

    They keep it from being handed in; `notebook_faults` of a committed notebook are more.
    """
    return [*_order_faults(notebook), *_error_faults(notebook)]


def notebook_faults(path: Path) -> list[str]:
    """What keeps a notebook from being committed, a line a fault; [] when nothing."""
    path = Path(path)
    try:
        notebook = read_notebook(path)
    except KitError as error:
        return [str(error)]
    faults = run_faults(notebook)
    for number, cell in enumerate(code_cells(notebook), start=1):
        faults += [f"code cell {number} {fault}" for fault in _cell_faults(cell)]
    faults += _path_faults(notebook)
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        faults.append(f"its kernel is {kernel!r}: choose the kernel 'python3' and save")
    if notebook.metadata.get("widgets"):
        faults.append("it holds saved widget state: switch off saving it, and run all cells again")
    if (size := path.stat().st_size) > MOST_BYTES:
        faults.append(f"{size:,} bytes, more than {MOST_BYTES:,}: show smaller or fewer figures")
    return [f"{path.name}: {fault}" for fault in faults]


def _order_faults(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count is None:
            yield f"code cell {number} was not executed"
        elif cell.execution_count != number:
            yield (
                f"code cell {number} has the execution count {cell.execution_count}: restart the "
                "kernel and run all cells"
            )
            return  # all that follow are off by as much


def _error_faults(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        if has_error(cell):
            error = next(output for output in cell.outputs if output.output_type == "error")
            yield f"code cell {number} ended in {error.ename}"


def _cell_faults(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with one code cell, and with what it shows."""
    lines = cell.source.splitlines()
    if len(lines) > MOST_LINES:
        yield f"has {len(lines)} lines, more than {MOST_LINES}"
    is_checked = any(line.strip().startswith("# NBVAL_CHECK_OUTPUT") for line in lines)
    if is_checked and not cell.outputs:
        yield "is marked NBVAL_CHECK_OUTPUT but has no output"
    if any(output.get("name") == "stderr" for output in cell.outputs):
        yield "writes to stderr: fix what it is warned of"
    for output in cell.outputs:
        data = output.get("data", {})
        if WIDGET_VIEW in data:
            yield "shows a widget, which is empty without its kernel"
        is_value = output.output_type == "execute_result" and "image/png" not in data
        if is_value and "\n" in data.get("text/plain", ""):
            yield "ends in a value whose text is long: give it a name"


def _path_faults(notebook: NotebookNode) -> Iterator[str]:
    numbers = {"code": 0}
    for cell in notebook.cells:
        kind = cell.cell_type
        if kind != "code" or cell.source.strip():
            numbers[kind] = numbers.get(kind, 0) + 1
        where = f"{kind} cell {numbers[kind]}"
        for name in absolute_paths(cell.source):
            yield f"{where} holds the absolute path {name}"
        for output in cell.get("outputs", []):
            for name in absolute_paths(_text_of(output)):
                yield f"the output of {where} shows the absolute path {name}"


def absolute_paths(text: str) -> list[str]:
    """The absolute paths in a text, each once, in order; addresses of the web are none."""
    return list(dict.fromkeys(_ABSOLUTE.findall(_NOT_A_PATH.sub(" ", text))))


def shown_text(notebook: NotebookNode) -> str:
    """All the text that the outputs of a notebook show."""
    return "\n".join(_text_of(output) for cell in code_cells(notebook) for output in cell.outputs)


def _text_of(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.evalue, *output.traceback])
    return "\n".join(
        value for kind, value in output.data.items() if kind.startswith("text/") and value
    )
