"""A table's cells for all seeds of a run: means with their intervals, the price, how local it is."""

from __future__ import annotations

import math

import numpy as np

from progloc.paper.comparisons import gap, measured
from progloc.paper.frontier import above_chance, beyond_chance
from progloc.paper.suite import Figure, Suite
from progloc.report.formats import interval, ratio
from progloc.report.statistics import mean_interval
from progloc.results import RunResult

_LOCAL = 0.5
"""The λ from which a layer is one that was meant to be local."""


def mean_entry(suite: Suite, name: str, figure: Figure, digits: int) -> str:
    """Return the mean over seeds of the runs of that name, with its interval."""
    return interval(mean_interval(suite.values(name, figure).values()), digits)


def gap_entry(suite: Suite, name: str, perplexity: Figure | None = None) -> str:
    """Return perplexity ÷ that of the λ=0 run of the same seed, with its interval; see `comparisons.gap`."""
    return "1×" if suite.one(name).is_distributed else ratio(gap(suite, name, perplexity=perplexity).estimate)


def lowest(run: RunResult) -> float:
    """Return the lowest F° of the layers with λ ≥ 0.5; NaN where there is none, or one is undefined."""
    return _lowest(run, run.by_layer("fidelity_no_sink"))


def lowest_above_chance(run: RunResult) -> float:
    """Return the lowest F° above chance of the same layers; chance is a layer's own where blocks differ by layer."""
    whole = run.measure("chance_fidelity_no_sink")
    chance = [layer.get("chance_fidelity_no_sink", whole) for layer in run.final["layers"]]
    return _lowest(run, list(map(beyond_chance, run.by_layer("fidelity_no_sink"), chance)))


def _lowest(run: RunResult, by_layer: list[float]) -> float:
    local = [value for weight, value in zip(run.lambdas, by_layer, strict=True) if weight >= _LOCAL]
    return float(np.min(local)) if local else math.nan


LOCALITY: list[tuple[str, Figure, int]] = [
    ("Perplexity", measured("perplexity"), 2),
    ("F°", measured("fidelity_no_sink"), 3),
    ("Chance F°", measured("chance_fidelity_no_sink"), 3),
    ("F° above chance", above_chance, 3),
    ("Lowest F°, λ ≥ 0.5", lowest, 3),
    ("Lowest above chance, λ ≥ 0.5", lowest_above_chance, 3),
    ("H° (bits)", measured("entropy_bits_no_sink"), 2),
    ("Sink mass", measured("sink_mass"), 3),
]
"""How local a run is: a column's label, its figure and its decimals."""


def locality_entries(suite: Suite, name: str) -> tuple[str, ...]:
    """Return the runs of that name in the columns of `LOCALITY`."""
    return tuple(mean_entry(suite, name, figure, digits) for _, figure, digits in LOCALITY)
