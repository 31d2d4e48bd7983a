"""How a picture is compared with effects, and the verdict that follows, on numbers made up for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from progloc.auditing.agreement import correlation, overlap, random_sets, top_blocks
from progloc.auditing.report import Correlation, Faithfulness, Removal
from progloc.auditing.verdict import NOT_FAITHFUL, SUPPORTED, WEAK, verdict


def correlated(masses: Any, effects: Any) -> Correlation:
    ones = np.ones(len(masses))
    return correlation("mass_no_sink", "deletion", np.asarray(masses), np.asarray(effects), ones, seed=0)


def test_the_rank_correlation_is_spearmans():
    rng = np.random.default_rng(1)
    masses = rng.permutation(np.arange(1, 13)) / 78  # no two so near that they count as equal
    effects = rng.permutation(np.arange(12)) * 0.5 - 2
    found = correlated(masses, effects)
    assert found.rho == pytest.approx(stats.spearmanr(masses, effects).statistic)
    expected = stats.permutation_test(
        (masses,), lambda x: stats.spearmanr(x, effects).statistic,
        permutation_type="pairings", alternative="greater", n_resamples=2000, rng=0,
    ).pvalue  # fmt: skip
    assert found.p_shuffled == pytest.approx(expected, abs=0.05)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.rho < found.high


def test_what_nobody_would_see_ranks_nothing():
    one_block = [0.001, 0.002, 0.97, 0.003, 0.001]
    effects = [-0.001, 0.002, 5.0, 0.0, 0.003]
    assert correlated(one_block, effects).rho == pytest.approx(1.0)
    assert correlated([0.2] * 5, effects).rho is None
    assert correlated([0.1, 0.9], [0.0, 1.0]).rho is None


def test_longer_blocks_do_not_correlate_by_length_alone():
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    found = correlation("mass", "deletion", sizes / sizes.sum(), sizes * 0.1, sizes, seed=0)
    assert found.rho == pytest.approx(1.0)
    assert found.rho_for_size is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-3, 3)), min_size=2, max_size=9))
def test_overlap_is_one_minus_total_variation(pairs: list[tuple[float, float]]):
    masses, effects = np.array(pairs).T
    found = overlap(masses, effects)
    harmful = effects.clip(min=0)
    if found is None:
        assert masses.sum() == 0 or harmful.sum() == 0
    else:
        expected = 1 - np.abs(masses / masses.sum() - harmful / harmful.sum()).sum() / 2
        assert found == pytest.approx(expected, abs=1e-6)


def test_top_blocks_hold_a_fifth_of_the_tokens_and_are_never_all():
    assert top_blocks([0.1, 0.5, 0.3, 0.1], [10, 10, 10, 70]) == [1, 2]
    assert top_blocks([0.9, 0.1], [99, 1]) == [0]
    assert top_blocks([0.1, 0.9], [99, 1]) == [1]


def test_random_sets_hold_about_as_many_tokens_and_differ():
    sizes = [5, 7, 3, 9, 4, 6, 8, 20]
    found = random_sets([1, 2, 3, 4, 5, 6], sizes, tokens=14, count=6, seed=0)
    assert len({tuple(each) for each in found}) == len(found) == 6
    assert all(abs(sum(sizes[block] for block in each) - 14) <= 5 for each in found)
    assert not any({0, 7} & set(each) for each in found)
    assert random_sets([1, 2], [1, 5, 5], tokens=5, count=8, seed=0) in ([[1], [2]], [[2], [1]])


def found(**changes: Any) -> Faithfulness:
    rho = changes.pop("rho", 0.8)
    effects = changes.pop("random_effects", (0.1,) * 10)
    settings: dict[str, Any] = {
        "log_prob": -10.0, "log_prob_without": -30.0,
        "correlations": (Correlation("mass_no_sink", "deletion", rho, None, None, None, None),),
        "top": Removal((1,), 10, 5.0), "rest": Removal((0, 2), 40, 5.0),
        "random": tuple(Removal((0,), 10, effect) for effect in effects),
        "overlap": 0.7, "overlap_by_length": 0.3,
    }  # fmt: skip
    return Faithfulness(**{**settings, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, SUPPORTED),
        ({"rho": None}, SUPPORTED),
        ({"rho": 0.4}, WEAK),
        ({"rho": 0.0}, NOT_FAITHFUL),
        ({"overlap": 0.4}, WEAK),
        ({"overlap_by_length": 0.8}, WEAK),
        ({"overlap": 0.2}, NOT_FAITHFUL),
        ({"random_effects": (0.1,) * 6 + (9.0,) * 4}, WEAK),
        ({"random_effects": (0.1,) * 5 + (9.0,) * 5}, NOT_FAITHFUL),
        ({"random": ()}, SUPPORTED),
        ({"overlap": None}, WEAK),
        ({"log_prob_without": -10.01, "rho": -1.0}, WEAK),
    ],
)
def test_the_rule(changes: dict[str, Any], expected: str):
    decided, reasons = verdict(found(**changes), answer_tokens=4)
    assert decided == expected
    assert reasons


def test_the_reason_that_decided_stands_first():
    _, reasons = verdict(found(overlap=0.1), answer_tokens=4)
    assert reasons[0].startswith("10% of the picture")
    assert verdict(None, answer_tokens=4)[0] == WEAK


def test_comprehensiveness_and_sufficiency_are_shares_of_the_whole_prompts_worth():
    case = found()
    assert case.comprehensiveness == pytest.approx(5 / 20)
    assert case.sufficiency == pytest.approx(1 - 5 / 20)
    assert dataclasses.replace(case, log_prob_without=-10.0).comprehensiveness is None
