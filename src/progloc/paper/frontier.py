"""What locality costs at a named locality: families of runs compared at matched F°, not at matched λ (method.md §11).

A family is every schedule with one partitioner. In each seed its runs are points (locality, gap); between them the
logarithm of the gap is interpolated, and two families are compared where both have points on either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from progloc.paper.suite import Figure, Suite
from progloc.report.statistics import LEVEL, Comparison, common_seeds, gap_at, paired_ratio
from progloc.results import RunResult

Point = tuple[float, float]
"""(locality, gap): a measure in [0, 1], and a ratio of perplexities above 0."""
Curves = Mapping[int, Sequence[Point]]
"""A family's points by seed, in any order."""


@dataclass(frozen=True)
class Matched:
    """Two families compared at one locality."""

    level: float
    """The locality: the middle of the common range."""
    low: float
    high: float
    """The range of locality that both families span in every common seed."""
    ratio: Comparison
    """The gap of the first ÷ that of the second, there."""


def common_range(a: Curves, b: Curves) -> tuple[float, float] | None:
    """Return the range of locality that both families span in every seed they share; None where there is none."""
    spans = [[x for x, _ in family[seed]] for seed in common_seeds(a, b) for family in (a, b)]
    if not spans or not all(spans):
        return None
    low, high = max(map(min, spans)), min(map(max, spans))
    return (low, high) if low < high else None


def matched(a: Curves, b: Curves, confidence: float = LEVEL) -> Matched | None:
    """Compare the gaps of two families at the middle of their common range of locality, paired by seed.

    Args:
        a: the family whose gap is divided.
        b: the family it is divided by.
        confidence: of the ratio's interval.

    Returns:
        None if there is no locality that both reach in every common seed.
    """
    common = common_range(a, b)
    if common is None:
        return None
    level = (common[0] + common[1]) / 2
    at = [{seed: gap_at(family[seed], level) for seed in common_seeds(a, b)} for family in (a, b)]
    return Matched(level, *common, paired_ratio(at[0], at[1], confidence))


def beyond_chance(fidelity: float, chance: float) -> float:
    """Return (F° − chance) ÷ (1 − chance): 0 as uniform attention has it on the same blocks, 1 if all is in the block.

    Larger blocks hold more attention whatever a model does, so that F° alone favours them. NaN where chance is 1.
    """
    return (fidelity - chance) / (1 - chance) if chance < 1 else math.nan


def above_chance(run: RunResult) -> float:
    """Return a run's F° beyond chance."""
    return beyond_chance(run.measure("fidelity_no_sink"), run.measure("chance_fidelity_no_sink"))


def families(suite: Suite) -> dict[str, dict[int, dict[str, RunResult]]]:
    """Return the compared runs by partitioner, seed and schedule, in planned order: those of one α and one budget."""
    grouped: dict[str, dict[int, dict[str, RunResult]]] = {}
    for run in suite.compared:
        grouped.setdefault(run.blocks, {}).setdefault(run.seed, {})[run.schedule] = run
    return grouped


def paired_curves(suite: Suite, a: str, b: str, locality: Figure) -> tuple[Curves, Curves]:
    """Return the points of two partitioners: in each seed only of the schedules that both have a gap and locality for.

    So neither has an advantage of more settings, and a run that is missing is missing for both. A seed with fewer than
    two such schedules is left out.
    """
    grouped = families(suite)
    curves: tuple[dict[int, list[Point]], dict[int, list[Point]]] = ({}, {})
    for seed in common_seeds(grouped.get(a, {}), grouped.get(b, {})):
        pairs = [(run, grouped[b][seed].get(schedule)) for schedule, run in grouped[a][seed].items()]
        points = [[_point(suite, run, locality) for run in pair if run is not None] for pair in pairs]
        both = [pair for pair in points if len(pair) == 2 and np.isfinite(pair).all()]
        if len(both) > 1:  # an interrupted seed would otherwise leave no range to the finished ones
            for side, curve in enumerate(curves):
                curve[seed] = [pair[side] for pair in both]
    return curves


def _point(suite: Suite, run: RunResult, locality: Figure) -> Point:
    gap = suite.gap(run)
    return locality(run), math.nan if gap is None else gap
