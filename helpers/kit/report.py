"""One HTML page of a whole run: the comparison, its figures, and every notebook as it ran."""

from __future__ import annotations

import base64
import datetime
import logging
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from ..plots import plot_accuracy_against_time, plot_comparison, plot_val_curves
from ..recipes import METHODS
from ..results import Result, compare_pairs, comparison_table, load_results
from ..workspace import Workspace
from .errors import KitError
from .figures import png_of
from .files import write_text
from .flowers import MINI_NOTE
from .notebooks import extension_paths, read_notebook
from .pages import escape as _e
from .pages import page, table

DPI = 150
NBCONVERT_HAS_NO_ALT = "No description has been provided for this image"

_quiet = logging.getLogger("helpers.report")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def write_report(workspace: Workspace, notebooks: Sequence[Path]) -> Path:
    """Write results/<profile>/report.html from the results and the executed notebooks.

    The page needs no network. Results that are missing or cannot be compared are named in it
    instead of failing. Returns its path; raises `KitError` when it cannot be written.
    """
    try:
        results, problem = load_results(workspace), ""
        pairs = compare_pairs(results)
    except KitError as error:
        results, pairs, problem = [], [], str(error)
    sections = [
        ("comparison", "Comparison", _comparison(results, problem)),
        ("pairs", "Is the difference real?", _pairs(pairs)),
        ("figures", "Figures", "".join(_figures(results))),
    ]
    sections = [section for section in sections if section[2]]
    numbers = {path.stem.partition("_")[0] for path in notebooks}
    further = [path for path in notebooks if path.stem in extension_paths()]
    sections += [notebook_section(path, numbers) for path in notebooks if path not in further]
    tables = "\n".join(_extension(workspace, stem) for stem in extension_paths())
    if tables.strip():
        sections.append(("extensions", "Extensions", tables))
    sections += [notebook_section(path, numbers) for path in further]
    target = workspace.results_dir / "report.html"
    write_text(target, _page(workspace, results, sections))
    return target


def _page(
    workspace: Workspace, results: Sequence[Result], sections: Sequence[tuple[str, str, str]]
) -> str:
    """The page around the sections, each of which is an id, a title and its HTML."""
    title = "Transfer learning: report of the assignment"
    contents = "\n".join(f'<li><a href="#{key}">{_e(name)}</a></li>' for key, name, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{_e(name)}</h2>\n{content}\n</section>'
        for key, name, content in sections
    )
    return page(
        title,
        f"""<header>
<h1>{_e(title)}</h1>
{_facts(workspace, results)}
{_notice(workspace, results)}
</header>
<nav aria-label="Contents">
<ol>
{contents}
</ol>
</nav>
<main>
{body}
</main>""",
        HtmlFormatter(style="default").get_style_defs(".highlight"),
    )


def _facts(workspace: Workspace, results: Sequence[Result]) -> str:
    """Who, what, where and when, as a list of terms."""
    records = [result.record for result in results]
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    students = [record["student"] for record in records] or [workspace.student]
    facts = {
        "Student": _each(student or "none given" for student in students),
        "Profile": workspace.profile,
        "Data set": _each(_data_set(record["data"]) for record in records) or "no result yet",
        "Machine": _each(_machine(record) for record in records) or str(workspace.device),
        "Results of": _each(record["finished"][:10] for record in records) or "no result yet",
        "Report of": now,
    }
    rows = "\n".join(f"<dt>{_e(name)}</dt><dd>{_e(fact)}</dd>" for name, fact in facts.items())
    return f"<dl>\n{rows}\n</dl>"


def _each(values: Iterable[str]) -> str:
    """The different ones of some texts, in order."""
    return "; ".join(dict.fromkeys(values))


def _data_set(data: dict) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in data["sizes"].items())
    left_out = f"; left out: {data['left_out']:,}" if data.get("left_out") else ""
    return f"{data['name']}, {data['classes']} classes: {sizes}{left_out}"


def _machine(record: dict) -> str:
    machine, versions = record["machine"], record["versions"]
    count = machine["processes"]
    processes = f"{count} processes with " if count > 1 else ""
    return (
        f"{machine['device_name']} ({machine['device']}), {processes}{machine['threads']} threads, "
        f"{machine['precision']}, torch {versions['torch']}, {machine['system']}"
    )


def _notice(workspace: Workspace, results: Sequence[Result]) -> str:
    """What must be known before any number is read: that the pictures are drawings."""
    notes = _each(result.record["data"].get("note") or "" for result in results)
    if not notes and workspace.profile == "mini":
        notes = MINI_NOTE
    if not notes:
        return ""
    return (
        f'<p class="notice" role="note"><strong>Please note: {_e(notes)}.</strong> These numbers '
        "show that everything works and how the methods differ in a small world; they say nothing "
        "of real flowers.</p>"
    )


def _comparison(results: Sequence[Result], problem: str) -> str:
    parts = [f'<p class="problem">The results cannot be compared: {_e(problem)}</p>'] * bool(
        problem
    )
    there = {result.method for result in results}
    missing = [title for method, title in METHODS.items() if method not in there]
    if missing and not problem:
        parts.append(
            f'<p class="problem">No result yet of: {_e(", ".join(missing))}. Their notebooks '
            "write it.</p>"
        )
    if results:
        caption = "The methods on the same test pictures, in the order of the notebooks"
        parts.append(table(comparison_table(results), caption))
        weights = _each(result.record["weights"]["source"] for result in results)
        parts.append(f'<p class="note">Weights that training started from: {_e(weights)}.</p>')
    return "\n".join(parts)


def _extension(workspace: Workspace, stem: str) -> str:
    """The table of the runs of an extension; "" when it has none."""
    try:
        results = load_results(workspace, extension=stem)
    except KitError as error:
        return f'<p class="problem">The runs of {_e(stem)} cannot be shown: {_e(error)}</p>'
    if not results:
        return ""
    sets = _each(_data_set(result.record["data"]) for result in results)
    notes = _each(note for result in results for note in _run_notes(result.record))
    note = f'\n<p class="note">{_e(notes)}</p>' if notes else ""
    return table(comparison_table(results), f"Runs of {stem}: {sets}") + note


def _run_notes(record: dict) -> Iterator[str]:
    """What must be known of a run of an extension: drawings, and fewer epochs than were meant."""
    if record["data"].get("note"):
        yield record["data"]["note"]
    recipe = record["recipe"]
    if recipe.get("table_epochs", 0) > recipe["num_epochs"]:
        yield (
            f"{record['method']}: {recipe['num_epochs']} of {recipe['table_epochs']} epochs, "
            "limited by KIT_EPOCHS"
        )


def _pairs(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return ""
    caption = (
        "Each pair of methods on the same test pictures: exact McNemar test of the pictures that "
        "only one of the two gets right"
    )
    return table(rows, caption)


def _figures(results: Sequence[Result]) -> Iterator[str]:
    """The three figures of the comparison; none without a result."""
    if not results:
        return
    scores = _each(
        f"{row['Method']} {row['Test accuracy']} ({row['95 % interval']})"
        for row in comparison_table(results)
    )
    times = _each(
        f"{row['Method']} {row['Test accuracy']} after {row['Training']}"
        for row in comparison_table(results)
    )
    bests = _each(
        f"{result.title} best at epoch {result.record['val']['epoch']} with "
        f"{result.record['val']['accuracy']:.1%}"
        for result in results
    )
    yield _figure(plot_comparison, results, "Test accuracy with 95 % intervals", scores)
    yield _figure(plot_accuracy_against_time, results, "Test accuracy and training time", times)
    yield _figure(plot_val_curves, results, "Accuracy on val, epoch by epoch", bests)


def _figure(
    plot: Callable[[Sequence[Result]], Figure], results: Sequence[Result], caption: str, facts: str
) -> str:
    """A figure of the results as a PNG in the page, with its numbers as alternative text."""
    data = base64.b64encode(png_of(plot(results), dpi=DPI)).decode("ascii")
    return (
        f'<figure>\n<img alt="{_e(caption)}: {_e(facts)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{_e(caption)}</figcaption>\n</figure>\n"
    )


def notebook_section(path: Path, numbers: Container[str] = ()) -> tuple[str, str, str]:
    """An executed notebook as a section of the page: its id, its title and its HTML.

    `numbers` are those of the notebooks on the page, for the links between them. Scripts and
    whatever would be fetched are left out. Raises `KitError` for a damaged notebook.
    """
    notebook = read_notebook(path)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
        log=_quiet,
    )
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(path.parent)}})
    soup = BeautifulSoup(text, "html.parser")
    number = path.stem.partition("_")[0]
    key = f"nb-{number}"
    _make_safe(soup)
    _describe_images(soup, number)
    _make_ids_unique(soup, key)
    title = _arrange_headings(soup, key) or path.stem.replace("_", " ")
    _mend_links(soup, key, numbers)
    for block in soup.find_all("pre"):
        block["tabindex"] = "0"  # so that it can be scrolled without a mouse
    return key, title if title.startswith(number) else f"{number} {title}", str(soup)


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
            tag.replace_with(f"[picture not kept in the report{': ' + alt if alt else ''}]")


def _describe_images(soup: BeautifulSoup, number: str) -> None:
    """Give every picture an alternative text; at least it says where it comes from."""
    cells = soup.select("div.code_cell")
    for image in soup.find_all("img"):
        if image.get("alt", "").strip() not in ("", NBCONVERT_HAS_NO_ALT):
            continue
        cell = image.find_parent("div", class_="code_cell")
        where = next((n for n, one in enumerate(cells, start=1) if one is cell), None)
        image["alt"] = f"figure from notebook {number}" + (f", cell {where}" if where else "")


def _make_ids_unique(soup: BeautifulSoup, key: str) -> None:
    """Notebooks share a page: ids that they bring begin with the notebook's own."""
    for tag in soup.find_all(id=True):
        if re.fullmatch("h[1-6]", tag.name):
            continue
        tag["id"] = f"{key}-{_slug(tag['id'])}"


def _arrange_headings(soup: BeautifulSoup, key: str) -> str:
    """Take out the title, returned, and put the other headings below it, with no level skipped."""
    headings: list[Tag] = soup.find_all(re.compile("^h[1-6]$"))
    title, level, used = "", 2, set()
    if headings and headings[0].name == "h1":
        title = headings[0].get_text(" ", strip=True)
        headings.pop(0).decompose()
    for heading in headings:
        level = max(3, min(int(heading.name[1]) + 1, level + 1, 6))
        heading.name = f"h{level}"
        base = name = f"{key}-{_slug(heading.get_text())}"
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
            link["href"] = f"#{key}-{_slug(address[1:])}"
        elif not re.match(r"(?:https?|mailto):", address):
            link.unwrap()  # a file beside the notebook: not here


def _slug(text: str) -> str:
    """A heading as an id: lower case, with dashes."""
    return re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-") or "part"
