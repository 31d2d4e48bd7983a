"""A suite's figures. One is a function `Suite -> Figure | None` and one `@figure`; None where the runs do not allow it.

An architecture has the same colour, dash and marker everywhere: a sequential map for β (blue-green, read in grey as in
colour), grey for λ = 0, vermilion for λ = 1, and a few more for schedules of other kinds.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from progloc.blocks import is_fixed
from progloc.paper.comparisons import depth, gap, layer, measured
from progloc.paper.frontier import above_chance
from progloc.paper.semantic import control_of
from progloc.paper.suite import Figure as Reading
from progloc.paper.suite import Suite
from progloc.report.plot import COLOURS, png, scale_by_ratio, styled
from progloc.report.statistics import Estimate, mean_interval
from progloc.results import RunResult
from progloc.schedules import parse_schedule

_GREY, _VERMILION = "#7f7f7f", "#d55e00"
_OTHERS = (("#aa3377", "s"), ("#e69f00", "^"), ("#332288", "v"), ("#999933", "P"), ("#56b4e9", "X"))
"""Colour and marker of schedules that are neither polynomial nor uniform, in the suite's order."""


_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), ":", (0, (1, 1)))
_LOOKS = tuple(zip(COLOURS, "os^DvPX", _DASHES, strict=True))
"""Each with a marker and a dash of its own."""
_DEPTH = "relative depth ℓ/(L−1)"
_LABEL_STEP = 0.075
"""The least distance of two labels, as a share of the height."""


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name (no suffix), title and caption; it is made a PNG, which takes long, on demand."""

    name: str
    title: str
    caption: str
    figure: Figure = field(repr=False)

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG."""
        with styled():
            return png(self.figure)

    @property
    def base64(self) -> str:
        """The PNG as text, for a page that holds its own pictures."""
        return base64.b64encode(self.png).decode("ascii")


Builder = Callable[[Suite], Figure | None]
_BUILDERS: list[tuple[str, str, str, Builder]] = []


def figure(name: str, title: str, caption: str) -> Callable[[Builder], Builder]:
    """Decorator: add a figure to what every report shows, in order of registration."""

    def add(build: Builder) -> Builder:
        _BUILDERS.append((name, title, caption, build))
        return build

    return add


def drawings(suite: Suite) -> list[Drawing]:
    """Draw every registered figure that the finished runs allow."""
    with styled():
        drawn = [(name, title, caption, build(suite)) for name, title, caption, build in _BUILDERS]
        return [Drawing(name, title, caption, made) for name, title, caption, made in drawn if made is not None]


def style(suite: Suite, name: str) -> dict[str, Any]:
    """Return an architecture's colour, dash and marker."""
    run = suite.one(name)
    if run.beta is not None:
        # 0.4 to 1: the light end of the map is not legible on white; β above 5 stays at the dark end
        shade = 0.4 + 0.6 * min(max(run.beta - 1, 0), 4) / 4
        return {"color": mpl.colormaps["YlGnBu"](shade), "linestyle": "-", "marker": "o"}
    if run.is_distributed:
        return {"color": _GREY, "linestyle": "--", "marker": "D"}
    if _has_a_style(run):
        return {"color": _VERMILION, "linestyle": "-.", "marker": "s"}
    others = dict.fromkeys(other.schedule for other in suite.runs if not _has_a_style(other))
    color, marker = _OTHERS[list(others).index(run.schedule) % len(_OTHERS)]
    return {"color": color, "linestyle": "-.", "marker": marker}


def _has_a_style(run: RunResult) -> bool:
    """Whether a schedule has a colour of its own in every suite."""
    return run.beta is not None or run.is_distributed or all(value == 1 for value in run.lambdas)


def _panels(measures: Mapping[str, str], draw: Callable[[Axes, str], None], width: float = 4.6) -> Figure:
    """Draw measures side by side, a panel each, with one legend beside the panels, where it can cover nothing.

    Args:
        measures: by name, the label of the panel's y axis.
        draw: draws a measure, by its name.
        width: of a panel, in inches.
    """
    drawn = Figure(figsize=(width * len(measures), 3.5), layout="constrained")
    panels = drawn.subplots(1, len(measures), squeeze=False)[0]
    for axes, (measure, label) in zip(panels, measures.items(), strict=True):
        axes.set(ylabel=label)
        draw(axes, measure)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return drawn


def _layer_means(suite: Suite, name: str, measure: str) -> list[float]:
    indices = range(len(suite.one(name).lambdas))
    return [mean_interval(suite.values(name, layer(measure, index)).values()).mean for index in indices]


def _depths(layers: Sequence[float]) -> list[float]:
    """Return the relative depth of each layer of which there is a number."""
    return [depth(index, len(layers)) for index in range(len(layers))]


@figure(
    "frontier",
    "What locality costs",
    "Up is worse, right is more local. Large marks: means over seeds; small ones: single runs. Left: fidelity as the "
    "paper has it; right: of the attention not on the sink. Chance: uniform attention on the same blocks.",
)
def _frontier(suite: Suite) -> Figure | None:
    if not suite.architectures:
        return None
    runs = [run for run in suite.runs if run.role == "architecture"]
    gaps = {(run.name, run.seed): suite.gap(run) for run in runs}
    has_gaps = None not in gaps.values()

    def cost(run: RunResult) -> float:
        value = gaps[run.name, run.seed] if has_gaps else run.measure("perplexity")
        return math.nan if value is None else value

    def draw(axes: Axes, measure: str) -> None:
        for name in suite.architectures:
            look = style(suite, name)
            points = [(run.measure(measure), cost(run)) for run in suite.by_name[name].values()]
            x, y = (mean_interval(side).mean for side in zip(*points, strict=True))
            axes.plot(*zip(*points, strict=True), marker=".", color=look["color"], markersize=4, linestyle="none")
            axes.plot(x, y, marker=look["marker"], color=look["color"], markersize=8, linestyle="none", label=name)
        chance = runs[0].measure(f"chance_{measure}")
        axes.axvline(chance, color="black", linestyle=":", linewidth=1.2, label="chance")
        axes.set(xlabel="fidelity F" if measure == "fidelity" else "fidelity without the sink F°")

    label = "gap: perplexity ÷ that of λ=0" if has_gaps else "perplexity"
    return _panels({"fidelity": label, "fidelity_no_sink": label}, draw)


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


def whiskers(estimates: Sequence[Estimate]) -> np.ndarray | None:
    """Return how far each interval reaches below and above its mean, (2, n); None where there is none."""
    ends = [(of.mean - of.low, of.high - of.mean) for of in estimates if of.low is not None and of.high is not None]
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


@figure(
    "frontier-by-blocks",
    "What locality costs, by blocks",
    "One line a partitioner, one point a schedule (named on the first line), whiskers: 95% t-intervals over seeds. Low "
    "and to the right is better. Dotted and hollow: fixed blocks of the size of those of that colour, their control. "
    "Right: the share of the way from chance to 1, for larger blocks hold more by chance.",
)
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
                x, y, xerr=whiskers([mark.locality for mark in marks]), yerr=whiskers([mark.gap for mark in marks]),
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


@figure(
    "schedules", "λ(ℓ) by schedule", "How local each layer has to be; depth 0 is the input's layer and 1 the output's."
)
def _schedules(suite: Suite) -> Figure | None:
    if not suite.architectures:
        return None

    def draw(axes: Axes, _: str) -> None:
        for name in suite.architectures:
            lambdas = suite.lambdas(name)
            axes.plot(_depths(lambdas), lambdas, markersize=4, label=name, clip_on=False, **style(suite, name))
        axes.set(xlabel=_DEPTH, ylim=(0, 1), xlim=(0, 1))

    return _panels({"lambda": "λ(ℓ)"}, draw, 9.2)


def _draw_learned(name: str, runs: list[RunResult], final: Axes, course: Axes) -> None:
    layers, depths = len(runs[0].lambdas), _depths(runs[0].lambdas)
    final.plot(depths, parse_schedule("quintic")(layers), color="#7f7f7f", linestyle="--", label="quintic")
    for run in runs:
        label = f"{name}, a seed" if run is runs[0] else None
        final.plot(depths, run.lambdas, color="#aa3377", marker="o", markersize=4, linewidth=1.1, label=label)
    for index, position in enumerate(depths):
        shade = mpl.colormaps["viridis_r"](0.1 + 0.9 * position)
        for run in runs:
            label = f"layer {index}" if run is runs[0] and index in (0, layers - 1) else None
            steps, values = zip(
                *((point["step"], point["lambdas"][index]) for point in run.lambdas_course), strict=True
            )
            course.plot(steps, values, color=shade, linewidth=1.1, label=label)
    final.set(xlabel=_DEPTH, ylabel="λ(ℓ)", ylim=(0, 1), title=name)
    course.set(xlabel="step", ylabel="λ(ℓ)", ylim=(0, 1))
    for axes in (final, course):
        axes.legend(fontsize="small")


@figure(
    "learned-schedules",
    "λ(ℓ) as it was learned",
    "Left: the kept checkpoints', one line a seed, over quintic's. Right: how they came there, a line a layer and seed "
    "(input's layer: light, output's: dark). λ is learned in stage 2 alone.",
)
def learned_schedules(suite: Suite) -> Figure | None:
    """Draw every architecture whose λ was learned, a row each; None where none was."""
    runs = {name: list(suite.by_name[name].values()) for name in suite.architectures}
    learned = {name: seeds for name, seeds in runs.items() if all(run.lambdas_course for run in seeds)}
    if not learned:
        return None
    drawn = Figure(figsize=(9.2, 3.5 * len(learned)), layout="constrained")
    panels = drawn.subplots(len(learned), 2, squeeze=False)
    for (name, seeds), (final, course) in zip(learned.items(), panels, strict=True):
        _draw_learned(name, seeds, final, course)
    return drawn


def _by_layer(suite: Suite, measures: Mapping[str, str]) -> Figure | None:
    """Draw measures by relative depth, with the model before fine-tuning and the chance level."""
    if not suite.architectures:
        return None
    some = suite.one(suite.architectures[0])

    def draw(axes: Axes, measure: str) -> None:
        for name in suite.architectures:
            means = _layer_means(suite, name, measure)
            axes.plot(_depths(means), means, markersize=4, label=name, **style(suite, name))
        before = [math.nan if row[measure] is None else row[measure] for row in some.before["layers"]]
        axes.plot(_depths(before), before, color="black", linestyle=":", linewidth=1.4, label="before fine-tuning")
        axes.axhline(some.measure(f"chance_{measure}"), color="black", linewidth=0.8, label="chance")
        axes.set(xlabel=_DEPTH)

    return _panels(measures, draw)


@figure(
    "entropy-by-layer",
    "Entropy by layer",
    "Means over seeds at the kept checkpoint. A layer that looks only at the sink has low entropy too: compare right.",
)
def _entropy(suite: Suite) -> Figure | None:
    return _by_layer(
        suite, {"entropy_bits": "entropy H (bits)", "entropy_bits_no_sink": "entropy without the sink H° (bits)"}
    )


@figure(
    "fidelity-by-layer",
    "Fidelity by layer",
    "Means over seeds at the kept checkpoint. Left: the share of attention in the token's own block; right: of what is "
    "not on the sink.",
)
def _fidelity(suite: Suite) -> Figure | None:
    return _by_layer(suite, {"fidelity": "fidelity F", "fidelity_no_sink": "fidelity without the sink F°"})


@figure(
    "training",
    "Validation during training",
    "A line a seed, from before fine-tuning on. Shaded: stage 1, with a weaker penalty. Mark: the checkpoint kept.",
)
def _training(suite: Suite) -> Figure | None:
    runs = [run for run in suite.runs if run.role == "architecture" and run.epochs]
    if not runs:
        return None
    first = [epoch["epoch"] for run in runs for epoch in run.epochs if epoch["stage"] == 1]

    def draw(axes: Axes, measure: str) -> None:
        for run in runs:
            look = style(suite, run.name)
            xs = [0.0, *(epoch["epoch"] for epoch in run.epochs)]
            ys = [run.before[measure], *(epoch[measure] for epoch in run.epochs)]
            label = run.name if run is suite.one(run.name) else None
            axes.plot(xs, ys, color=look["color"], linestyle=look["linestyle"], linewidth=1.1, label=label)
            at = run.training["kept_epoch"]
            kept = [epoch[measure] for epoch in run.epochs if epoch["epoch"] == at]
            mark = {"color": look["color"], "marker": look["marker"], "markersize": 4.5, "linestyle": "none"}
            axes.plot([at] * len(kept), kept, **mark)
        if first:
            axes.axvspan(0, max(first), color="#f1f1f1", zorder=0)
        axes.set(xlabel="epoch")
        axes.set_xlim(left=0)
        if measure == "perplexity":
            scale_by_ratio(axes)

    return _panels({"perplexity": "validation perplexity", "fidelity_no_sink": "fidelity without the sink F°"}, draw)


@figure(
    "penalty-by-layer",
    "Penalty by layer",
    "Means over seeds at the kept checkpoint, on validation. Left: how far attention is from the token's block; right: "
    "the part of it that the loss sees.",
)
def _penalty(suite: Suite) -> Figure | None:
    if not suite.architectures:
        return None

    def draw(axes: Axes, measure: str) -> None:
        for name in suite.architectures:
            values = _layer_means(suite, name, "penalty_nats")
            if measure == "weighted_penalty_nats":
                values = [value * weight for value, weight in zip(values, suite.lambdas(name), strict=True)]
            axes.plot(_depths(values), values, markersize=4, label=name, **style(suite, name))
        axes.set(xlabel=_DEPTH)
        axes.set_ylim(bottom=0)

    return _panels({"penalty_nats": "penalty p (nats)", "weighted_penalty_nats": "λ(ℓ)·p (nats)"}, draw)
