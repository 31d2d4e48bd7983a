"""The statistics of a suite, against formulas written out."""

import math
import re
import runpy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from progloc.report.statistics import (
    BCA_FROM,
    bca_interval,
    crossed,
    holm,
    mean_interval,
    paired_difference,
    paired_ratio,
    trend,
)

ROOT = Path(__file__).parents[2]


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


def by_seed(*values):
    return dict(enumerate(values))


def compared(*differences):
    return paired_difference(by_seed(*differences), by_seed(*[0.0] * len(differences)))


def test_permutation_goes_through_every_change_of_signs():
    differences = (3.0, 1.0, 2.0, -0.5)
    sums = [np.dot(signs, differences) for signs in product((-1, 1), repeat=4)]
    extreme = sum(abs(total) >= sum(differences) - 1e-9 for total in sums)
    assert compared(*differences).p_permutation == pytest.approx(extreme / 16)


@pytest.mark.parametrize("n", [2, 5, 6])
def test_the_smallest_permutation_p_is_two_in_all_changes_of_signs(n):
    assert compared(*np.linspace(1, 1.1, n)).p_permutation == pytest.approx(2 / 2**n)


def test_effect_size_is_over_the_spread_of_the_differences():
    found = paired_difference(by_seed(11.0, 22.0, 33.0), by_seed(10.0, 20.0, 30.0))
    assert found.d == pytest.approx(2.0)  # differences 1, 2, 3: mean 2, standard deviation 1
    assert compared(-1.0, -2.0, -3.0).d == pytest.approx(-2.0)


def test_equal_differences_have_no_effect_size_and_a_point_for_an_interval():
    found = compared(*[0.3] * BCA_FROM)
    assert found.d is None
    assert found.bca.low == found.bca.high == pytest.approx(0.3)
    nothing = compared(*[0.0] * BCA_FROM)
    assert (nothing.p, nothing.p_permutation, nothing.d) == (None, 1.0, None)


def test_bca_stands_beside_from_five_seeds_on():
    assert compared(*range(BCA_FROM - 1)).bca is None
    assert compared(*range(BCA_FROM)).bca == bca_interval(range(BCA_FROM))


def test_bca_of_few_values_is_hardly_more_than_their_range():
    found = bca_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == (2.0, 1.0, 3.0)


def test_bca_leans_to_the_long_tail():
    found = bca_interval([0.0, 0.1, 0.2, 0.3, 0.4, 5.0])
    assert found.high - found.mean > 1.5 * (found.mean - found.low)


def test_one_seed_is_compared_with_nothing():
    found = compared(1.0)
    assert (found.estimate.mean, found.p, found.p_permutation, found.bca, found.d) == (1.0, None, None, None, None)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04: 4 · 0.01, 3 · 0.02, then 2 · 0.03 and 1 · 0.04, which may not fall below 0.06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_no_test_is_none_of_the_family():
    assert holm([None, 0.01, 0.04]) == [None, 0.02, 0.04]


def test_ratio_is_geometric_and_turns_over():
    a, b = {0: 2.0, 1: 8.0}, {0: 1.0, 1: 1.0}
    there, back = paired_ratio(a, b).estimate, paired_ratio(b, a).estimate
    assert there.mean == pytest.approx(4.0)
    assert (back.mean, back.low, back.high) == pytest.approx((1 / there.mean, 1 / there.high, 1 / there.low))


def test_no_common_seed_gives_no_number():
    found = paired_ratio({0: 1.0}, {1: 1.0})
    assert math.isnan(found.estimate.mean)
    assert (found.estimate.n, found.p) == (0, None)


def test_a_trend_is_the_slope_within_each_seed():
    found = trend([{0: 1.0, 1: 5.0}, {1: 7.0, 0: 2.0}, {0: 3.0, 1: 9.0}])
    assert found.estimate.mean == pytest.approx(1.5)
    assert found.p == pytest.approx(2 * stats.t.sf(1.5 / 0.5, df=1))


def test_treatments_do_not_stand_in_for_seeds():
    """Two seeds that rise unequally decide nothing, however many places the order has."""
    ps = [trend([{0: 1.0 * k, 1: 9.0 * k} for k in range(places)]).p for places in (3, 7, 40)]
    assert ps == pytest.approx([2 * stats.t.sf(5 / 4, df=1)] * 3)
    assert min(ps) > 0.4


@pytest.mark.slow
def test_a_trend_is_found_in_no_more_than_one_in_twenty_where_there_is_none():
    """Treatments differ, the same in every seed but for a little noise, and in no order on average."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        shape = generator.standard_normal(7)
        shape -= np.polyval(np.polyfit(range(7), shape, 1), range(7))  # no slope is left
        table = shape + 0.3 * generator.standard_normal((5, 7))
        wrong += trend([dict(enumerate(values)) for values in table.T]).p < 0.05
    assert wrong / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("rows", [[{0: 1.0}] * 3, [{0: 1.0, 1: math.nan}] * 3, [{0: 1.0}, {1: 1.0}]])
def test_a_trend_needs_two_seeds_and_numbers(rows):
    assert trend(rows).p is None
    assert trend(rows).estimate.above(0.0) is None


def two_way(seeds, passages, of_seed, of_passage, of_both, generator):
    return (
        of_seed * generator.standard_normal((seeds, 1))
        + of_passage * generator.standard_normal((1, passages))
        + of_both * generator.standard_normal((seeds, passages))
    )


def test_passages_that_differ_widen_an_interval_though_seeds_agree():
    """Of twenty passages half favour a model: seeds that repeat that are no further passages."""
    table = np.where(np.arange(20) % 2, 0.5, -0.4) + np.zeros((5, 1)) + 1e-3 * np.arange(5)[:, None]
    found = crossed(table)
    assert found.estimate.above(0.0) is None
    assert found.p > 0.3
    of_seeds = compared(*table.mean(1))
    assert of_seeds.estimate.above(0.0) is True  # what means over passages, compared by seed, would say
    of_passages = stats.ttest_1samp(table.mean(0), 0.0).confidence_interval()
    assert found.estimate.high - found.estimate.low == pytest.approx(of_passages.high - of_passages.low, rel=0.1)


def test_seeds_that_differ_widen_it_though_passages_agree():
    table = np.array([0.5, -0.4, 0.6, 0.1, -0.2])[:, None] + 1e-3 * np.arange(100)
    of_seeds = compared(*table.mean(1)).estimate
    found = crossed(table).estimate
    assert (found.low, found.high) == pytest.approx((of_seeds.low, of_seeds.high), abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(0.0, 1.0, 1.0), (0.3, 0.3, 0.3), (1.0, 0.0, 0.1)])
def test_a_crossed_interval_holds_the_mean_about_as_often_as_it_says(parts):
    generator = np.random.default_rng(1)
    held = [crossed(two_way(5, 40, *parts, generator)).estimate.above(0.0) is None for _ in range(200)]
    assert np.mean(held) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


@pytest.mark.parametrize("shape", [(1, 9), (5, 1), (0, 9), (5, 0)])
def test_one_seed_or_one_passage_has_no_crossed_interval(shape):
    found = crossed(np.ones(shape))
    assert (found.estimate.low, found.p) == (None, None)
    assert math.isnan(found.estimate.mean) == (not all(shape))


def test_p_goes_with_the_crossed_interval():
    table = two_way(5, 30, 0.2, 0.3, 0.3, np.random.default_rng(3))
    found = crossed(table - table.mean() + 0.4)
    level = 1 - found.p
    assert crossed(table - table.mean() + 0.4, level).estimate.low == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_the_coverage_on_the_page_is_what_the_script_finds():
    script = runpy.run_path(str(ROOT / "benchmarks" / "interval_coverage.py"))
    (row,) = re.findall(r"^\| 5 \| (.*) \|$", (ROOT / "docs" / "statistics.md").read_text("utf-8"), re.MULTILINE)
    shown = [float(share) / 100 for share in row.split(" | ")]
    found = [share for name in script["DISTRIBUTIONS"] for share in script["coverage"](name, 5, 400).values()]
    assert found == pytest.approx(shown, abs=4 * math.sqrt(0.2 * 0.8 / 400))
    assert shown[0] == pytest.approx(0.95, abs=0.01)  # t, normal
