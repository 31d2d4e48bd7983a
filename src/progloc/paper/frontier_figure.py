"""What locality costs with each partitioner: the gap against F°, one line a partitioner and one point a schedule."""

from __future__ import annotations

__all__ = ["frontier_by_blocks"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from progloc.blocks.fixed import is_fixed
from progloc.paper.comparisons import gap, measured
from progloc.paper.frontier import above_chance
from progloc.paper.results import Figure as Reading
from progloc.paper.results import Suite
from progloc.paper.semantic import control_of
from progloc.report.plot import COLOURS, scale_by_ratio
from progloc.report.statistics import Estimate, mean_interval

_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), ":", (0, (1, 1)))
_LOOKS = tuple(zip(COLOURS, "os^DvPX", _DASHES, strict=True))
"""Each with a marker and a dash of its own."""
_LABEL_STEP = 0.075
"""The least distance of two labels, as a share of the height."""


@dataclass(frozen=True)
class _Mark:
    """One schedule's place: means over seeds with their intervals."""

    schedule: str
    locality: Estimate
    gap: Estimate


def _marks(suite: Suite, blocks: str, locality: Reading) -> list[_Mark]:
    """Return a partitioner's points in order of locality; λ=0 has a gap of 1."""
    names = dict.fromkeys(run.name for run in suite.compared if run.blocks == blocks)
    marks = [
        _Mark(suite.one(name).schedule, mean_interval(suite.values(name, locality).values()), gap(suite, name).estimate)
        for name in names
    ]
    placed = [mark for mark in marks if math.isfinite(mark.locality.mean) and math.isfinite(mark.gap.mean)]
    return sorted(placed, key=lambda mark: mark.locality.mean)


def _whisker(estimates: Sequence[Estimate]) -> np.ndarray | None:
    """Return how far each interval reaches below and above its mean, (2, n); None where there is none."""
    ends = [(each.mean - each.low, each.high - each.mean) for each in estimates if each.low is not None and each.high]
    return np.array(ends).T if len(ends) == len(estimates) else None


def _apart(heights: Sequence[float]) -> list[float]:
    """Return label heights no nearer to each other than `_LABEL_STEP`, in the order given, around the same middle."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = list(heights)
    for below, index in pairwise(order):
        placed[index] = max(placed[index], placed[below] + _LABEL_STEP)
    shift = (sum(placed) - sum(heights)) / max(len(heights), 1)
    return [height - shift for height in placed]


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each line's name right of the panel, with a thin line to where it ends: (name, x, y, colour)."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = _apart([float(to_axes.transform((x, y))[1]) for _, x, y, _ in ends])
    for (name, x, y, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.03, height), textcoords="axes fraction", color=colour, va="center", fontsize=9,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkB": 5},
        )  # fmt: skip


def _looks(suite: Suite) -> dict[str, dict[str, Any]]:
    """Return how each partitioner is drawn: a control as the one whose size it has, but dotted and hollow."""
    first, *others = suite.partitioners
    of = {control_of(suite, blocks): blocks for blocks in others if not is_fixed(blocks)}
    of = {control: blocks for control, blocks in of.items() if control not in (None, first)}
    looks = {}
    for index, blocks in enumerate(blocks for blocks in suite.partitioners if blocks not in of):
        colour, marker, dash = _LOOKS[index % len(_LOOKS)]
        looks[blocks] = {"color": colour, "marker": marker, "linestyle": dash}
    dotted = {"linestyle": ":", "markerfacecolor": "white"}
    return looks | {control: looks[blocks] | dotted for control, blocks in of.items() if control is not None}


def frontier_by_blocks(suite: Suite) -> Figure | None:
    """Draw the gap against F° (left) and F° above chance (right); None with fewer than two partitioners or no gap."""
    if len(suite.partitioners) < 2:
        return None
    looks = _looks(suite)
    drawn = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = drawn.subplots(1, 2)
    readings: list[tuple[str, Reading]] = [
        ("fidelity without the sink F°", measured("fidelity_no_sink")),
        ("F° above chance, (F° − chance) ÷ (1 − chance)", above_chance),
    ]
    for axes, (label, reading) in zip(panels, readings, strict=True):
        lines = {blocks: marks for blocks in suite.partitioners if (marks := _marks(suite, blocks, reading))}
        if not lines:
            return None
        ends = []
        for blocks, marks in lines.items():
            look = looks[blocks]
            x, y = [mark.locality.mean for mark in marks], [mark.gap.mean for mark in marks]
            axes.errorbar(
                x, y, xerr=_whisker([mark.locality for mark in marks]), yerr=_whisker([mark.gap for mark in marks]),
                **look, markersize=5.5, linewidth=1.3, elinewidth=0.9, capsize=2,
            )  # fmt: skip
            ends.append((blocks, x[-1], y[-1], look["color"]))
        first, *others = next(iter(lines.values()))
        for mark, offset, side in ((first, (0, -12), "center"), *((mark, (-4, 6), "right") for mark in others)):
            axes.annotate(
                mark.schedule, (mark.locality.mean, mark.gap.mean), xytext=offset, textcoords="offset points",
                fontsize=7.5, color="#555555", ha=side,
            )  # fmt: skip
        scale_by_ratio(axes, "×")
        axes.margins(0.08)
        axes.set(xlabel=label, ylabel="gap: perplexity ÷ that of λ=0")
        _label_ends(axes, ends)
    return drawn
