"""The curve as a figure: price over the dial, price over locality, and what each layer becomes."""

from __future__ import annotations

__all__ = ["drawing"]

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from progloc.dial_curve.curve import Curve
from progloc.printing import visible
from progloc.suite.figures import STYLE

# Okabe and Ito's colours, told apart with any colour vision
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DPI = 160


def drawing(curves: Sequence[Curve]) -> bytes:
    """Return the figure as a PNG: full lines keep the sink, dashed ones dial it too."""
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(12.5, 4.2), layout="constrained")
        by_delta, by_fidelity, layers = drawn.subplots(1, 3)
        lines, labels = [], []
        for curve, colour in zip(curves, _COLOURS * len(curves), strict=False):
            for keep_sink in (True, False):
                part = curve.part(keep_sink)
                price = [point.report.perplexity for point in part]
                look = {"color": colour, "linestyle": "-" if keep_sink else "--", "marker": "o", "markersize": 3.5}
                by_delta.plot([point.delta for point in part], price, **look)
                lines += by_fidelity.plot([point.report.fidelity_no_sink for point in part], price, **look)
                labels.append(visible(f"{curve.name}, sink {'kept' if keep_sink else 'dialled'}"))
        for axes in (by_delta, by_fidelity):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylabel("perplexity")
        by_delta.set(xlabel="dial δ", title="Over the dial")
        by_fidelity.set(xlabel="fidelity without the sink F°", title="Over locality")
        # named here, for matplotlib leaves a line out whose own label begins with _
        drawn.legend(lines, labels, loc="outside lower center", ncols=max(2, len(curves)), fontsize=8)
        part = curves[0].part()
        values = np.array([[layer.fidelity_no_sink for layer in point.report.layers] for point in part]).T
        image = layers.imshow(values, aspect="auto", origin="lower", cmap="cividis", vmin=0, vmax=1)
        layers.set_xticks(range(len(part)), [f"{point.delta:g}" for point in part])
        layers.grid(visible=False)
        layers.yaxis.set_major_locator(MaxNLocator(integer=True))
        layers.set(xlabel="dial δ", ylabel="layer", title=visible(f"F° by layer: {curves[0].name}"))
        drawn.colorbar(image, ax=layers, label="F°")
        FigureCanvasAgg(drawn)
        file = io.BytesIO()
        drawn.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
