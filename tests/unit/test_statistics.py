"""The statistics of a suite, against formulas written out."""

import math

import numpy as np
import pytest
from scipy import stats

from progloc.suite.statistics import mean_interval, paired_difference, paired_ratio, trend_p


def test_interval_is_the_textbook_t_interval():
    found = mean_interval([1.0, 2.0, 3.0])
    half = stats.t.ppf(0.975, df=2) * 1.0 / math.sqrt(3)
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_one_seed_has_a_mean_and_no_interval():
    found = mean_interval([7.0])
    assert (found.mean, found.low, found.high, found.n) == (7.0, None, None, 1)
    assert found.above(0.0) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf]])
def test_what_is_undefined_has_no_interval(values):
    found = mean_interval(values)
    assert math.isnan(found.mean)
    assert found.low is None


def test_equal_values_have_an_interval_of_no_width():
    found = mean_interval([2.0, 2.0])
    assert (found.low, found.high) == (2.0, 2.0)


def test_above_needs_the_whole_interval():
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.above(-10), found.above(10), found.above(2)) == (True, False, None)


def test_pairs_are_made_by_seed_not_by_order():
    a, b = {0: 10.0, 1: 20.0, 2: 31.0, 9: 1e6}, {2: 30.0, 1: 18.0, 0: 9.0}
    found = paired_difference(a, b)
    differences = np.array([1.0, 2.0, 1.0])
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert found.estimate.mean == pytest.approx(4 / 3)
    assert found.estimate.n == 3
    assert found.p == pytest.approx(2 * stats.t.sf(t, df=2))


def test_ratio_is_geometric_and_turns_over():
    a, b = {0: 2.0, 1: 8.0}, {0: 1.0, 1: 1.0}
    there, back = paired_ratio(a, b).estimate, paired_ratio(b, a).estimate
    assert there.mean == pytest.approx(4.0)
    assert (back.mean, back.low, back.high) == pytest.approx((1 / there.mean, 1 / there.high, 1 / there.low))


def test_no_common_seed_gives_no_number():
    found = paired_ratio({0: 1.0}, {1: 1.0})
    assert math.isnan(found.estimate.mean)
    assert (found.estimate.n, found.p) == (0, None)


def test_trend_of_a_perfect_order_is_one_in_all_orders():
    rising = [{0: float(k), 1: 10.0 * k} for k in range(5)]
    assert trend_p(rising, rising=True) == pytest.approx(1 / math.factorial(5) ** 2)
    assert trend_p(rising, rising=False) == pytest.approx(1.0)


@pytest.mark.parametrize("rows", [[{0: 1.0}] * 3, [{0: 1.0, 1: 2.0}] * 2, [{0: 1.0, 1: math.nan}] * 3])
def test_trend_needs_two_seeds_three_treatments_and_numbers(rows):
    assert trend_p(rows, rising=True) is None
