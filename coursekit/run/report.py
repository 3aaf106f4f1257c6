"""One HTML page of a whole run: what came out, method by method, and every notebook as it ran.

The functions here say what each section holds; templates/report.html.jinja lays it out.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from pygments.formatters import HtmlFormatter

from coursekit.notebooks import extension_paths
from coursekit.pages import render
from coursekit.run.notebook_html import answers_section, notebook_section, number_of, slug
from helpers.comparison import (
    Table,
    class_accuracy,
    compare_pairs,
    comparison_table,
    confused_pairs,
)
from helpers.comparison_plots import plot_results
from helpers.errors import KitError
from helpers.lib.figures import COLORS, png_of
from helpers.lib.files import write_text
from helpers.lib.flowers import MINI_NOTE
from helpers.lib.identity import FLOWERS
from helpers.lib.sources import MINI_WEIGHTS_NOTE
from helpers.plots import plot_history
from helpers.recipes import METHODS
from helpers.results import Result, load_results
from helpers.workspace import Workspace

DPI = 150
MOST_PAIRS = 5  # of classes that a method mixes up

Section = dict[str, Any]  # its "kind" names a macro of the template, its "key" is its id


def write_report(workspace: Workspace, notebooks: Sequence[Path]) -> Path:
    """Write results/<profile>/report.html; the page needs no network.

    Results that are missing or cannot be compared are named in it instead of failing.

    Args:
        workspace: Whose results are shown.
        notebooks: The executed notebooks to show, in order.

    Returns:
        The path of the report.

    Raises:
        KitError: A notebook is damaged, or the page cannot be written.
    """
    results, pairs, problem = list[Result](), Table(), ""
    try:
        results = load_results(workspace)
        pairs = compare_pairs(results)
    except KitError as error:
        problem = f"The results cannot be compared: {error}"
    numbers = {number_of(path) for path in notebooks}
    further = [path for path in notebooks if path.stem in extension_paths()]
    lessons = [path for path in notebooks if path not in further]
    runs = [run for stem in extension_paths() if (run := _extension(workspace, stem))]
    sections: list[Section] = [
        _comparison(results, problem),
        *([_figures(results)] if results else []),
        *([_section("pairs", "Could it be chance?", rows=pairs)] if pairs else []),
        *map(_method, results),
        *answers_section(lessons, numbers),
        *(
            [_section("machine", "Machine and versions", facts=_machine(results))]
            if results
            else []
        ),
        *(notebook_section(path, numbers) for path in lessons),
        *([_section("extensions", "Extensions", runs=runs)] if runs else []),
        *(notebook_section(path, numbers) for path in further),
    ]
    names = _each(result.record["data"]["name"] for result in results)
    page = render(
        "report.html.jinja",
        title=f"Transfer learning on {names}" if names else "Transfer learning",
        code_style=Markup(HtmlFormatter(style="default").get_style_defs(".highlight")),
        facts=_facts(workspace, results),
        notice=_notice(workspace, results),
        colors=COLORS,
        sections=sections,
    )
    target = workspace.results_dir / "report.html"
    write_text(target, page)
    return target


def _section(kind: str, title: str, key: str = "", **content: object) -> Section:
    return {"kind": kind, "key": key or kind, "title": title, **content}


def _each(values: Iterable[str]) -> str:
    """The different ones of some texts, in order."""
    return "; ".join(filter(None, dict.fromkeys(values)))


# What is said of all methods


def _facts(workspace: Workspace, results: Sequence[Result]) -> dict[str, str]:
    """Who, what, where and when."""
    records = [result.record for result in results]
    students = [record["student"] for record in records] or [workspace.student]
    return {
        "Student": _each(student or "none given" for student in students),
        "Data set": _each(_data_set(record["data"]) for record in records) or "no result yet",
        "Profile": workspace.profile,
        "Results of": _each(record["finished"][:10] for record in records) or "no result yet",
        "Report of": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _data_set(data: Mapping[str, Any]) -> str:
    whole = data.get("all_sizes") or {}  # if the mini profile took a part of them
    parts = {split: f" of {whole[split]}" if split in whole else "" for split in data["sizes"]}
    sizes = ", ".join(f"{size:,}{parts[split]} {split}" for split, size in data["sizes"].items())
    left_out = f"; left out: {data['left_out']:,}" if data.get("left_out") else ""
    return f"{data['name']}, {data['classes']} classes: {sizes}{left_out}"


def _notice(workspace: Workspace, results: Sequence[Result]) -> dict[str, str]:
    """What must be known before any number is read: that pictures or weights are drawings'."""
    notes = _each(result.record["data"].get("note") or "" for result in results)
    if not notes and workspace.profile == "mini":
        notes = MINI_NOTE if workspace.dataset == FLOWERS else MINI_WEIGHTS_NOTE
    if not notes:
        return {}
    meaning = "how the methods differ in a small world; they say nothing of real flowers"
    if MINI_NOTE not in notes:
        meaning = "how methods are compared; which of them wins says little of the full profile, "
        meaning += "for drawings of 64 pixels are far from photographs"
    return {"notes": notes, "meaning": meaning}


def _comparison(results: Sequence[Result], problem: str) -> Section:
    there = {result.method for result in results}
    missing = ", ".join(one.title for name, one in METHODS.items() if name not in there)
    if missing and not problem:
        problem = f"No result yet of: {missing}. Their notebooks write it."
    weights = _each(result.record["weights"]["source"] for result in results)
    rows, problems = comparison_table(results), [problem] if problem else []
    return _section("comparison", "Comparison", problems=problems, rows=rows, weights=weights)


def _figures(results: Sequence[Result]) -> Section:
    """The three figures of the comparison."""
    by_time = plot_results(results, x="training_seconds")
    by_epoch = plot_history({result.title: result.run for result in results}, x="fraction")
    table, methods = "the numbers are in the table above", "the methods below tell their best epoch"
    images = [
        _figure(plot_results(results), "Test accuracy with 95 % intervals", table),
        _figure(by_time, "Test accuracy and training time", table),
        _figure(by_epoch, "Accuracy on val, epoch by epoch", methods),
    ]
    return _section("figures", "Figures", images=images)


def _figure(figure: Figure, caption: str, facts: str) -> dict[str, str]:
    """A figure as a PNG in the page, with its numbers as alternative text."""
    data = base64.b64encode(png_of(figure, dpi=DPI)).decode("ascii")
    return {"caption": caption, "facts": facts, "data": data}


def _machine(results: Sequence[Result]) -> dict[str, str]:
    """What the methods ran on, and with which versions; each different value once."""
    records = [result.record for result in results]
    facts = {
        "Machine": _each(_machine_of(record["machine"]) for record in records),
        "System": _each(record["machine"]["system"] for record in records),
    }
    for name in records[0]["versions"]:
        facts[name] = _each(record["versions"].get(name, "not noted") for record in records)
    return facts


def _machine_of(machine: Mapping[str, Any]) -> str:
    count, device = machine.get("processes", 1), machine["device"]
    processes = f"{count} processes with " if count > 1 else ""
    threads = f"{processes}{machine['threads']} threads"
    return f"{machine['device_name']} ({device}), {threads}, {machine['precision']}"


# One method, or one extension


def _method(result: Result) -> Section:
    """A method's own section: what came out, how training went, what is mixed up, the recipe."""
    record, val = result.record, result.record["val"]
    first, last = record["history"][0], record["history"][-1]
    said = (
        f"on train from {first['train_accuracy']:.1%} to {last['train_accuracy']:.1%}, on val from "
        f"{first['val_accuracy']:.1%} to {last['val_accuracy']:.1%}, best at epoch {val['epoch']} "
        f"with {val['accuracy']:.1%}"
    )
    history = plot_history(result.run, note=record["data"]["note"])
    accuracy = class_accuracy(result)
    hardest = int(accuracy.nan_to_num(2.0).argmin())
    return _section(
        "method",
        result.title,
        f"method-{slug(result.method)}",
        record=record,
        hardest=f"{result.class_names[hardest]}, {float(accuracy[hardest]):.1%} on test",
        history=_figure(history, f"{result.title}: loss and accuracy, epoch by epoch", said),
        confused=list(_confused(result)),
        recipe=list(_settings(record["recipe"])) or list(_settings(record.get("settings") or {})),
    )


def _confused(result: Result) -> Iterator[dict[str, str]]:
    """The pairs of classes that a method mixes up most, as rows of a table."""
    for one, other, mistakes in confused_pairs(result, MOST_PAIRS):
        pictures = int(((result.labels == one) | (result.labels == other)).sum())
        yield {
            "Classes": f"{result.class_names[one]} / {result.class_names[other]}",
            "Confused with each other": str(len(mistakes)),
            "Pictures of both": str(pictures),
        }


def _settings(recipe: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The settings of a run, as rows of a table."""
    for key, value in recipe.items():
        if key in ("method", "profile"):
            continue
        inner = value if isinstance(value, Mapping) else {"": value}
        for name, setting in inner.items():
            text = ", ".join(map(str, setting)) if isinstance(setting, list) else setting
            shown = "none" if text is None else str(text)
            yield {"Setting": f"{key}: {name}".rstrip(": ").replace("_", " "), "Value": shown}


def _extension(workspace: Workspace, stem: str) -> dict[str, Any]:
    """The runs of an extension, or why they cannot be shown; {} when it has none."""
    try:
        results = load_results(workspace, extension=stem)
    except KitError as error:
        return {"name": stem, "problem": str(error)}
    if not results:
        return {}
    return {
        "name": stem,
        "problem": "",
        "rows": comparison_table(results),
        "sets": _each(_data_set(result.record["data"]) for result in results),
        "notes": _each(note for result in results for note in _run_notes(result.record)),
    }


def _run_notes(record: Mapping[str, Any]) -> Iterator[str]:
    """What must be known of a run of an extension: drawings, and fewer epochs than were meant."""
    yield record["data"].get("note") or ""
    wanted, ran = record["recipe"].get("table_epochs", 0), record["recipe"].get("num_epochs", 0)
    if wanted > ran:
        yield f"{record['method']}: {ran} of {wanted} epochs, limited by KIT_EPOCHS"
