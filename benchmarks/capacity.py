"""The exponent of capacity, I₀(1−λ)^a (paper §5.4.1), that measured entropies have, over seeds.

The paper calls the exponent α, elsewhere the penalty's coefficient (method.md §10); here it is a, and 2 in claim C9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from progloc.paper.suite import Suite
from progloc.report.formats import counted
from progloc.report.statistics import Estimate, mean_interval
from progloc.results import RunResult

EXPONENT = 2.0
"""The paper's a."""


def capacity(lambdas: Sequence[float], exponent: float = EXPONENT) -> tuple[float, ...]:
    """Return what a schedule leaves of every layer's capacity: (1−λ(ℓ))^a, L shares of I₀ in [0, 1]."""
    return tuple((1.0 - value) ** exponent for value in lambdas)


@dataclass(frozen=True)
class ExponentFit:
    """The exponent of one run, or the reason why it has none."""

    exponent: float = math.nan
    """a > 0."""
    residual: float = math.nan
    """Root mean square of measured − fitted share over the layers that were fitted; a share is 1 without locality."""
    reason: str = ""
    """Why there is no exponent; empty where there is one."""


def fitted_exponent(lambdas: Sequence[float], entropy: Sequence[float], entropy_before: Sequence[float]) -> ExponentFit:
    """Return the a that fits H(ℓ) ÷ H_before(ℓ) ≈ (1−λ(ℓ))^a best, by least squares over layers.

    Only layers with λ strictly between 0 and 1 say anything: at the ends every a > 0 predicts the same. Entropies that
    do not fall have no exponent: the sum of squares does not go down as a leaves 0.

    Args:
        lambdas: λ(ℓ), L numbers in [0, 1].
        entropy: measured H°, L numbers, in bits or any other unit.
        entropy_before: likewise without locality: of the λ = 0 run of the same data, budget and seed.
    """
    shares, after, before = (np.asarray(values, dtype=float) for values in (lambdas, entropy, entropy_before))
    between = (shares > 0) & (shares < 1)
    if not between.any():
        return ExponentFit(reason="no layer has λ strictly between 0 and 1")
    left, after, before = 1.0 - shares[between], after[between], before[between]
    if not (np.isfinite(after).all() and np.isfinite(before).all() and (before > 0).all()):
        return ExponentFit(reason="an entropy is undefined, or 0 without locality")
    ratio = after / before
    if not (ratio > 0).any():
        return ExponentFit(reason="no entropy is left, which no finite exponent says")
    if ((1.0 - ratio) * -np.log(left)).sum() <= 0:  # the slope of the sum of squares at a = 0, without its sign
        return ExponentFit(reason="entropy does not fall with λ")
    fit = scipy.optimize.least_squares(lambda exponent: ratio - left**exponent, x0=EXPONENT, bounds=(0, np.inf))
    return ExponentFit(float(fit.x[0]), float(np.sqrt(np.mean(fit.fun**2))))


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
        mean_interval(fit.exponent for fit in fits),
        mean_interval(fit.residual for fit in fits),
        mean_interval(_mean_ratio(run, base, measure) for run, base in pairs),
        reason,
        len(reasons),
    )


def _mean_ratio(run: RunResult, base: RunResult, measure: str) -> float:
    between = [0 < value < 1 for value in run.lambdas]
    ratio = np.asarray(run.by_layer(measure)) / np.asarray(base.by_layer(measure))
    return float(ratio[between].mean()) if any(between) else math.nan
