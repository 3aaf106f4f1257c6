"""How a notebook shows the kit's figures, arranged before matplotlib is loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_small_figures() -> None:
    """In a notebook, show each `SmallFigure` as a small PNG; elsewhere do nothing."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        png = shell.display_formatter.formatters["image/png"]
        png.for_type_by_name("helpers.kit.figures", "SmallFigure", _png_of)


def _png_of(figure: Figure) -> bytes:
    from .figures import png_of

    return png_of(figure)
