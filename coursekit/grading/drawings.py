"""Small drawings for the class page, as SVG that is part of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from coursekit.pages import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 46
# Told apart by shape as well as by colour, in print and by the colour-blind.
MARKS = (("#0b57a4", "circle"), ("#b45309", "square"), ("#1b7f4b", "diamond"), ("#8a2a8f", "cross"))

Points = Sequence[tuple[float, float]]


def scatter(series: Mapping[str, Points], *, x_label: str, y_label: str, title: str) -> str:
    """Points of several series: x on a logarithmic scale, y from 0 to 1 in percent."""
    xs = [x for points in series.values() for x, _ in points if x > 0]
    if not xs:
        return f'<p class="note">{escape(title)}: nothing to draw.</p>'
    low, high = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
    high = max(high, low + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - low) / (high - low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            TOP + (1 - y) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_percent_lines()]
    for power in range(low, high + 1):
        x, _ = place(10.0**power, 0)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{10.0**power:,g}", "middle"))
    for (_, points), (color, shape) in zip(series.items(), MARKS, strict=False):
        parts += [_mark(*place(x, y), color, shape) for x, y in points if x > 0]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    parts.append(_text(LEFT, TOP - 3, y_label, "start"))
    return _figure("".join(parts), title, HEIGHT, _legend(list(series)))


def strips(series: Mapping[str, Sequence[float]], *, title: str) -> str:
    """One row of marks a series, from 0 to 100 percent, with a line at its mean."""
    row, top = 44, 10
    height = top + row * max(len(series), 1) + 30
    parts = []

    def across(value: float) -> float:
        return 190 + value * (WIDTH - 190 - RIGHT)

    for tenth in range(0, 11, 2):
        x = across(tenth / 10)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 26}"/>'
        )
        parts.append(_text(x, height - 10, f"{tenth * 10} %", "middle"))
    for number, (name, values) in enumerate(series.items()):
        y = top + row * number + row / 2
        color, shape = MARKS[number % len(MARKS)]
        parts.append(_text(180, y + 4, name, "end"))
        for place, value in enumerate(values):
            shift = (place % 5 - 2) * 4  # so that equal ones can be told apart
            parts.append(_mark(across(value), y + shift, color, shape))
        if values:
            x, low, high = across(sum(values) / len(values)), y - 16, y + 16
            parts.append(
                f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{low:g}" y2="{high:g}"/>'
            )
    return _figure("".join(parts), title, height, "")


def bars(counts: Sequence[int], names: Sequence[str], title: str) -> str:
    """A narrow row of bars for a table: how often each of some values occurs."""
    most, width, height = max([*counts, 1]), 22, 34
    parts = []
    for place, (count, name) in enumerate(zip(counts, names, strict=True)):
        tall = round(count / most * (height - 2), 1)
        x = place * (width + 2)
        parts.append(
            f'<rect class="bar" x="{x}" y="{height - tall:g}" width="{width}" height="{tall:g}">'
            f"<title>{escape(name)}: {count}</title></rect>"
        )
    wide = len(counts) * (width + 2)
    said = f"{title}: " + ", ".join(f"{n} {c}" for n, c in zip(names, counts, strict=True))
    return (
        f'<svg class="bars" viewBox="0 0 {wide} {height}" width="{wide}" height="{height}" '
        f'role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'
    )


def _percent_lines() -> str:
    parts = []
    for fifth in range(6):
        y = TOP + (1 - fifth / 5) * (HEIGHT - TOP - BOTTOM)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{fifth * 20} %", "end"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _mark(x: float, y: float, color: str, shape: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}" fill-opacity="0.7"/>'
    if shape == "square":
        return (
            f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{color}" '
            'fill-opacity="0.7"/>'
        )
    if shape == "diamond":
        path = f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"
        return f'<path d="{path}" fill="{color}" fill-opacity="0.7"/>'
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path d="{path}" stroke="{color}" stroke-width="2" fill="none"/>'


def _legend(names: Sequence[str]) -> str:
    items = []
    for name, (color, shape) in zip(names, MARKS, strict=False):
        mark = _mark(7, 7, color, shape)
        items.append(
            f'<li><svg viewBox="0 0 14 14" width="14" height="14">{mark}</svg>{escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _figure(content: str, title: str, height: int, legend: str) -> str:
    return (
        f'<figure>\n<div class="wide" role="region" aria-label="{escape(title)}" tabindex="0">'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg></div>\n{legend}'
        f"<figcaption>{escape(title)}</figcaption>\n</figure>"
    )
