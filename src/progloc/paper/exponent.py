"""The exponent of capacity (paper §5.4.1) that a suite's measured entropies have, over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from progloc.paper.capacity import ExponentFit, fitted_exponent
from progloc.paper.suite import Suite
from progloc.report.formats import counted
from progloc.report.statistics import Estimate, mean_interval
from progloc.results import RunResult


@dataclass(frozen=True)
class Exponent:
    """What the runs of one name say of the exponent a in H(ℓ) ÷ H_λ=0(ℓ) ≈ (1−λ(ℓ))^a."""

    exponent: Estimate
    """a over seeds; NaN unless every seed has one, because a mean of those that have would be of the steepest."""
    residual: Estimate
    """Root mean square of measured − fitted share of a seed; NaN likewise."""
    ratio: Estimate
    """Entropy ÷ that without locality, the mean over layers with λ strictly between 0 and 1."""
    reason: str
    """Why a is NaN; empty where it is not."""
    without: int
    """How many seeds have no exponent."""


def exponent_over_seeds(suite: Suite, name: str, measure: str = "entropy_bits_no_sink") -> Exponent:
    """Return the exponent of a measure's values by layer, each run against the λ = 0 run of its own seed.

    Args:
        suite: with finished runs of that name.
        name: of the runs.
        measure: an entropy that runs have by layer.
    """
    pairs = [(run, base) for run in suite.by_name.get(name, {}).values() if (base := suite.baseline(run))]
    fits = [fitted_exponent(run.lambdas, run.by_layer(measure), base.by_layer(measure)) for run, base in pairs]
    reasons = [fit.reason for fit in fits if fit.reason]
    if not fits:
        reason = "no seed has a run with λ = 0 beside it"
    elif reasons:
        reason = f"{', '.join(dict.fromkeys(reasons))} ({len(reasons)} of {counted(len(fits), 'seed')})"
    else:
        reason = ""
    return Exponent(
        _over_seeds(fits, "exponent"),
        _over_seeds(fits, "residual"),
        mean_interval(_mean_ratio(run, base, measure) for run, base in pairs),
        reason,
        len(reasons),
    )


def _over_seeds(fits: list[ExponentFit], figure: str) -> Estimate:
    values = [getattr(fit, figure) for fit in fits]
    return mean_interval(math.nan if value is None else value for value in values)


def _mean_ratio(run: RunResult, base: RunResult, measure: str) -> float:
    between = [0 < value < 1 for value in run.lambdas]
    ratio = np.asarray(run.by_layer(measure)) / np.asarray(base.by_layer(measure))
    return float(ratio[between].mean()) if any(between) else math.nan
