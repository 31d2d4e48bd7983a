"""The curve as a figure: price over the dial, price over locality, and what each layer becomes."""

from __future__ import annotations

__all__ = ["drawing"]

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from progloc.dial_curve.curve import Curve
from progloc.report.plot import COLOURS, png, scale_by_ratio, styled
from progloc.report.printing import visible


def drawing(curves: Sequence[Curve]) -> bytes:
    """Return the figure as a PNG: full lines keep the sink, dashed ones dial it too."""
    with styled():
        drawn = Figure(figsize=(12.5, 4.2), layout="constrained")
        by_delta, by_fidelity, layers = drawn.subplots(1, 3)
        lines, labels = [], []
        for curve, colour in zip(curves, itertools.cycle(COLOURS)):
            for keep_sink in (True, False):
                part = curve.part(keep_sink)
                price = [point.report.perplexity for point in part]
                look = {"color": colour, "linestyle": "-" if keep_sink else "--", "marker": "o", "markersize": 3.5}
                by_delta.plot([point.delta for point in part], price, **look)
                lines += by_fidelity.plot([point.report.fidelity_no_sink for point in part], price, **look)
                labels.append(visible(f"{curve.name}, sink {'kept' if keep_sink else 'dialled'}"))
        for axes in (by_delta, by_fidelity):
            scale_by_ratio(axes)
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
        return png(drawn)
