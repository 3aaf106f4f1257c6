"""What all figures are made of, and figures as small files: a notebook of photographs should not
weigh megabytes."""

from __future__ import annotations

import base64
import functools
import io
import textwrap
import warnings
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
JPEG_QUALITY = 85
# Fonts for scripts that matplotlib's own lacks, as Linux, Windows and macOS have them.
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "PingFang SC",
    "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai",
)  # fmt: skip
PNG_COLORS = 256
MOST_NAMES = 15  # classes whose names fit below a figure
NO_RESULTS = "no results yet: run notebooks 02 to 05 first"


def new_axes(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float,
    height: float,
    note: str = "",
    widths: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """A figure of its own, shown as a small file, and its axes (rows, columns); `note` below it."""
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
    # IPython asks for this before it asks matplotlib, whose files are several times as large.
    vars(figure)["_ipython_display_"] = lambda: _display(figure)
    # Closed, it is shown once, by the notebook, and not a second time by pyplot.
    plt.close(figure)
    if note:
        note = textwrap.fill(note, round(16 * width))  # of which so many letters fit in a line
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
        rows,
        columns,
        width=1.55 * columns,
        height=(1.5 + 0.17 * lines) * rows + (0.35 if note else 0.1),
        note=note,
    )
    colors = colors or ["black"] * len(pictures)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title, color in zip(axes.flat, pictures, titles, colors, strict=False):
        axis.imshow(as_array(picture))
        axis.set_anchor("N")  # what is left of the height is below, not in the title's place
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


def name_classes(axis: Axes, names: Sequence[str]) -> None:
    """Write the names of classes below an axis that has one at 0, 1, ..., if they are few."""
    if len(names) <= MOST_NAMES:
        short = [shortened(name, 24) for name in names]
        axis.set_xticks(range(len(names)), short, rotation=25, ha="right", fontsize=8)


def logarithmic(axis: Axes) -> None:
    """Let the x axis of what is drawn be logarithmic, with few and plain numbers: 20, 500, 2k."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

    def text(value: float, _: object) -> str:
        return f"{value:g}" if value < 1000 else str(EngFormatter(sep="")(value))

    axis.set(xscale="log")
    axis.margins(x=0.15)
    low, high = axis.get_xlim()
    subs = (1, 2, 5) if high < 60 * low else (1, 3) if high < 1000 * low else (1,)
    near = high < 8 * low
    axis.xaxis.set_major_locator(MaxNLocator(4) if near else LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(text)
    axis.xaxis.set_minor_locator(NullLocator())


def shortened(name: str, most: int) -> str:
    """A name of at most `most` characters for a title or a legend; "$" begins no formula."""
    name = name if len(name) <= most else name[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")


def _display(figure: Figure) -> None:
    """Show a figure in a notebook."""
    from IPython.display import display

    encode = jpeg_of if shows_pictures(figure) else png_of
    data = base64.b64encode(encode(figure)).decode("ascii")
    kind = "image/jpeg" if encode is jpeg_of else "image/png"
    display({kind: data, "text/plain": repr(figure)}, raw=True)


def shows_pictures(figure: Figure) -> bool:
    """Whether a figure is made of pictures, and not of lines and letters alone."""
    return any(axis.images for axis in figure.axes)


def png_of(figure: Figure, *, dpi: float | None = None) -> bytes:
    """A figure of lines and letters as a PNG: sharp, and with a palette, which they fit, small.

    Pictures do not fit it: their skies would have steps.
    """
    file, drawn = io.BytesIO(), _drawn(figure, dpi)
    if not shows_pictures(figure):
        drawn = drawn.quantize(PNG_COLORS, method=Image.Quantize.MEDIANCUT)
    drawn.save(file, format="png", optimize=True)
    return file.getvalue()


def jpeg_of(figure: Figure, *, dpi: float | None = None) -> bytes:
    """A figure as a JPEG in full colour: pictures take a quarter of what a PNG needs."""
    file = io.BytesIO()
    _drawn(figure, dpi).save(
        file, format="jpeg", quality=JPEG_QUALITY, subsampling=0, optimize=True
    )
    return file.getvalue()


def _drawn(figure: Figure, dpi: float | None) -> Image.Image:
    """A figure as a picture; class names may be in any script that an installed font has."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_fontfamily(list(_fonts()))
    raw = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph .* missing from")
        figure.savefig(raw, format="png", dpi=dpi or figure.dpi, facecolor="white")
    for one in caught:
        if "missing from" in str(one.message):
            _tell_of_missing_letters()
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return Image.open(raw).convert("RGB")


@functools.lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    """matplotlib's own font, and after it those that are installed for scripts that it lacks."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed))


@functools.lru_cache(maxsize=1)
def _tell_of_missing_letters() -> None:
    print(
        "NOTE: no installed font has some letters of these names, so figures show boxes in their "
        f"place: install one such as {OTHER_SCRIPTS[0]}, or rename the class folders"
    )
