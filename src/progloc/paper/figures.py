"""A suite's figures. One is a function `Suite -> Figure | None` and one `@figure`; None where the runs do not allow it.

An architecture has the same colour, dash and marker everywhere: a sequential map for β (blue-green, read in grey as in
colour), grey for λ = 0, vermilion for λ = 1, and a few more for schedules of other kinds.
"""

from __future__ import annotations

__all__ = ["Drawing", "drawings", "figure"]

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from progloc.paper.comparisons import depth, layer, measured
from progloc.paper.frontier_figure import frontier_by_blocks
from progloc.paper.learned_figure import learned_schedules
from progloc.paper.results import Run, Suite
from progloc.report.plot import png, scale_by_ratio, styled
from progloc.report.statistics import mean_interval

_GREY, _VERMILION = "#7f7f7f", "#d55e00"
_OTHERS = (("#aa3377", "s"), ("#e69f00", "^"), ("#332288", "v"), ("#999933", "P"), ("#56b4e9", "X"))
"""Colour and marker of schedules that are neither polynomial nor uniform, in the suite's order."""


@dataclass(frozen=True)
class Drawing:
    """A figure as a PNG, with its file name (no suffix), title and caption."""

    name: str
    title: str
    caption: str
    png: bytes

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
        return [Drawing(name, title, caption, png(made)) for name, title, caption, made in drawn if made is not None]


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
    others = dict.fromkeys(each.schedule for each in suite.runs if not _has_a_style(each))
    color, marker = _OTHERS[list(others).index(run.schedule) % len(_OTHERS)]
    return {"color": color, "linestyle": "-.", "marker": marker}


def _has_a_style(run: Run) -> bool:
    """Whether a schedule has a colour of its own in every suite."""
    return run.beta is not None or run.is_distributed or all(value == 1 for value in run.lambdas)


def _panels(count: int, width: float = 4.6, height: float = 3.5) -> tuple[Figure, Sequence[Axes]]:
    drawn = Figure(figsize=(width * count, height), layout="constrained")
    return drawn, list(drawn.subplots(1, count, squeeze=False)[0])


def _legend(drawn: Figure, axes: Axes) -> None:
    """Put one legend beside the panels, where it can cover nothing."""
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside right center")


def _mean(suite: Suite, name: str, measure: str) -> float:
    return mean_interval(suite.values(name, measured(measure)).values()).mean


def _layer_means(suite: Suite, name: str, measure: str) -> list[float]:
    indices = range(len(suite.one(name).lambdas))
    return [mean_interval(suite.values(name, layer(measure, index)).values()).mean for index in indices]


def _depths(suite: Suite, name: str) -> list[float]:
    layers = len(suite.one(name).lambdas)
    return [depth(index, layers) for index in range(layers)]


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

    def cost(run: Run) -> float:
        value = gaps[run.name, run.seed] if has_gaps else run.measure("perplexity")
        return math.nan if value is None else value

    drawn, panels = _panels(2)
    for axes, measure, label in zip(
        panels, ("fidelity", "fidelity_no_sink"), ("fidelity F", "fidelity without the sink F°"), strict=True
    ):
        for name in suite.architectures:
            look = style(suite, name)
            points = [(run.measure(measure), cost(run)) for run in suite.by_name[name].values()]
            x, y = (mean_interval(side).mean for side in zip(*points, strict=True))
            axes.plot(*zip(*points, strict=True), marker=".", color=look["color"], markersize=4, linestyle="none")
            axes.plot(x, y, marker=look["marker"], color=look["color"], markersize=8, linestyle="none", label=name)
        chance = runs[0].measure(f"chance_{measure}")
        axes.axvline(chance, color="black", linestyle=":", linewidth=1.2, label="chance")
        axes.set(xlabel=label, ylabel="gap: perplexity ÷ that of λ=0" if has_gaps else "perplexity")
    _legend(drawn, panels[0])
    return drawn


figure(
    "frontier-by-blocks",
    "What locality costs, by blocks",
    "One line a partitioner, one point a schedule (named on the first line), whiskers: 95% t-intervals over seeds. Low "
    "and to the right is better. Dotted and hollow: fixed blocks of the size of those of that colour, their control. "
    "Right: the share of the way from chance to 1, for larger blocks hold more by chance.",
)(frontier_by_blocks)


@figure(
    "schedules", "λ(ℓ) by schedule", "How local each layer has to be; depth 0 is the input's layer and 1 the output's."
)
def _schedules(suite: Suite) -> Figure | None:
    if not suite.architectures:
        return None
    drawn, (axes,) = _panels(1, 9.2)
    for name in suite.architectures:
        axes.plot(
            _depths(suite, name), suite.lambdas(name), markersize=4, label=name, clip_on=False, **style(suite, name)
        )
    axes.set(xlabel="relative depth ℓ/(L−1)", ylabel="λ(ℓ)", ylim=(0, 1), xlim=(0, 1))
    _legend(drawn, axes)
    return drawn


figure(
    "learned-schedules",
    "λ(ℓ) as it was learned",
    "Left: the kept checkpoints', one line a seed, over quintic's. Right: how they came there, a line a layer and seed "
    "(input's layer: light, output's: dark). λ is learned in stage 2 alone.",
)(learned_schedules)


def _by_layer(suite: Suite, measures: Sequence[tuple[str, str]]) -> Figure | None:
    """Draw measures by relative depth, one a panel, with the model before fine-tuning and the chance level."""
    if not suite.architectures:
        return None
    drawn, panels = _panels(len(measures))
    some = suite.one(suite.architectures[0])
    for axes, (measure, label) in zip(panels, measures, strict=True):
        for name in suite.architectures:
            means = _layer_means(suite, name, measure)
            axes.plot(_depths(suite, name), means, markersize=4, label=name, **style(suite, name))
        before = [math.nan if row[measure] is None else row[measure] for row in some.before["layers"]]
        axes.plot(
            _depths(suite, some.name), before, color="black", linestyle=":", linewidth=1.4, label="before fine-tuning"
        )
        axes.axhline(some.measure(f"chance_{measure}"), color="black", linewidth=0.8, label="chance")
        axes.set(xlabel="relative depth ℓ/(L−1)", ylabel=label)
    _legend(drawn, panels[0])
    return drawn


@figure(
    "entropy-by-layer",
    "Entropy by layer",
    "Means over seeds at the kept checkpoint. A layer that looks only at the sink has low entropy too: compare right.",
)
def _entropy(suite: Suite) -> Figure | None:
    return _by_layer(
        suite, [("entropy_bits", "entropy H (bits)"), ("entropy_bits_no_sink", "entropy without the sink H° (bits)")]
    )


@figure(
    "fidelity-by-layer",
    "Fidelity by layer",
    "Means over seeds at the kept checkpoint. Left: the share of attention in the token's own block; right: of what is "
    "not on the sink.",
)
def _fidelity(suite: Suite) -> Figure | None:
    return _by_layer(suite, [("fidelity", "fidelity F"), ("fidelity_no_sink", "fidelity without the sink F°")])


@figure(
    "training",
    "Validation during training",
    "A line a seed, from before fine-tuning on. Shaded: stage 1, with a weaker penalty. Mark: the checkpoint kept.",
)
def _training(suite: Suite) -> Figure | None:
    runs = [run for run in suite.runs if run.role == "architecture" and run.epochs]
    if not runs:
        return None
    drawn, panels = _panels(2)
    first = [epoch["epoch"] for run in runs for epoch in run.epochs if epoch["stage"] == 1]
    for axes, measure, label in zip(
        panels,
        ("perplexity", "fidelity_no_sink"),
        ("validation perplexity", "fidelity without the sink F°"),
        strict=True,
    ):
        for run in runs:
            look = style(suite, run.name)
            xs = [0.0, *(epoch["epoch"] for epoch in run.epochs)]
            ys = [run.before[measure], *(epoch[measure] for epoch in run.epochs)]
            new = run is suite.one(run.name)
            axes.plot(xs, ys, color=look["color"], linestyle=look["linestyle"], linewidth=1.1,
                      label=run.name if new else None)  # fmt: skip
            kept = [epoch[measure] for epoch in run.epochs if epoch["epoch"] == run.training["kept_epoch"]]
            axes.plot([run.training["kept_epoch"]] * len(kept), kept, color=look["color"], marker=look["marker"],
                      markersize=4.5, linestyle="none")  # fmt: skip
        if first:
            axes.axvspan(0, max(first), color="#f1f1f1", zorder=0)
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_xlim(left=0)
    scale_by_ratio(panels[0])
    _legend(drawn, panels[0])
    return drawn


@figure(
    "penalty-by-layer",
    "Penalty by layer",
    "Means over seeds at the kept checkpoint, on validation. Left: how far attention is from the token's block; right: "
    "the part of it that the loss sees.",
)
def _penalty(suite: Suite) -> Figure | None:
    if not suite.architectures:
        return None
    drawn, panels = _panels(2)
    for name in suite.architectures:
        means = _layer_means(suite, name, "penalty_nats")
        weighted = [value * weight for value, weight in zip(means, suite.lambdas(name), strict=True)]
        for axes, values in zip(panels, (means, weighted), strict=True):
            axes.plot(_depths(suite, name), values, markersize=4, label=name, **style(suite, name))
    for axes, label in zip(panels, ("penalty p (nats)", "λ(ℓ)·p (nats)"), strict=True):
        axes.set(xlabel="relative depth ℓ/(L−1)", ylabel=label)
        axes.set_ylim(bottom=0)
    _legend(drawn, panels[0])
    return drawn
