"""The figures of the class page, as SVG in a data: address: a picture, in which nothing runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Told apart by shape as well as by colour, in print and by the colour-blind.
MARKS = (("#0b57a4", "o"), ("#b45309", "s"), ("#1b7f4b", "D"), ("#8a2a8f", "x"))
SHADES = ("#b45309", "#e0b070", "#8fb8de", "#0b57a4", "#dddddd")
SETTINGS: Any = {
    "svg.hashsalt": "grading",  # equal figures have equal bytes
    "text.parse_math": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}


@dataclass(frozen=True)
class Figure:
    """A picture for a page: its caption, its data: address, and what it shows, in words."""

    title: str
    source: str
    said: str


def scatter(series: Mapping[str, Sequence[tuple[float, float]]], title: str) -> Figure:
    """Points (seconds, accuracy) of several series; seconds on a logarithmic scale."""

    def draw(axis: Any) -> None:
        for (name, points), (color, mark) in zip(series.items(), MARKS, strict=False):
            seconds, accuracies = [x for x, _ in points], [y for _, y in points]
            axis.scatter(seconds, accuracies, s=20, c=color, marker=mark, alpha=0.7, label=name)
        axis.set(xscale="log", xlabel="seconds of training", ylabel="test accuracy", ylim=(0, 1))
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.yaxis.set_major_formatter("{x:.0%}")
        axis.figure.legend(loc="outside upper center", ncols=len(series), frameon=False)

    return _figure(draw, title, {name: f"{len(points)} runs" for name, points in series.items()})


def strips(series: Mapping[str, Sequence[float]], title: str) -> Figure:
    """One row of marks a series, from 0 to 100 percent, with a line at its mean."""

    def draw(axis: Any) -> None:
        for row, values in enumerate(series.values()):
            color, mark = MARKS[row % len(MARKS)]
            # Moved up and down, so that equal ones can be told apart.
            heights = [row + (place % 5 - 2) * 0.1 for place in range(len(values))]
            axis.scatter(values, heights, s=20, c=color, marker=mark, alpha=0.7)
            if values:
                mean = sum(values) / len(values)
                axis.plot([mean, mean], [row - 0.4, row + 0.4], color="black", linewidth=2)
        axis.set(yticks=range(len(series)), yticklabels=series, xlim=(0, 1), xlabel="test accuracy")
        axis.xaxis.set_major_formatter("{x:.0%}")
        axis.invert_yaxis()

    said = {name: f"{len(values)} runs" for name, values in series.items()}
    return _figure(draw, title, said, height=1 + 0.6 * len(series))


def stacked(counts: Mapping[str, Sequence[int]], parts: Sequence[str], title: str) -> Figure:
    """One bar a row, made of as many pieces as there are parts."""

    def draw(axis: Any) -> None:
        left = [0] * len(counts)
        for place, (part, shade) in enumerate(zip(parts, SHADES, strict=True)):
            widths = [row[place] for row in counts.values()]
            axis.barh(range(len(counts)), widths, left=left, color=shade, label=part)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axis.set(yticks=range(len(counts)), yticklabels=counts, xlabel="hand-ins")
        axis.margins(y=0.01)
        axis.invert_yaxis()
        axis.figure.legend(loc="outside upper center", ncols=len(parts), frameon=False)

    return _figure(draw, title, {"numbers": "as in the table"}, height=1.5 + 0.2 * len(counts))


def _figure(draw: Any, title: str, said: Mapping[str, str], height: float = 4.0) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(SETTINGS):
        canvas = Canvas(figsize=(7.2, height), layout="constrained")
        draw(canvas.add_subplot())
        stream = io.BytesIO()
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    words = "; ".join(f"{name}: {what}" for name, what in said.items())
    return Figure(title, source, f"{title} ({words})")
