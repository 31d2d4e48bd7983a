"""Families of runs compared at equal locality: against curves whose gap is known everywhere."""

import math

import pytest

from progloc.paper.comparisons import measured
from progloc.paper.figures import frontier_by_blocks, whiskers
from progloc.paper.frontier import (
    above_chance,
    beyond_chance,
    common_range,
    matched,
    paired_curves,
)
from progloc.paper.suite import load_suite
from progloc.report.statistics import Estimate, gap_at
from synthetic_suite import make_suite

F = measured("fidelity_no_sink")


def line(start, end, slope, seed=0):
    """Four points whose log gap is a straight line through (0.3, 0)."""
    return [(x, math.exp(slope * (x - 0.3) + 0.001 * seed)) for x in (start, 0.6 * start + 0.4 * end, 0.9 * end, end)]


def test_the_logarithm_of_the_gap_is_interpolated():
    assert gap_at(line(0.3, 0.9, 1.0), 0.5) == pytest.approx(math.exp(0.2))
    assert gap_at([(0.2, 1.0), (0.4, 4.0)], 0.3) == pytest.approx(2.0)  # the geometric mean half way


def test_what_rises_stays_between_its_neighbours():
    steep = [(0.0, 1.0), (0.4, 1.01), (0.5, 3.0), (1.0, 3.01)]
    levels = [gap_at(steep, k / 100) for k in range(101)]
    assert levels == sorted(levels)
    assert (min(levels), max(levels)) == pytest.approx((1.0, 3.01))


def test_points_of_one_locality_count_as_their_geometric_mean():
    assert gap_at([(0.2, 1.0), (0.4, 2.0), (0.4, 8.0)], 0.4) == pytest.approx(4.0)


@pytest.mark.parametrize("level", [0.29, 0.91])
def test_nothing_is_extrapolated(level):
    with pytest.raises(ValueError, match="outside"):
        gap_at(line(0.3, 0.9, 1.0), level)


def test_the_common_range_is_every_seeds():
    a = {0: line(0.3, 0.9, 1), 1: line(0.35, 0.8, 1), 7: line(0.1, 0.2, 1)}
    b = {1: line(0.5, 0.95, 1), 0: line(0.4, 0.85, 1)}
    assert common_range(a, b) == (0.5, 0.8)  # seed 7 has no counterpart


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({0: line(0.3, 0.5, 1)}, {0: line(0.6, 0.9, 1)}),
        ({0: line(0.3, 0.5, 1)}, {1: line(0.3, 0.5, 1)}),
        ({0: line(0.3, 0.5, 1)}, {0: []}),
        ({0: line(0.3, 0.5, 1)}, {0: [(0.4, 1.0)]}),
        ({}, {}),
    ],
)
def test_without_a_common_range_there_is_no_comparison(a, b):
    assert common_range(a, b) is None
    assert matched(a, b) is None


def test_families_are_compared_in_the_middle_of_the_common_range():
    cheap = {seed: line(0.4, 0.9, 0.5, seed) for seed in (0, 1, 2)}
    dear = {seed: line(0.3, 0.8, 1.0, 2 * seed) for seed in (0, 1, 2)}
    found = matched(cheap, dear)
    assert (found.low, found.high, found.level) == pytest.approx((0.4, 0.8, 0.6))
    # at 0.6 the logs are 0.15 + 0.001 k and 0.3 + 0.002 k: the mean difference over k = 0, 1, 2 is -0.151
    assert found.ratio.estimate.mean == pytest.approx(math.exp(-0.151), rel=1e-4)
    assert found.ratio.estimate.above(1) is False
    assert found.ratio.d == pytest.approx(-151, rel=0.02)
    assert matched(cheap, cheap).ratio.estimate.mean == pytest.approx(1.0)


def test_beyond_chance():
    assert [beyond_chance(f, 0.2) for f in (0.2, 0.6, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    assert math.isnan(beyond_chance(1.0, 1.0))


def sentences(run):
    if run["config"]["locality"]["blocks"] == "sentences":
        run["final"]["fidelity_no_sink"] += 0.1
        run["final"]["chance_fidelity_no_sink"] = 0.3


def test_a_suites_families_have_the_same_schedules(tmp_path):
    missing = ("linear-seed0", "cubic-sentences-seed0", *(f"{name}-seed2" for name in ("localist", "linear")))
    folder = make_suite(tmp_path, partitioners=["sentences"], missing=missing, change=sentences)
    suite = load_suite(folder)
    semantic, fixed = paired_curves(suite, "sentences", "fixed:5", F)
    assert [len(semantic[seed]) for seed in (0, 1, 2)] == [len(fixed[seed]) for seed in (0, 1, 2)] == [5, 7, 5]
    assert [x for x, _ in semantic[1]] == pytest.approx([x + 0.1 for x, _ in fixed[1]])
    run = suite.by_name["quintic-sentences"][1]
    assert above_chance(run) == pytest.approx((run.measure("fidelity_no_sink") - 0.3) / 0.7)


def test_a_seed_that_has_hardly_begun_is_left_out(tmp_path):
    names = ("localist", "linear", "quadratic", "cubic", "quartic", "quintic")
    missing = [f"{name}-sentences-seed2" for name in names]
    suite = load_suite(make_suite(tmp_path, partitioners=["sentences"], missing=missing))
    assert set(paired_curves(suite, "sentences", "fixed:5", F)[0]) == {0, 1}


def test_the_figure_has_a_line_a_partitioner_and_names_it(tmp_path):
    suite = load_suite(make_suite(tmp_path, partitioners=["sentences", "phrases"], change=sentences))
    drawn = frontier_by_blocks(suite)
    for axes in drawn.axes:
        markers = [container[0].get_marker() for container in axes.containers]
        assert len(markers) == len(set(markers)) == 3
        assert {"fixed:5", "sentences", "phrases", "quintic"} <= {text.get_text() for text in axes.texts}
    assert frontier_by_blocks(load_suite(make_suite(tmp_path / "one"))) is None


def test_an_interval_that_ends_at_zero_has_its_whisker():
    assert whiskers([Estimate(-0.5, -1.0, 0.0, 3), Estimate(1.0, 0.0, 2.0, 3)]).tolist() == [[0.5, 1.0], [0.5, 1.0]]
    assert whiskers([Estimate(1.0, 0.5, 1.5, 3), Estimate(1.0, None, None, 1)]) is None
