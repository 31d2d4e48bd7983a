"""A benchmark's figure: what each path costs against plain SDPA, over sequence length."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from progloc.report.plot import COLOURS, png, styled
from step_timing.partitions import FIXED, SCATTERED, SENTENCE_LIKE, WHOLE
from step_timing.results import Benchmark, Spread, spread
from step_timing.variants import SDPA, Shape, Variant, variants

_BLACK, _BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _ = COLOURS
# marks and dashes say the same without colour
_BLOCKS = {
    None: (_BLACK, "D"),
    FIXED: (_BLUE, "o"),
    SENTENCE_LIKE: (_GREEN, "s"),
    SCATTERED: (_ORANGE, "^"),
    WHOLE: (_PURPLE, "v"),
}
_EAGER = (_VERMILION, "X")


def _look(variant: Variant) -> dict[str, Any]:
    """Return a line's look: the colour says which blocks, the dash which loss."""
    colour, mark = _EAGER if variant.materialises else _BLOCKS[variant.partition]
    dash = ":" if variant.compiled else "--" if variant.fused else "-." if variant.sink_aware else "-"
    return {"color": colour, "marker": mark, "linestyle": dash, "markersize": 5, "linewidth": 1.6}


def _largest(benchmark: Benchmark) -> list[Shape]:
    """Return one shape a length, by length: the one of most tokens."""
    by_length = {shape.length: shape for shape in sorted(benchmark.settings.shapes, key=lambda shape: shape.tokens)}
    return [by_length[length] for length in sorted(by_length)]


def _draw(axes: Axes, points: list[tuple[int, Spread]], variant: Variant) -> None:
    if points:
        lengths, values = zip(*points, strict=True)
        errors = [[v.median - v.low for v in values], [v.high - v.median for v in values]]
        middle = [v.median for v in values]
        axes.errorbar(lengths, middle, errors, capsize=2.5, elinewidth=1, label=variant.name, **_look(variant))


def drawing(benchmark: Benchmark) -> bytes:
    """Return the figure as a PNG: step time over that of `sdpa` (medians, bars to the quartiles), and peak memory.

    Of several batches at one length the largest is drawn.
    """
    shapes = _largest(benchmark)
    with styled():
        drawn = Figure(figsize=(11.5, 4.2), layout="constrained")
        time, memory = drawn.subplots(1, 2)
        for variant in (v for v in variants() if v.trains):
            ratios = [(shape.length, benchmark.ratios(shape, variant.name, SDPA.name)) for shape in shapes]
            if variant != SDPA:
                _draw(time, [(length, spread(values)) for length, values in ratios if values], variant)
            timings = [(shape.length, benchmark.timing(shape, variant.name)) for shape in shapes]
            peaks = [(n, timing.peak_bytes / 2**30) for n, timing in timings if timing and timing.peak_bytes]
            _draw(memory, [(length, Spread(peak, peak, peak)) for length, peak in peaks], variant)
        time.axhline(1, color="black", linewidth=1)
        time.set(title="Step time ÷ that of sdpa", ylabel="ratio")
        memory.set(title="Peak memory of a step, weights included", ylabel="GiB")
        memory.set_ylim(bottom=0)
        for axes in (time, memory):
            axes.set_xscale("log", base=2)
            axes.set_xticks([shape.length for shape in shapes], [f"{shape.length:,}" for shape in shapes])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("tokens a sequence, T")
        drawn.legend(*memory.get_legend_handles_labels(), loc="outside right center")
        return png(drawn)
