"""One HTML page of a whole run: what came out, method by method, and every notebook as it ran."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pygments.formatters import HtmlFormatter

from coursekit.notebooks import extension_paths
from coursekit.pages import escape as _e
from coursekit.pages import page, table, terms
from coursekit.run.notebook_html import answers_section, notebook_section, number_of, slug
from helpers.errors import KitError
from helpers.lib.figures import png_of
from helpers.lib.files import write_text
from helpers.lib.flowers import MINI_NOTE
from helpers.lib.identity import FLOWERS
from helpers.lib.sources import MINI_WEIGHTS_NOTE
from helpers.plots import (
    COLORS,
    plot_accuracy_against_time,
    plot_comparison,
    plot_history,
    plot_val_curves,
)
from helpers.recipes import METHODS
from helpers.results import (
    Result,
    class_accuracy,
    compare_pairs,
    comparison_table,
    confused_pairs,
    load_results,
)
from helpers.workspace import Workspace

DPI = 150
MOST_PAIRS = 5  # of classes that a method mixes up

# A part of the page: the id of its heading, its title and its HTML.
Section = tuple[str, str, str]


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
    numbers = {number_of(path) for path in notebooks}
    further = [path for path in notebooks if path.stem in extension_paths()]
    lessons = [path for path in notebooks if path not in further]
    tables = [_extension(workspace, stem) for stem in extension_paths()]
    sections = [
        ("comparison", "Comparison", _comparison(results, problem)),
        ("figures", "Figures", _figures(results)),
        ("pairs", "Is the difference real?", _pairs(pairs)),
        *(_method(result) for result in results),
        ("answers", "Answers", answers_section(lessons, numbers)),
        ("machine", "Machine and versions", _machine(results)),
        *(notebook_section(path, numbers) for path in lessons),
        ("extensions", "Extensions", "\n".join(filter(None, tables))),
        *(notebook_section(path, numbers) for path in further),
    ]
    target = workspace.results_dir / "report.html"
    write_text(target, _page(workspace, results, [one for one in sections if one[2]]))
    return target


def _page(workspace: Workspace, results: Sequence[Result], sections: Sequence[Section]) -> str:
    """The page around the sections."""
    names = _each(result.record["data"]["name"] for result in results)
    title = f"Transfer learning on {names}" if names else "Transfer learning"
    contents = "\n".join(f'<li><a href="#{key}">{_e(name)}</a></li>' for key, name, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{_e(name)}</h2>\n{content}\n'
        '<p class="back"><a href="#contents">Contents</a></p>\n</section>'
        for key, name, content in sections
    )
    return page(
        title,
        f"""<header>
<p class="kicker">Report of the assignment</p>
<h1>{_e(title)}</h1>
{_facts(workspace, results)}
{_notice(workspace, results)}
{_cards(results)}
</header>
<nav id="contents" aria-label="Contents">
<ol>
{contents}
</ol>
</nav>
<main>
{body}
</main>""",
        HtmlFormatter(style="default").get_style_defs(".highlight"),
    )


# What is said of all methods


def _facts(workspace: Workspace, results: Sequence[Result]) -> str:
    """Who, what, where and when, as a list of terms."""
    records = [result.record for result in results]
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    students = [record["student"] for record in records] or [workspace.student]
    facts = {
        "Student": _each(student or "none given" for student in students),
        "Data set": _each(_data_set(record["data"]) for record in records) or "no result yet",
        "Profile": workspace.profile,
        "Results of": _each(record["finished"][:10] for record in records) or "no result yet",
        "Report of": now,
    }
    return terms(facts)


def _each(values: Iterable[str]) -> str:
    """The different ones of some texts, in order."""
    return "; ".join(dict.fromkeys(values))


def _data_set(data: dict) -> str:
    whole = data.get("all_sizes")
    whole = whole if isinstance(whole, dict) else {}  # if the mini profile took a part of them
    parts = {split: f" of {whole[split]}" if split in whole else "" for split in data["sizes"]}
    sizes = ", ".join(f"{size:,}{parts[split]} {split}" for split, size in data["sizes"].items())
    left_out = f"; left out: {data['left_out']:,}" if data.get("left_out") else ""
    return f"{data['name']}, {data['classes']} classes: {sizes}{left_out}"


def _notice(workspace: Workspace, results: Sequence[Result]) -> str:
    """What must be known before any number is read: that pictures or weights are drawings'."""
    notes = _each(result.record["data"].get("note") or "" for result in results)
    if not notes and workspace.profile == "mini":
        notes = MINI_NOTE if workspace.dataset == FLOWERS else MINI_WEIGHTS_NOTE
    if not notes:
        return ""
    meaning = "how the methods differ in a small world; they say nothing of real flowers"
    if notes == MINI_WEIGHTS_NOTE:
        meaning = "how the methods compare in minutes; the full profile, whose weights come from "
        meaning += "photographs, gives others"
    return (
        f'<p class="notice" role="note"><strong>Please note: {_e(notes)}.</strong> These numbers '
        f"show that everything works and {meaning}.</p>"
    )


def _cards(results: Sequence[Result]) -> str:
    """The test accuracy of each method at a glance, in the colours of the figures."""
    cards = []
    for result, color in zip(results, COLORS, strict=False):
        test = result.record["test"]
        low, high = test["interval"]
        cards.append(
            f'<li><a href="#{_key(result)}" style="border-top-color: {color}">{_e(result.title)} '
            f"<strong>{test['accuracy']:.1%}</strong> "
            f"<small>{low:.1%} to {high:.1%}</small></a></li>"
        )
    if not cards:
        return ""
    label = "Test accuracy of each method, and its 95 % interval"
    return f'<p class="note">{label}:</p>\n<ul class="cards">\n{"".join(cards)}\n</ul>'


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


def _pairs(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return ""
    caption = (
        "Each pair of methods on the same test pictures: exact McNemar test of the pictures that "
        "only one of the two gets right"
    )
    return table(rows, caption)


def _figures(results: Sequence[Result]) -> str:
    """The three figures of the comparison; "" without a result."""
    if not results:
        return ""
    rows = comparison_table(results)
    scores = _each(
        f"{row['Method']} {row['Test accuracy']} ({row['95 % interval']})" for row in rows
    )
    times = _each(f"{row['Method']} {row['Test accuracy']} after {row['Training']}" for row in rows)
    bests = _each(
        f"{result.title} best at epoch {result.record['val']['epoch']} with "
        f"{result.record['val']['accuracy']:.1%}"
        for result in results
    )
    figures = (
        _figure(plot_comparison(results), "Test accuracy with 95 % intervals", scores),
        _figure(plot_accuracy_against_time(results), "Test accuracy and training time", times),
        _figure(plot_val_curves(results), "Accuracy on val, epoch by epoch", bests),
    )
    return f'<div class="figures">\n{"".join(figures)}</div>'


def _figure(figure: Figure, caption: str, facts: str) -> str:
    """A figure as a PNG in the page, with its numbers as alternative text."""
    data = base64.b64encode(png_of(figure, dpi=DPI)).decode("ascii")
    return (
        f'<figure>\n<img alt="{_e(caption)}: {_e(facts)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{_e(caption)}</figcaption>\n</figure>\n"
    )


# One method


def _key(result: Result) -> str:
    return f"method-{slug(result.method)}"


def _method(result: Result) -> Section:
    """A method's own section: what came out, how training went, what is mixed up, the recipe."""
    record, title = result.record, result.title
    first, last = record["history"][0], record["history"][-1]
    said = (
        f"on train from {first['train_accuracy']:.1%} to {last['train_accuracy']:.1%}, on val from "
        f"{first['val_accuracy']:.1%} to {last['val_accuracy']:.1%}, best at epoch "
        f"{record['val']['epoch']} with {record['val']['accuracy']:.1%}"
    )
    caption = f"{title}: loss and accuracy, epoch by epoch"
    tables = [table(_recipe_rows(record["recipe"]), f"Recipe of {title}")]
    if mixed_up := _confused_rows(result):
        tables.insert(0, table(mixed_up, f"Classes that {title} mixes up most on test"))
    parts = (
        terms(_outcome(result)),
        _figure(plot_history(result.run, note=record["data"]["note"]), caption, said),
        f'<div class="beside">\n{"".join(tables)}\n</div>',
    )
    return _key(result), title, "\n".join(parts)


def _outcome(result: Result) -> dict[str, str]:
    """What a method came to, and what it cost."""
    record, test = result.record, result.record["test"]
    (low, high), epochs = test["interval"], record["epochs"]
    total, trained = record["parameters"]["total"], record["parameters"]["trainable"]
    seconds = record["training_seconds"]
    accuracy = class_accuracy(result)
    hardest = int(accuracy.nan_to_num(2.0).argmin())
    return {
        "Test accuracy": f"{test['accuracy']:.1%} ({test['correct']:,} of {test['total']:,}), "
        f"95 % interval {low:.1%} to {high:.1%}",
        "Val accuracy": f"{record['val']['accuracy']:.1%}, the number that chose epoch "
        f"{record['val']['epoch']} of {epochs}",
        "Training": f"{seconds:,.1f} s for {epochs} epochs, {seconds / epochs:,.2f} s each",
        "Hardest class": f"{_class_name(result, hardest)}, {float(accuracy[hardest]):.1%} on test",
        "Parameters": f"{total:,}, {'all' if trained == total else f'{trained:,}'} of them trained",
        "Weights": record["weights"]["source"],
        "Seed": str(record["seed"]),
    }


def _class_name(result: Result, number: int) -> str:
    return result.class_names.get(number, f"class {number}")


def _confused_rows(result: Result) -> list[dict[str, str]]:
    """The pairs of classes that a method mixes up most, as rows of a table."""
    return [
        {
            "Classes": f"{_class_name(result, one)} / {_class_name(result, other)}",
            "Taken for each other": str(len(mistakes)),
            "Pictures of both": str(int(((result.labels == one) | (result.labels == other)).sum())),
        }
        for one, other, mistakes in confused_pairs(result, MOST_PAIRS)
    ]


def _recipe_rows(recipe: Mapping[str, Any]) -> list[dict[str, str]]:
    """The settings of a run, as rows of a table."""
    settings = {key: value for key, value in recipe.items() if key not in ("method", "profile")}
    if isinstance(settings.get("augment"), Mapping):
        augment = settings.pop("augment")
        settings |= {f"augment: {key}": value for key, value in augment.items()}
    return [
        {"Setting": key.replace("_", " "), "Value": _setting(value)}
        for key, value in settings.items()
    ]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return "none" if value is None else str(value)


# Beyond the methods


def _machine(results: Sequence[Result]) -> str:
    """What the methods ran on, and with which versions; each different value once."""
    if not results:
        return ""
    records = [result.record for result in results]
    facts = {
        "Machine": _each(_machine_of(record["machine"]) for record in records),
        "System": _each(record["machine"]["system"] for record in records),
    }
    names = dict.fromkeys(name for record in records for name in record["versions"])
    versions = {
        name: _each(record["versions"].get(name, "not noted") for record in records)
        for name in names
    }
    return terms(facts | versions)


def _machine_of(machine: Mapping[str, Any]) -> str:
    count = machine["processes"]
    processes = f"{count} processes with " if count > 1 else ""
    return (
        f"{machine['device_name']} ({machine['device']}), {processes}{machine['threads']} threads, "
        f"{machine['precision']}"
    )


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
