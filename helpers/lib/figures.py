"""What all figures are made of, and figures as small PNGs: a notebook of photographs should not
weigh megabytes."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A8A8A",
)  # fmt: skip
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, "black")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 100
PNG_COLORS = 256


def new_axes(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float,
    height: float,
    note: str = "",
    widths: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """A figure of its own, shown as a small PNG, and its axes (rows, columns); `note` below it."""
    from matplotlib import pyplot as plt  # half a second that `start()` need not wait for

    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        dpi=DPI,
        squeeze=False,
        layout="constrained",
        width_ratios=widths,
    )
    # IPython asks for this before it asks matplotlib, whose PNGs are four times as large.
    vars(figure)["_ipython_display_"] = lambda: _display(figure)
    # Closed, it is shown once, by the notebook, and not a second time by pyplot.
    plt.close(figure)
    if note:
        figure.supxlabel(note, fontsize=8, color="#555555", ha="right", x=0.99)
    return figure, axes


def picture_grid(
    pictures: Sequence[torch.Tensor],
    titles: Sequence[str],
    *,
    columns: int,
    note: str = "",
    colors: Sequence[str] | None = None,
) -> Figure:
    """Pictures (3, height, width) in rows of `columns`, each below its title, in its color."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    lines = max(title.count("\n") + 1 if title else 0 for title in map(wrapped, titles))
    figure, axes = new_axes(
        rows, columns, width=1.55 * columns, height=(1.5 + 0.17 * lines) * rows + 0.2, note=note
    )
    colors = colors or ["black"] * len(pictures)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title, color in zip(axes.flat, pictures, titles, colors, strict=False):
        axis.imshow(as_array(picture))
        axis.set_title(wrapped(title), fontsize=8, color=color, parse_math=False)
    return figure


def wrapped(title: str) -> str:
    """A title that fits above a picture: no name in it takes more than two lines."""
    lines = title.split("\n")
    return "\n".join(textwrap.fill(line, 19, max_lines=2, placeholder=" …") for line in lines)


def as_array(picture: torch.Tensor) -> np.ndarray:
    """(height, width, 3) for matplotlib."""
    return picture.permute(1, 2, 0).cpu().numpy()


def small(picture: torch.Tensor, side: int = 110) -> torch.Tensor:
    """A picture no larger than a grid shows it, which keeps notebooks small."""
    shortest = min(picture.shape[-2:])
    if shortest <= side:
        return picture
    shape = [round(length * side / shortest) for length in picture.shape[-2:]]
    scaled = nn.functional.interpolate(
        picture[None].float(), shape, mode="bilinear", antialias=True
    )
    return scaled[0].clamp(0, 255).to(torch.uint8)


def nothing_to_show(text: str, note: str = "") -> Figure:
    """A figure that says why there is nothing to see."""
    figure, axes = new_axes(width=5, height=0.8, note=note)
    axes[0, 0].axis("off")
    axes[0, 0].text(0.5, 0.5, text, ha="center", va="center")
    return figure


def bare(axis: Axes) -> Axes:
    """The same axes without ticks and frame; labels and titles may stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def shortened(name: str, most: int) -> str:
    """A name of at most `most` characters for a title or a legend; "$" begins no formula."""
    name = name if len(name) <= most else name[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")


def _display(figure: Figure) -> None:
    """Show a figure in a notebook as a small PNG."""
    from IPython.display import display

    png = base64.b64encode(png_of(figure)).decode("ascii")
    display({"image/png": png, "text/plain": repr(figure)}, raw=True)


def png_of(figure: Figure, *, dpi: float | None = None) -> bytes:
    """A figure as a PNG of 256 colours, a quarter of the usual size and hardly to be told apart."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi or figure.dpi, facecolor="white")
    picture = Image.open(raw).convert("RGB").quantize(PNG_COLORS, method=Image.Quantize.MEDIANCUT)
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()
