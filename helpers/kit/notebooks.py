"""Facts about notebook files: which there are, and what is wrong with one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from .errors import KitError
from .identity import kit_version

NOTEBOOK_FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
# The number of a notebook, and the method whose result it writes.
METHOD_OF = {
    "02": "bn_cnn",
    "03": "resnet18_finetune",
    "04": "resnet18_extractor",
    "05": "efficientnet_b5_finetune",
}
EXTENSIONS = "extensions"  # the folder of those beyond the assignment, among the notebooks
CHOICE = "01"  # chooses the data set of all
COMPARISON = "06"  # reads what the others wrote: it is out of date as soon as one of them ran
MAY_FAIL = "raises-exception"  # nbval's tag of a cell whose error is meant
OWN_METADATA = "kit"  # the key of what the kit itself notes in a notebook's metadata
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
_CHECKED = re.compile(r"^\s*#\s*NBVAL_CHECK_OUTPUT", re.MULTILINE)


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


def is_checked(cell: NotebookNode) -> bool:
    """Whether nbval compares the outputs of this cell."""
    return bool(_CHECKED.search(cell.source)) or "nbval-check-output" in tags_of(cell)


def notebook_faults(path: Path, *, max_bytes: int = MOST_BYTES) -> list[str]:
    """What keeps a notebook from being committed, a line a fault; [] when nothing."""
    path = Path(path)
    try:
        notebook = read_notebook(path)
    except KitError as error:
        return [str(error)]
    faults = [fault for check in _CHECKS for fault in check(notebook)]
    size = path.stat().st_size
    if size > max_bytes:
        faults.append(f"{size:,} bytes, more than {max_bytes:,}: show smaller or fewer figures")
    return [f"{path.name}: {fault}" for fault in faults]


def run_faults(notebook: NotebookNode) -> list[str]:
    """What shows that a notebook did not run from top to bottom without an error; [] when it did.

    They keep it from being handed in; `notebook_faults` of a committed notebook are more.
    """
    return [*_order_faults(notebook), *_error_faults(notebook)]


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


def _checked_faults(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        if not is_checked(cell):
            continue
        if not cell.outputs:
            yield f"code cell {number} is marked NBVAL_CHECK_OUTPUT but has no output"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"code cell {number} is marked NBVAL_CHECK_OUTPUT but writes to stderr"


def _display_faults(notebook: NotebookNode) -> Iterator[str]:
    """What a cell shows without meaning to: warnings, and what a value calls itself."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        if not is_checked(cell) and any(one.get("name") == "stderr" for one in cell.outputs):
            yield f"code cell {number} writes to stderr: mend what it is warned of"
        for output in cell.outputs:
            is_result = output.output_type == "execute_result" and "image/png" not in output.data
            if is_result and "\n" in output.data.get("text/plain", ""):
                yield f"code cell {number} ends in a value whose text is long: give it a name"


def _length_faults(notebook: NotebookNode) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = len(cell.source.splitlines())
        if lines > MOST_LINES:
            yield f"code cell {number} has {lines} lines, more than {MOST_LINES}"


def _path_faults(notebook: NotebookNode) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for cell in notebook.cells:
        kind = cell.cell_type
        if kind != "code" or cell.source.strip():
            numbers[kind] = numbers.get(kind, 0) + 1
        where = f"{kind} cell {numbers.get(kind, 0)}"
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


def _kernel_faults(notebook: NotebookNode) -> Iterator[str]:
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"its kernel is {name!r}: choose the kernel 'python3' and save"


def _widget_faults(notebook: NotebookNode) -> Iterator[str]:
    if notebook.metadata.get("widgets"):
        yield "it holds saved widget state: switch off saving it, and run all cells again"
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs):
            yield f"code cell {number} shows a widget, which is empty without its kernel"


_CHECKS: tuple[Callable[[NotebookNode], Iterator[str]], ...] = (
    _order_faults,
    _error_faults,
    _checked_faults,
    _display_faults,
    _length_faults,
    _path_faults,
    _kernel_faults,
    _widget_faults,
)
