"""Figures as small PNGs: a notebook of photographs should not weigh megabytes."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

COLORS = 256


class SmallFigure(Figure):
    """A figure that a notebook shows as a small PNG.

    A class of its own, because IPython resets what it does with matplotlib's whenever it sets up
    the inline backend.
    """


def bare(axis: Axes) -> Axes:
    """The same axes without ticks and frame; labels and titles may stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def shortened(name: str, most: int) -> str:
    """A name for a title or a legend, of at most that many characters; a longer one ends in dots.

    A dollar sign is one, and does not begin a formula.
    """
    name = name if len(name) <= most else name[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")


def png_of(figure: Figure, *, dpi: float | None = None) -> bytes:
    """A figure as a PNG of 256 colours, a quarter of the usual size and hardly to be told apart."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi or figure.dpi, facecolor="white")
    picture = Image.open(raw).convert("RGB").quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
