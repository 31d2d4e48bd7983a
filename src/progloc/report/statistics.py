"""Means over seeds, paired comparisons and trends, by scipy; it lacks only Holm's correction.

The unit of replication is the seed of an experiment: an interval covers what another seed would change, not what
another text or model would. Layers, heads, architectures and tokens are never counted as further values: whatever is
computed from them is computed within each seed first.

Student's t-interval is shown everywhere and decides, because with few seeds the bootstrap's is too narrow; comparisons
give the bootstrap's BCa interval as well. benchmarks/interval_coverage.py measures how often each covers the truth;
docs/statistics.md has the figures.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used

LEVEL = 0.95
"""The confidence of every interval that does not say otherwise."""

BCA_FROM = 5
"""The seeds from which a BCa interval is given; with fewer it is hardly more than the range of the values."""

_RESAMPLES = 9999
"""Of the bootstrap; and the most sign changes that the permutation test goes through, which is all up to 13 seeds."""

UNIT = "Unit: the seed (the order of the training text) of one base model, text and split."
"""What an interval or a p is over, in every table of a suite."""

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
        """Return whether the interval is wholly above (True) or below (False) a threshold; None if it is neither."""
        if self.low is None or self.high is None:
            return None
        return True if self.low > threshold else False if self.high < threshold else None

    def map(self, function: np.ufunc) -> Estimate:
        """Return the estimate on another scale; the function has to be increasing."""
        ends = [None if end is None else float(function(end)) for end in (self.low, self.high)]
        return Estimate(float(function(self.mean)), ends[0], ends[1], self.n)


@dataclass(frozen=True)
class Comparison:
    """A paired difference or ratio over common seeds; one seed has an estimate and nothing else (None)."""

    estimate: Estimate
    """With its t-interval."""
    p: float | None = None
    """Two-sided, of a paired t-test that there is no difference."""
    p_permutation: float | None = None
    """Two-sided, of the same by changing the signs of the seeds' differences: at least 2^(1-n) with n seeds."""
    bca: Estimate | None = None
    """With its BCa interval; None below `BCA_FROM` seeds."""
    d: float | None = None
    """Cohen's d for paired samples, d_z: mean ÷ standard deviation of the differences; None where they are equal."""


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
        low, high = scipy.stats.ttest_1samp(sample, 0.0).confidence_interval(level)
    return Estimate(mean, float(low), float(high), n)


def bca_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Return the mean and its bias-corrected and accelerated bootstrap interval; the same one on every call.

    Args:
        values: at least two finite numbers. Equal ones have an interval of no width.
        level: the interval's confidence.
    """
    sample = np.array(values, dtype=float)
    mean = float(sample.mean())
    if _are_equal(sample):  # scipy has no interval for them
        return Estimate(mean, mean, mean, len(sample))
    # `random_state` and not `rng`: scipy before 1.15 knows no other name
    interval = scipy.stats.bootstrap(
        (sample,), np.mean, method="BCa", confidence_level=level, n_resamples=_RESAMPLES,
        random_state=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Estimate(mean, float(interval.low), float(interval.high), len(sample))


def _are_equal(sample: np.ndarray) -> bool:
    """Return whether the values differ by no more than rounding."""
    return bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())


def common_seeds(*runs: Mapping[int, object]) -> list[int]:
    """Return the seeds that all runs have, in order."""
    return sorted(set.intersection(*(set(values) for values in runs))) if runs else []


def paired_difference(a: Values, b: Values, level: float = LEVEL) -> Comparison:
    """Compare a with b by the mean of a - b over the seeds that both have."""
    seeds = common_seeds(a, b)
    differences = np.array([a[seed] - b[seed] for seed in seeds])
    estimate = mean_interval(differences, level)
    if estimate.low is None:
        return Comparison(estimate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        p = float(scipy.stats.ttest_rel([a[seed] for seed in seeds], [b[seed] for seed in seeds]).pvalue)
    # one sample of type "samples": scipy changes the signs of the differences
    permuted = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=_RESAMPLES,
        random_state=np.random.default_rng(0),
    )  # fmt: skip
    return Comparison(
        estimate,
        p=None if math.isnan(p) else p,
        p_permutation=float(permuted.pvalue),
        bca=bca_interval(differences.tolist(), level) if len(seeds) >= BCA_FROM else None,
        d=None if _are_equal(differences) else float(differences.mean() / differences.std(ddof=1)),
    )


def paired_ratio(a: Values, b: Values, level: float = LEVEL) -> Comparison:
    """Compare a with b by the geometric mean of a ÷ b over the seeds that both have; tests are of log a - log b."""
    logs = [{seed: math.log(value) for seed, value in values.items()} for values in (a, b)]
    difference = paired_difference(logs[0], logs[1], level)
    return dataclasses.replace(
        difference,
        estimate=difference.estimate.map(np.exp),
        bca=None if difference.bca is None else difference.bca.map(np.exp),
    )


def crossed(table: np.ndarray, level: float = LEVEL) -> Comparison:
    """Return the mean over seeds and passages, with interval and p; both are resampled, independently.

    The spread is that of a crossed bootstrap: n-1 of n seeds and of as many passages, each with replacement, and the
    mean of the cells where they meet (n-1 of n, because n of n make it too small). With few seeds its own quantiles are
    too narrow, so that the interval and the two-sided p that there is no difference are Student's t with as many
    degrees of freedom as the two parts of the spread have together (Satterthwaite).

    Args:
        table: (seeds, passages), a difference in each cell. Fewer than two of either have no interval.
        level: of the interval.
    """
    seeds, passages = table.shape
    mean = float(table.mean()) if table.size else math.nan
    if min(seeds, passages) < 2 or not math.isfinite(mean):
        return Comparison(Estimate(mean, None, None, seeds))
    generator = np.random.default_rng(0)
    rows, columns = (
        generator.multinomial(count - 1, np.full(count, 1 / count), _RESAMPLES) / (count - 1)
        for count in (seeds, passages)
    )
    spread = float(((rows @ table) * columns).sum(1).std())
    parts = np.array([table.mean(axis).var(ddof=1) / len(table.mean(axis)) for axis in (1, 0)])
    if spread == 0 or not parts.sum():
        return Comparison(Estimate(mean, mean, mean, seeds))
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([seeds, passages]) - 1)).sum()
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * spread
    return Comparison(
        Estimate(mean, mean - half, mean + half, seeds), p=float(2 * scipy.stats.t.sf(abs(mean) / spread, freedom))
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p of each comparison of one family; None, for no test, does not count and stays None."""
    tested = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    steps = np.array([p for p, _ in tested]) * np.arange(len(tested), 0, -1)
    adjusted: list[float | None] = [None] * len(ps)
    for (_, index), value in zip(tested, np.maximum.accumulate(steps), strict=True):
        adjusted[index] = min(1.0, float(value))
    return adjusted


def trend(ordered: Sequence[Values]) -> Comparison:
    """Return by how much the values rise from one treatment to the next, over the seeds that all have.

    Within each seed that is the slope of a least-squares line over 0, 1, 2 …; the slopes are then compared with 0, so
    that no number of treatments stands in for seeds.

    Args:
        ordered: at least two treatments; each maps seed to value.
    """
    slopes = {
        seed: float(np.polyfit(range(len(ordered)), [values[seed] for values in ordered], 1)[0])
        if all(math.isfinite(values[seed]) for values in ordered)
        else math.nan
        for seed in common_seeds(*ordered)
    }
    return paired_difference(slopes, dict.fromkeys(slopes, 0.0))


def gap_at(curve: Sequence[tuple[float, float]], level: float) -> float:
    """Return the gap at a locality, from the points of one seed.

    Its logarithm is interpolated by monotone cubics (PCHIP), which stay between neighbouring points; points with the
    same locality are replaced by their geometric mean.

    Args:
        curve: (locality, gap) at two localities or more; gaps are ratios of perplexities, above 0.
        level: a locality within their range.

    Raises:
        ValueError: the level lies outside: nothing is extrapolated.
    """
    costs: dict[float, list[float]] = {}
    for locality, gap in curve:
        costs.setdefault(locality, []).append(math.log(gap))
    xs = sorted(costs)
    if not xs[0] <= level <= xs[-1]:
        raise ValueError(f"locality {level} is outside {xs[0]} to {xs[-1]}")
    return math.exp(float(scipy.interpolate.PchipInterpolator(xs, [float(np.mean(costs[x])) for x in xs])(level)))
