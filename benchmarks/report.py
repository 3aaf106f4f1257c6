"""What a run leaves behind: measurements as JSON, as a table for a README, and as a figure."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from helpers.errors import KitError
from helpers.lib.figures import BLUE, VERMILLION, png_of
from helpers.lib.files import read_json, write_json, written_atomically

SCHEMA = 1
BUSY = 20  # percent of the processor: more than that, taken by others, spoils a measurement
DPI = 150


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the kit, what it is compared with, and the ratio of the two."""

    case: str
    what: str
    against: str  # what the kit is compared with
    theirs: float
    kit: float
    unit: str
    ratio: float  # how many times better the kit is; with `lower_is_better`, how many times as much
    how: str  # what was measured, and what was multiplied
    aim: float | None = None  # what the project wants the ratio to be
    lower_is_better: bool = False
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def reaches_aim(self) -> bool:
        if self.aim is None:
            return True
        return self.ratio <= self.aim if self.lower_is_better else self.ratio >= self.aim


@dataclasses.dataclass
class Report:
    """All rows of a run, and what is to be known of it."""

    machine: dict[str, Any]
    plan: dict[str, Any]
    rows: list[Row] = dataclasses.field(default_factory=list)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)  # case -> what went wrong

    @property
    def stem(self) -> str:
        """The name of its files: when it began, and whether it was a quick one."""
        began = self.machine["date"][:19].replace(":", "")
        return f"{'quick-' if self.plan['quick'] else ''}{began}"

    def write(self, folder: Path) -> Path:
        """Write the JSON file into `folder`, replacing an earlier state of it; returns its path."""
        path = folder / f"{self.stem}.json"
        write_json(path, {"schema": SCHEMA, **dataclasses.asdict(self)})
        return path

    def write_figure(self, folder: Path) -> Path:
        """Write the figure beside the JSON file; returns its path."""
        path = folder / f"{self.stem}.png"
        with written_atomically(path) as temporary:
            temporary.write_bytes(png_of(plot_ratios(self), dpi=DPI))
        return path


def read_report(path: Path) -> Report:
    """Read what `Report.write` wrote; raises `KitError` when it is not that."""
    try:
        saved = read_json(path)
        if saved.pop("schema") != SCHEMA:
            raise KeyError("schema")
        rows = [Row(**row) for row in saved.pop("rows")]
        return Report(rows=rows, **saved)
    except (KitError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).partition(";")[0]
        raise KitError(f"{path} holds no results of this benchmark ({reason})") from None


def markdown(report: Report) -> str:
    """The table for a README, how each row was measured, and the machine."""
    lines = [
        "| measured | compared with | | the kit | ratio | aim |",
        "|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        cells = [
            f"{row.case}: {row.what}",
            row.against,
            with_unit(row.theirs, row.unit),
            with_unit(row.kit, row.unit),
            f"**{number(row.ratio)}**",
            aim_text(row),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", machine_text(report), ""]
    lines += [f"- {row.case}: {row.how}" for row in report.rows]
    lines += [f"- {case}: NOT MEASURED: {fault}" for case, fault in report.failures.items()]
    return "\n".join(lines)


def aim_text(row: Row) -> str:
    """The aim of a row, and whether it was missed."""
    if row.aim is None:
        return ""
    text = f"{'at most' if row.lower_is_better else 'at least'} {row.aim:g}"
    return text if row.reaches_aim else f"{text}: missed"


def machine_text(report: Report) -> str:
    """One sentence that names the machine and the conditions, and says what spoils them."""
    machine, plan = report.machine, report.plan
    device = "" if machine["device"] == "cpu" else f", device {machine['device_name']}"
    text = (
        f"Measured on {machine['processor']} ({machine['cores']} cores, threads used: "
        f"{machine['threads']}, {machine['memory_gb']} GB{device}) on {machine['date'][:10]}; "
        f"torch {machine['torch']}, torchvision {machine['torchvision']}; the kit in "
        f"{machine['precision']}, the tutorial way in float32; seed {machine['seed']}; medians "
        f"over rounds in turn after a warm-up: {plan['rounds']}."
    )
    if plan["quick"]:
        text += " QUICK RUN: a few small pictures, ratios are rough and no accuracy was measured."
    if machine["busy_percent"] > BUSY:
        text += f" The processor was {machine['busy_percent']:.0f} % BUSY with other work."
    return text


def with_unit(value: float, unit: str) -> str:
    """A value with its unit, on one line."""
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Three digits that count, without an exponent: "1,234", "43.2", "0.794"."""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def plot_ratios(report: Report) -> Figure:
    """A bar a row on a log axis, from 1 (equal) to the ratio, with a mark at its aim."""
    rows = report.rows[::-1]  # the first on top
    figure = Figure(figsize=(8, 1.6 + 0.62 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.set_xscale("log")
    for place, row in enumerate(rows):
        color, hatch = (VERMILLION, "///") if row.lower_is_better else (BLUE, None)
        axis.barh(
            place, row.ratio - 1, left=1, color=color, hatch=hatch, ec="white", height=0.6, lw=0
        )
        end = max(row.ratio, 1)
        axis.annotate(
            number(row.ratio), (end, place), (6, 0), textcoords="offset points", va="center"
        )
        if row.aim is not None:
            axis.plot([row.aim] * 2, [place - 0.42, place + 0.42], color="black", lw=2)
    labels = [textwrap.fill(f"{row.case}: {row.what}", 44) for row in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=9)
    _dress(axis, rows)
    note = textwrap.fill(machine_text(report), 130)
    figure.supxlabel(note, fontsize=7, color="#555555", ha="right", x=0.99)
    return figure


def _dress(axis: Axes, rows: list[Row]) -> None:
    """Ticks, limits, the line at 1 and the legend of `plot_ratios`."""
    ends = [1.0, *(row.ratio for row in rows), *(row.aim for row in rows if row.aim)]
    axis.set_xlim(min(ends) / 1.6, max(ends) * 2.2)
    axis.axvline(1, color="black", lw=1)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("ratio, log scale")
    axis.spines[["top", "right"]].set_visible(False)
    handles = [
        Patch(fc=BLUE, label="times better (more is better)"),
        Patch(fc=VERMILLION, hatch="///", ec="white", label="times as much (less is better)"),
        axis.plot([], [], color="black", lw=2, label="aim")[0],
    ]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=3,
                frameon=False, fontsize=8)  # fmt: skip
