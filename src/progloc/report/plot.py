"""What all figures share: style, colours that people of any colour vision can tell apart, and the way to a PNG."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette."""
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a name may hold two dollars
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_DPI = 160


def styled() -> AbstractContextManager[None]:
    """Return the context in which a figure is made and turned into a PNG."""
    return mpl.rc_context(STYLE)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG, cropped to what is drawn."""
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png", dpi=_DPI, facecolor="white", bbox_inches="tight")
    return file.getvalue()


def scale_by_ratio(axes: Axes, unit: str = "") -> None:
    """Make the y axis logarithmic, labelled with a few round numbers instead of powers of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(f"{{x:g}}{unit}")
    axes.yaxis.set_minor_locator(NullLocator())
