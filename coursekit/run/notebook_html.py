"""Executed notebooks as parts of an HTML page on which nothing runs and nothing is fetched."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode, v4

from coursekit.notebooks import read_notebook
from coursekit.pages import escape
from coursekit.questions import answer_text, question_cells

NBCONVERT_HAS_NO_ALT = "No description has been provided for this image"
NO_ANSWER = "*No answer yet.*"
_HEADING = re.compile("^h[1-6]$")
_CALL = re.compile(r"\b([a-z]\w*)\(")

_kit = importlib.import_module("..", __package__)  # with all names that notebooks use
_quiet = logging.getLogger("helpers.report")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def notebook_section(path: Path, numbers: Container[str] = ()) -> tuple[str, str, str]:
    """An executed notebook as a section of the page: its id, its title and its HTML.

    `numbers` are those of the notebooks on the page, for the links between them. Scripts and
    whatever would be fetched are left out. Raises `KitError` for a damaged notebook.
    """
    notebook = read_notebook(path)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    number = number_of(path)
    key = f"nb-{number}"
    soup = _soup_of(notebook, path.parent)
    _describe_images(soup, number)
    title = _arrange(soup, key, numbers) or path.stem.replace("_", " ")
    return key, title if title.startswith(number) else f"{number} {title}", str(soup)


def answers_section(paths: Sequence[Path], numbers: Container[str] = ()) -> str:
    """All questions of the notebooks with their answers, as HTML; "" without a question.

    Questions that have no answer are named first. Raises `KitError` for a damaged notebook.
    """
    parts, open_questions, asked = [], [], 0
    for path in paths:
        pairs = question_cells(read_notebook(path))
        if not pairs:
            continue
        number = number_of(path)
        cells, missing = [v4.new_markdown_cell(f"## Notebook {number}")], []
        for place, (question, answer) in enumerate(pairs, start=1):
            if answer is None or not answer_text(answer.source):
                answer = v4.new_markdown_cell(NO_ANSWER, metadata={"tags": ["answer"]})
                missing.append(str(place))
            cells += [question, answer]
        soup = _soup_of(v4.new_notebook(cells=cells), path.parent)
        _describe_images(soup, number)
        _arrange(soup, f"answers-{number}", numbers)
        parts.append(str(soup))
        asked += len(pairs)
        if missing:
            word = "question" if len(missing) == 1 else "questions"
            open_questions.append(f"notebook {number}, {word} {', '.join(missing)}")
    if not parts:
        return ""
    said = "The question is answered." if asked == 1 else f"All {asked} questions are answered."
    note = f'<p class="note">{said}</p>'
    if open_questions:
        note = f'<p class="problem">Not answered yet: {escape("; ".join(open_questions))}.</p>'
    return "\n".join([note, *parts])


def number_of(path: Path) -> str:
    """The number that the file name of a notebook begins with, such as "03"."""
    return path.stem.partition("_")[0]


def _soup_of(notebook: NotebookNode, folder: Path) -> BeautifulSoup:
    """A notebook as safe HTML; `folder` is the one that its pictures are relative to."""
    exporter = HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
        log=_quiet,
    )
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(folder)}})
    soup = BeautifulSoup(text, "html.parser")
    _make_safe(soup)
    return soup


def _make_safe(soup: BeautifulSoup) -> None:
    """Take out what would run or be fetched."""
    for tag in soup.find_all(
        ["script", "style", "link", "meta", "base", "iframe", "object", "embed", "form", "template"]
    ):
        tag.decompose()
    for tag in soup.find_all(True):
        for name in list(tag.attrs):
            address = re.sub(r"\s", "", str(tag.attrs[name])).lower()
            runs = name.lower().startswith("on") or address.startswith(("javascript:", "vbscript:"))
            if runs or name.lower() in ("srcset", "background", "poster"):
                del tag.attrs[name]
    for tag in soup.find_all(["img", "source", "video", "audio", "image"]):
        if not str(tag.get("src", "")).startswith("data:"):
            alt = tag.get("alt", "")
            alt = "" if alt == NBCONVERT_HAS_NO_ALT else alt
            if alt and tag.find_parent("a"):
                tag.replace_with(alt)  # a badge: its link says all
            else:
                tag.replace_with(f"[picture not kept in the report{': ' + alt if alt else ''}]")


def _arrange(soup: BeautifulSoup, key: str, numbers: Container[str]) -> str:
    """Fit a notebook into the page: ids, headings, links, blocks; returns its title."""
    _make_ids_unique(soup, key)
    title = _arrange_headings(soup, key)
    _mend_links(soup, key, numbers)
    for block in soup.find_all("pre"):
        block["tabindex"] = "0"  # so that it can be scrolled without a mouse
    return title


def _describe_images(soup: BeautifulSoup, number: str) -> None:
    """Give every picture an alternative text: what the call that drew it shows, and where it is."""
    heading = ""
    for tag in soup.find_all(["h1", "h2", "h3", "h4", "h5", "h6", "img"]):
        if tag.name != "img":
            heading = tag.get_text(" ", strip=True)
        elif tag.get("alt", "").strip() in ("", NBCONVERT_HAS_NO_ALT):
            where = f"Notebook {number}" + (f", “{heading}”." if heading else ".")
            tag["alt"] = f"{_shown_by(tag) or 'A figure.'} {where}"


def _shown_by(image: Tag) -> str:
    """What the function of the kit shows that drew a picture; "" when the cell calls none."""
    cell = image.find_parent("div", class_="code_cell")
    source = cell.find(class_="input_area") if cell else None
    shown = list(_figures_called(source.get_text())) if source else []
    if not shown:
        return ""
    pictures = cell.find_all("img")
    place = next(place for place, one in enumerate(pictures) if one is image)
    return shown[place] if len(shown) == len(pictures) else shown[-1]


def _figures_called(source: str) -> Iterator[str]:
    """The first paragraph of what each function in a cell that draws says of itself."""
    for name in _CALL.findall(source):
        plot = getattr(_kit, name, None)
        if inspect.isfunction(plot) and plot.__annotations__.get("return") == "Figure":
            first = (inspect.getdoc(plot) or "").partition("\n\n")[0]
            yield " ".join(first.replace("`", "").split())


def _make_ids_unique(soup: BeautifulSoup, key: str) -> None:
    """Notebooks share a page: ids that they bring begin with the notebook's own."""
    for tag in soup.find_all(id=True):
        if _HEADING.match(tag.name):
            continue
        tag["id"] = f"{key}-{slug(tag['id'])}"


def _arrange_headings(soup: BeautifulSoup, key: str) -> str:
    """Take out the title, returned, and put the other headings below it, with no level skipped."""
    headings: list[Tag] = soup.find_all(_HEADING)
    title, level, used = "", 2, set()
    if headings and headings[0].name == "h1":
        title = headings[0].get_text(" ", strip=True)
        headings.pop(0).decompose()
    for heading in headings:
        level = max(3, min(int(heading.name[1]) + 1, level + 1, 6))
        heading.name = f"h{level}"
        base = name = f"{key}-{slug(heading.get_text())}"
        copies = 1
        while name in used:
            copies += 1
            name = f"{base}-{copies}"
        used.add(name)
        heading["id"] = name
    return title


def _mend_links(soup: BeautifulSoup, key: str, numbers: Container[str]) -> None:
    """Links to headings and to other notebooks lead to their places on this page."""
    for link in soup.find_all("a", href=True):
        address = link["href"]
        other = re.fullmatch(r"(?:\.{1,2}/)?(?:extensions/)?(\d\d)_\w+\.ipynb(?:#.*)?", address)
        if other and other[1] in numbers:
            link["href"] = f"#nb-{other[1]}"
        elif address.startswith("#"):
            link["href"] = f"#{key}-{slug(address[1:])}"
        elif not re.match(r"(?:https?|mailto):", address):
            link.unwrap()  # a file beside the notebook: not here


def slug(text: str) -> str:
    """A heading as an id: lower case, with dashes."""
    return re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-") or "part"
