"""Notebooks as a grader sees them: cells that may be missing, renamed, doubled or damaged."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coursekit.grading.archive import MB, HandInError
from coursekit.questions import BEGIN, SOLUTION, TODO
from helpers.lib.cell_log import source_hash

PLAIN = 8 * MB  # a notebook up to this size is parsed as it is
LONGEST_OUTPUT = 200_000  # characters of a cell's output that are looked at
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Cell:
    """One cell: its source, and what of its outputs a grader looks at."""

    kind: str  # "code" or "markdown"
    source: str
    key: str = ""  # the id that Jupyter gave it, "" in old formats
    tags: tuple[str, ...] = ()
    count: int | None = None  # its place in the order of execution
    printed: str = ""  # all text of its outputs
    pictures: int = 0
    errors: tuple[str, ...] = ()  # names of exceptions

    @property
    def metadata(self) -> dict[str, Any]:
        """As the cells of nbformat have it, so that one reader of questions takes both."""
        return {"tags": self.tags}

    @property
    def digest(self) -> str:
        """The SHA-256 of the source, as the log of executed cells has it."""
        return source_hash(self.source)

    @property
    def is_todo(self) -> bool:
        """Whether students are to write this cell of a template, or a part of it."""
        return not {SOLUTION, TODO}.isdisjoint(self.tags) or BEGIN in self.source


@dataclass
class Notebook:
    """A notebook of a hand-in, or the instructor's own. `faults` says what is wrong with it."""

    name: str  # of its file
    cells: list[Cell] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def code(self) -> list[Cell]:
        """The code cells that hold something."""
        return [cell for cell in self.cells if cell.kind == "code" and cell.source.strip()]


def decode(data: bytes) -> tuple[str, str]:
    """Bytes as text, with what is odd about their encoding ("" when nothing is)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), "it is UTF-16, not UTF-8"
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:].decode("utf-8", "replace"), "it begins with a byte order mark"
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), "it is not UTF-8: read as Windows-1252"


def parse_json(data: bytes) -> tuple[Any, str]:
    """JSON from bytes, with what is odd about their encoding; raises `HandInError`."""
    if not data.strip():
        raise HandInError("it is empty")
    text, oddity = decode(data)
    try:
        return json.loads(text), oddity
    except RecursionError:
        raise HandInError("it is nested too deeply") from None
    except ValueError as error:
        raise HandInError(f"it is not valid JSON ({error})") from None


def parse_notebook(name: str, data: bytes) -> Notebook:
    """A notebook from the bytes of its file; raises `HandInError` when it is none."""
    raw, oddity = parse_json(data)
    notebook = Notebook(name, faults=[oddity] if oddity else [])
    if not isinstance(raw, dict) or ("cells" not in raw and "worksheets" not in raw):
        raise HandInError("it is not a notebook")
    if raw.get("nbformat") != 4:
        notebook.faults.append(f"its format is {_short(raw.get('nbformat'))}, not 4")
    cells = raw.get("cells")
    if not isinstance(cells, list):  # format 3 kept its cells in worksheets
        sheets = raw.get("worksheets")
        cells = [cell for sheet in _dicts(sheets) for cell in _dicts(sheet.get("cells"))]
    notebook.cells = [_cell(cell) for cell in _dicts(cells)]
    if len(notebook.cells) != len(cells):
        notebook.faults.append(f"{len(cells) - len(notebook.cells)} of its cells are damaged")
    keys = Counter(cell.key for cell in notebook.cells if cell.key)
    if twice := sorted(key for key, count in keys.items() if count > 1):
        notebook.faults.append(f"cells are there more than once: {', '.join(map(_short, twice))}")
    return notebook


def _cell(raw: dict[str, Any]) -> Cell:
    metadata = raw.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    count = raw.get("execution_count", raw.get("prompt_number"))
    outputs = _dicts(raw.get("outputs"))
    printed = "\n".join(text for output in outputs for text in _texts(output))
    return Cell(
        kind="code" if raw.get("cell_type") == "code" else "markdown",
        source=_text(raw.get("source", raw.get("input"))),
        key=_text(raw.get("id")),
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        count=count if isinstance(count, int) and not isinstance(count, bool) else None,
        printed=_ANSI.sub("", printed[:LONGEST_OUTPUT]),
        pictures=sum(_is_picture(output) for output in outputs),
        errors=tuple(
            _text(output.get("ename")) or "an error"
            for output in outputs
            if output.get("output_type") in ("error", "pyerr")
        ),
    )


def _texts(output: dict[str, Any]) -> Iterator[str]:
    if output.get("output_type") == "stream":
        yield _text(output.get("text"))
    data = output.get("data")
    if isinstance(data, dict):
        yield _text(data.get("text/plain"))


def _is_picture(output: dict[str, Any]) -> bool:
    data = output.get("data", output)
    return isinstance(data, dict) and any(
        len(_text(value)) > 100
        for kind, value in data.items()
        if kind in ("image/png", "image/jpeg", "image/svg+xml", "png", "jpeg", "svg")
    )


def _text(value: Any) -> str:
    """Text as notebooks hold it: one string, or a list of its lines."""
    if isinstance(value, list):
        value = "".join(line for line in value if isinstance(line, str))
    return clean(value) if isinstance(value, str) else ""


def clean(text: str) -> str:
    """A text without halves of characters, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def squeeze(text: str) -> str:
    """A text without its differences of white space."""
    return " ".join(text.split())


def closest(notebook: Notebook, templates: Mapping[str, Notebook]) -> tuple[str, float]:
    """The number of the template that a notebook resembles most, and how much, in 0 ... 1."""
    keys = {cell.key for cell in notebook.cells if cell.key}
    sources = {squeeze(cell.source) for cell in notebook.cells}
    scores = {
        number: sum(cell.key in keys or squeeze(cell.source) in sources for cell in template.cells)
        / max(len(template.cells), 1)
        for number, template in templates.items()
    }
    best = max(sorted(scores), key=scores.__getitem__)
    return best, scores[best]


def match_cells(notebook: Notebook, template: Notebook) -> dict[int, Cell]:
    """The student's cell for each of the template's, by its index there; missing ones are absent.

    A cell is known by its id, else by its source, else by standing directly after a known one.
    """
    by_key = {cell.key: place for place, cell in enumerate(notebook.cells) if cell.key}
    by_source = {squeeze(cell.source): place for place, cell in enumerate(notebook.cells)}
    sources = [squeeze(cell.source) for cell in template.cells]
    found: dict[int, int] = {}
    for index, cell in enumerate(template.cells):
        if cell.key in by_key:
            found[index] = by_key[cell.key]
        elif sources.count(sources[index]) == 1 and sources[index] in by_source:
            found[index] = by_source[sources[index]]
    taken = set(found.values())
    for index, cell in enumerate(template.cells):
        place = found.get(index - 1, -1) + 1
        is_free = place < len(notebook.cells) and place not in taken
        follows = index not in found and (index == 0 or index - 1 in found)
        if follows and is_free and notebook.cells[place].kind == cell.kind:
            found[index] = place
            taken.add(place)
    return {index: notebook.cells[place] for index, place in sorted(found.items())}


def in_order(cells: Sequence[Cell]) -> bool:
    """Whether code cells were executed once each, from the first to the last, in a new kernel."""
    return [cell.count for cell in cells] == list(range(1, len(cells) + 1))
