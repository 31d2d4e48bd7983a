"""What is compared with what: paired by seed, over the runs that are finished."""

from __future__ import annotations

__all__ = [
    "aligned",
    "at_the_end",
    "cells",
    "depth",
    "gap",
    "last_layer",
    "layer",
    "measured",
    "perplexity_ratio",
    "trained",
]

from collections.abc import Iterable

from progloc.paper.results import Figure, Suite
from progloc.report.statistics import LEVEL, Comparison, common_seeds, paired_ratio


def measured(name: str) -> Figure:
    """Return the figure that reads a measure of the kept checkpoint."""
    return lambda run: run.measure(name)


def at_the_end(name: str) -> Figure:
    """Return the figure that reads a measure of the last evaluation, whichever checkpoint was kept."""
    return lambda run: run.at_the_end(name)


def trained(name: str) -> Figure:
    """Return the figure that reads something of the training itself."""
    return lambda run: run.trained(name)


def layer(name: str, index: int) -> Figure:
    """Return the figure that reads a measure of one layer."""
    return lambda run: run.by_layer(name)[index]


def last_layer(name: str) -> Figure:
    """Return the figure that reads a measure of the last layer."""
    return layer(name, -1)


def depth(index: int, layers: int) -> float:
    """Return a layer's relative depth, ℓ/(L-1), in [0, 1]."""
    return index / (layers - 1) if layers > 1 else 1.0


def aligned(suite: Suite, names: Iterable[str], figure: Figure) -> list[dict[int, float]]:
    """Return the figure of each run by seed, for the seeds that all of them have."""
    values = [suite.values(name, figure) for name in names]
    seeds = common_seeds(*values)
    return [{seed: each[seed] for seed in seeds} for each in values]


def gap(suite: Suite, name: str, level: float = LEVEL, perplexity: Figure | None = None) -> Comparison:
    """Return perplexity ÷ that of the λ=0 run of the same data, budget and seed (method.md §3), where there is one.

    Of the kept checkpoints on validation, unless ``perplexity`` reads another one.
    """
    perplexity = perplexity or measured("perplexity")
    runs = suite.by_name.get(name, {})
    pairs = {seed: (run, base) for seed, run in runs.items() if (base := suite.baseline(run)) is not None}
    ours, theirs = ({seed: perplexity(pair[side]) for seed, pair in pairs.items()} for side in (0, 1))
    return paired_ratio(ours, theirs, level)


def perplexity_ratio(suite: Suite, name: str, other: str, level: float = LEVEL) -> Comparison:
    """Return the perplexity of one name ÷ that of another, over the seeds both have (perhaps none)."""
    ours, theirs = (suite.values(each, measured("perplexity")) for each in (name, other))
    return paired_ratio(ours, theirs, level)


def cells(suite: Suite) -> dict[tuple[float, int], str]:
    """Return the names of the cubic runs by (α, epochs): the cells of Table 2 that have a finished run.

    Of the suite's first partitioner alone; the others have the architectures and no such cells.
    """
    runs = {name: suite.one(name) for name in suite.by_name if suite.one(name).role in ("architecture", "optimisation")}
    return {(run.alpha, run.budget): name for name, run in runs.items() if run.schedule == "cubic"}
