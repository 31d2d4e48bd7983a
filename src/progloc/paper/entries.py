"""What stands in a table for all seeds of a run: means with their intervals, what it costs, how local it is."""

from __future__ import annotations

__all__ = [
    "LOCALITY",
    "Entry",
    "gap_entry",
    "locality_entries",
    "lowest",
    "lowest_above_chance",
    "mean_entry",
]

import math

import numpy as np

from progloc.paper.comparisons import gap, measured
from progloc.paper.frontier import above_chance, beyond_chance
from progloc.paper.results import Figure, Run, Suite
from progloc.report.formats import interval, ratio
from progloc.report.statistics import mean_interval

_LOCAL = 0.5
"""The λ from which a layer is one that was meant to be local."""

Entry = tuple[str, Figure, int]
"""A column's label, its figure and its decimals."""


def mean_entry(suite: Suite, name: str, figure: Figure, digits: int) -> str:
    """Return the mean over seeds of the runs of that name, with its interval."""
    return interval(mean_interval(suite.values(name, figure).values()), digits)


def gap_entry(suite: Suite, name: str, perplexity: Figure | None = None) -> str:
    """Return perplexity ÷ that of the λ=0 run of the same seed, with its interval; see `comparisons.gap`."""
    return "1×" if suite.one(name).is_distributed else ratio(gap(suite, name, perplexity=perplexity).estimate)


def lowest(run: Run) -> float:
    """Return the lowest F° of the layers with λ ≥ 0.5; NaN where there is none, or one is undefined."""
    layers = zip(run.lambdas, run.by_layer("fidelity_no_sink"), strict=True)
    local = [fidelity for weight, fidelity in layers if weight >= _LOCAL]
    return float(np.min(local)) if local else math.nan


def lowest_above_chance(run: Run) -> float:
    """Return the lowest F° above chance of the same layers; chance is a layer's own where blocks differ by layer."""
    chance = [
        layer.get("chance_fidelity_no_sink", run.measure("chance_fidelity_no_sink")) for layer in run.final["layers"]
    ]
    layers = zip(run.lambdas, run.by_layer("fidelity_no_sink"), chance, strict=True)
    local = [beyond_chance(fidelity, level) for weight, fidelity, level in layers if weight >= _LOCAL]
    return float(np.min(local)) if local else math.nan


LOCALITY: list[Entry] = [
    ("Perplexity", measured("perplexity"), 2),
    ("F°", measured("fidelity_no_sink"), 3),
    ("Chance F°", measured("chance_fidelity_no_sink"), 3),
    ("F° above chance", above_chance, 3),
    ("Lowest F°, λ ≥ 0.5", lowest, 3),
    ("Lowest above chance, λ ≥ 0.5", lowest_above_chance, 3),
    ("H° (bits)", measured("entropy_bits_no_sink"), 2),
    ("Sink mass", measured("sink_mass"), 3),
]
"""How local a run is. Lowest: of the layers with λ ≥ 0.5, in each seed."""


def locality_entries(suite: Suite, name: str) -> tuple[str, ...]:
    """Return the runs of that name in the columns of `LOCALITY`."""
    return tuple(mean_entry(suite, name, figure, digits) for _, figure, digits in LOCALITY)
