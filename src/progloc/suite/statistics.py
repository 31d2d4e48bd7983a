"""Means over seeds, paired comparisons and trends; all of them scipy's.

The unit of replication is the seed of one and the same experiment: an interval covers what another seed would change,
not what another text or another model would.
"""

from __future__ import annotations

__all__ = [
    "LEVEL",
    "Comparison",
    "Estimate",
    "common_seeds",
    "mean_interval",
    "paired_difference",
    "paired_ratio",
    "trend_p",
]

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
"""The confidence of every interval that does not say otherwise."""

Values = Mapping[int, float]
"""One number a seed."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with its confidence interval; one seed has none (`low` and `high` are None)."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def above(self, threshold: float) -> bool | None:
        """Whether the interval is wholly above (True) or below (False) the threshold; None if neither, or none."""
        if self.low is None or self.high is None:
            return None
        return True if self.low > threshold else False if self.high < threshold else None

    def map(self, function: np.ufunc) -> Estimate:
        """Return the estimate on another scale; the function has to be increasing."""
        ends = [None if end is None else float(function(end)) for end in (self.low, self.high)]
        return Estimate(float(function(self.mean)), ends[0], ends[1], self.n)


@dataclass(frozen=True)
class Comparison:
    """A paired difference or ratio over common seeds, and the two-sided p of there being none (None with one seed)."""

    estimate: Estimate
    p: float | None


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """Return the mean over seeds and its t-interval. No value at all, or an undefined one: NaN, and no interval."""
    sample = np.array(list(values), dtype=float)
    n = len(sample)
    if n == 0 or not np.isfinite(sample).all():
        return Estimate(math.nan, None, None, n)
    mean = float(sample.mean())
    if n == 1:
        return Estimate(mean, None, None, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal values: the interval is a point, as it should be
        low, high = stats.ttest_1samp(sample, 0.0).confidence_interval(level)
    return Estimate(mean, float(low), float(high), n)


def common_seeds(*runs: Values) -> list[int]:
    """Return the seeds that all of them have, in order."""
    return sorted(set.intersection(*(set(values) for values in runs))) if runs else []


def paired_difference(a: Values, b: Values, level: float = LEVEL) -> Comparison:
    """Return the mean of a - b over the seeds both have, and the p of a paired t-test."""
    seeds = common_seeds(a, b)
    differences = mean_interval((a[seed] - b[seed] for seed in seeds), level)
    if differences.low is None:
        return Comparison(differences, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        p = float(stats.ttest_rel([a[seed] for seed in seeds], [b[seed] for seed in seeds]).pvalue)
    return Comparison(differences, None if math.isnan(p) else p)


def paired_ratio(a: Values, b: Values, level: float = LEVEL) -> Comparison:
    """Return the geometric mean of a ÷ b over the seeds both have; interval and p are those of log a - log b."""
    logs = [{seed: math.log(value) for seed, value in values.items()} for values in (a, b)]
    difference = paired_difference(logs[0], logs[1], level)
    return Comparison(difference.estimate.map(np.exp), difference.p)


def trend_p(ordered: Sequence[Values], rising: bool) -> float | None:
    """Return the p of Page's test that the values rise (or fall) along the order given, ranked within each seed.

    Args:
        ordered: at least three treatments; each maps seed to value.
        rising: the direction that is tested for.

    Returns:
        One-sided p; None with fewer than two common seeds or three treatments, or with an undefined value.
    """
    seeds = common_seeds(*ordered)
    if len(seeds) < 2 or len(ordered) < 3:
        return None
    table = np.array([[values[seed] for values in ordered] for seed in seeds])  # (seeds, treatments)
    if not np.isfinite(table).all():
        return None
    return float(stats.page_trend_test(table if rising else table[:, ::-1]).pvalue)
