"""Executed notebooks as parts of an HTML page on which nothing runs and nothing is fetched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import NotebookNode, v4

from coursekit.notebooks import read_notebook
from coursekit.questions import answer_text, question_cells

NBCONVERT_HAS_NO_ALT = "No description has been provided for this image"
NO_ANSWER = "*No answer yet.*"
# What would run or be fetched.
TAGS = ("script", "style", "link", "meta", "base", "iframe", "object", "embed", "form", "template")
ATTRIBUTES = ("srcset", "background", "poster")
_NOTEBOOK = re.compile(r"(?:\.{1,2}/)?(?:extensions/)?(\d\d)_\w+\.ipynb(?:#.*)?")


def notebook_section(path: Path, numbers: Container[str] = ()) -> dict[str, Any]:
    """An executed notebook as a section of the report.

    Args:
        path: The notebook.
        numbers: Those of the notebooks on the page, for the links between them.

    Raises:
        KitError: The notebook is damaged.
    """
    notebook = read_notebook(path)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    number = number_of(path)
    soup, title = _fitted(notebook, path, f"nb-{number}", numbers)
    title = title or path.stem.replace("_", " ")
    title = title if title.startswith(number) else f"{number} {title}"
    return {"kind": "notebook", "key": f"nb-{number}", "title": title, "html": soup}


def answers_section(paths: Sequence[Path], numbers: Container[str] = ()) -> list[dict[str, Any]]:
    """All questions of the notebooks with their answers, as a section; [] without a question.

    Raises:
        KitError: A notebook is damaged.
    """
    parts, unanswered = [], []
    for path in paths:
        number, pairs = number_of(path), question_cells(read_notebook(path))
        cells = [v4.new_markdown_cell(f"## Notebook {number}")] if pairs else []
        for place, (question, answer) in enumerate(pairs, start=1):
            if answer is None or not answer_text(answer.source):
                answer = v4.new_markdown_cell(NO_ANSWER, metadata={"tags": ["answer"]})
                unanswered.append(f"notebook {number}, question {place}")
            cells += [question, answer]
        html, _ = _fitted(v4.new_notebook(cells=cells), path, f"answers-{number}", numbers)
        parts += [html] if pairs else []
    if not parts:
        return []
    section = {"kind": "answers", "key": "answers", "title": "Answers"}
    return [section | {"open": "; ".join(unanswered), "html": Markup("\n").join(parts)}]


def number_of(path: Path) -> str:
    """The number that the file name of a notebook begins with, such as "03"."""
    return path.stem.partition("_")[0]


def slug(text: str) -> str:
    """A heading as an id: lower case, with dashes."""
    return re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-") or "part"


def _fitted(
    notebook: NotebookNode, path: Path, key: str, numbers: Container[str]
) -> tuple[Markup, str]:
    """A notebook as safe HTML whose ids begin with `key`, and its title."""
    exporter = HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    folder = {"metadata": {"path": str(path.parent)}}  # that its pictures are relative to
    text, _ = exporter.from_notebook_node(notebook, folder)
    soup = BeautifulSoup(text, "html.parser")
    _make_safe(soup)
    _describe_images(soup, number_of(path))
    for tag in soup.find_all(id=True):
        tag["id"] = f"{key}-{slug(str(tag['id']))}"
    title = _arrange_headings(soup, key)
    _redirect_links(soup, key, numbers)
    for block in soup.find_all("pre"):
        block["tabindex"] = "0"  # so that it can be scrolled without a mouse
    return Markup(soup), title


def _make_safe(soup: BeautifulSoup) -> None:
    """Take out what would run or be fetched; the page forbids it as well, by its policy."""
    for tag in soup.find_all(TAGS):
        tag.decompose()
    for tag in soup.find_all(True):
        for name in list(tag.attrs):
            if name.lower().startswith("on") or name.lower() in ATTRIBUTES:
                del tag.attrs[name]
    for tag in soup.find_all(["img", "source", "video", "audio", "image"]):
        if not str(tag.get("src", "")).startswith("data:"):
            alt = str(tag.get("alt", "")).replace(NBCONVERT_HAS_NO_ALT, "")
            tag.replace_with(alt or "[picture not kept in the report]")


def _describe_images(soup: BeautifulSoup, number: str) -> None:
    """Give every picture an alternative text: where it is."""
    heading = ""
    for tag in soup.find_all(re.compile("^(h[1-6]|img)$")):
        if tag.name != "img":
            heading = tag.get_text(" ", strip=True)
        elif str(tag.get("alt", "")).strip() in ("", NBCONVERT_HAS_NO_ALT):
            tag["alt"] = f"A figure of notebook {number}, “{heading}”"


def _arrange_headings(soup: BeautifulSoup, key: str) -> str:
    """Take out the title, returned, and put the other headings below it, with no level skipped."""
    headings = soup.find_all(re.compile("^h[1-6]$"))
    title, level, used = "", 2, Counter[str]()
    if headings and headings[0].name == "h1":
        title = headings[0].get_text(" ", strip=True)
        headings.pop(0).decompose()
    for heading in headings:
        level = max(3, min(int(heading.name[1]) + 1, level + 1, 6))
        heading.name, base = f"h{level}", f"{key}-{slug(heading.get_text())}"
        used[base] += 1
        heading["id"] = base if used[base] == 1 else f"{base}-{used[base]}"
    return title


def _redirect_links(soup: BeautifulSoup, key: str, numbers: Container[str]) -> None:
    """Links to headings and to other notebooks lead to their places on this page."""
    for link in soup.find_all("a", href=True):
        address = str(link["href"])
        other = _NOTEBOOK.fullmatch(address)
        if other and other[1] in numbers:
            link["href"] = f"#nb-{other[1]}"
        elif address.startswith("#"):
            link["href"] = f"#{key}-{slug(address[1:])}"
        elif not re.match(r"(?:https?|mailto):", address):
            link.unwrap()  # a file beside the notebook: not here
