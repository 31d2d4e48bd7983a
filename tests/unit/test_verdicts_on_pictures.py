"""How a picture is compared with effects, and the verdict that follows, on numbers made up for it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from progloc.accounts import verdict as rule
from progloc.accounts.agreement import baselines, correlation, leading_source, overlap, random_sets, top_blocks
from progloc.accounts.schema import Correlation, Faithfulness, LeadingSource, Removal
from progloc.accounts.verdict import NOT_FAITHFUL, SUPPORTED, TOO_LITTLE, WEAK, verdict


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


def test_small_effects_are_ranked_too_down_to_what_float32_resolves():
    one_block = [0.001, 0.002, 0.97, 0.003, 0.001]
    effects = [-0.001, 0.002, 5.0, 0.0, 0.003]
    assert correlated(one_block, effects).rho == pytest.approx(stats.spearmanr(one_block, effects).statistic)
    rounding = [1e-7, 2e-7, 5.0, -1e-7, 0.0]
    assert correlated([0.1, 0.1, 0.6, 0.1, 0.1], rounding).rho == pytest.approx(1.0)
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
    sizes, top = [5, 7, 3, 9, 4, 6, 8, 20], [1, 3]
    drawn = random_sets(sizes, top, count=12, seed=0)
    assert len({tuple(each) for each in drawn}) == len(drawn) == 12
    assert all(abs(sum(sizes[block] for block in each) - 16) <= 10 for each in drawn)  # half a long one
    assert top not in drawn
    assert sorted(random_sets([5, 5, 5], [1], count=8, seed=0)) == [[0], [2]]


def test_what_a_picture_has_to_beat_knows_only_where_blocks_stand_and_how_long_they_are():
    shades = baselines(np.array([5.0, 9.0, 2.0]))
    assert {name: shade.argsort().tolist() for name, shade in shades.items() if name != "last_block"} == {
        "recency": [0, 1, 2], "length": [2, 0, 1],
    }  # fmt: skip
    assert shades["last_block"].tolist() == [0, 0, 1]


def test_the_source_that_leads():
    found = leading_source("removal", [3, 5, 8], np.array([0.1, 0.1, 0.3]), np.array([-4.0, 3.0, 1.0]))
    assert found == LeadingSource("removal", 5, 3.0, 0.75, pytest.approx(0.2), pytest.approx(0.6))
    assert leading_source("removal", [3, 5], np.array([0.1, 0.1]), np.array([-4.0, 0.0])) is None


SOURCES = 20
MASSES = np.arange(1.0, SOURCES + 1) / 210
"""A picture: the later, the more."""


def case(
    *,
    masses: Any = MASSES[::-1],
    removal: Any = MASSES[::-1],
    deletion: Any = None,
    sizes: Any = (5.0,) * SOURCES,
    as_good: int = 0,
    sets: int = 199,
    whole: float = 2.0,
) -> Faithfulness:
    """What the tests of a picture find, of masses and the effects of two operators over its sources."""
    masses, sizes = np.asarray(masses), np.asarray(sizes)
    effects = {"removal": np.asarray(removal), "deletion": np.asarray(removal if deletion is None else deletion)}
    pictures = {"mass_no_sink": masses, **baselines(sizes)}
    leading = [leading_source(name, list(range(len(masses))), masses, each) for name, each in effects.items()]
    return Faithfulness(
        log_prob=-10.0,
        log_prob_without=-10.0 - whole,
        correlations=tuple(
            correlation(picture, effect, mass, each, sizes, seed=0)
            for picture, mass in pictures.items()
            for effect, each in effects.items()
        ),
        leading=tuple(each for each in leading if each is not None),
        top=Removal((0,), 10, 5.0),
        rest=Removal((1, 2), 40, 5.0),
        random=tuple(Removal((1,), 10, 9.0 if n < as_good else 0.1) for n in range(sets)),
        sources=len(masses),
    )


def shuffled(seed: int, count: int = SOURCES) -> Any:
    return np.random.default_rng(seed).permutation(MASSES[:count])


def only(block: int, count: int = SOURCES) -> Any:
    """Effects of which one source has nearly all."""
    return np.where(np.arange(count) == block, 5.0, 0.01 * shuffled(1, count))


def shown(first: float, second: float, count: int = SOURCES) -> Any:
    """A picture of shares of which the first two are given."""
    return np.array([first, second, *[(1 - first - second) / (count - 2)] * (count - 2)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, SUPPORTED),
        ({"deletion": MASSES}, NOT_FAITHFUL),  # it has to hold with both operators
        ({"deletion": shuffled(0)}, NOT_FAITHFUL),
        ({"removal": MASSES}, NOT_FAITHFUL),
        ({"removal": MASSES[::-1] + 2.0 * shuffled(7)}, WEAK),  # ρ is no chance, and below 0.5
        ({"removal": MASSES[::-1] + 2.0 * shuffled(0)}, TOO_LITTLE),  # ρ above 0 with 0 in its interval
        ({"masses": MASSES, "removal": MASSES}, WEAK),  # recency does as well
        ({"sizes": MASSES[::-1]}, WEAK),  # length does
        ({"as_good": 40}, WEAK),
        ({"as_good": 100}, NOT_FAITHFUL),
        ({"sets": 198}, TOO_LITTLE),
        ({"sets": 0}, TOO_LITTLE),
        ({"whole": 0.01}, TOO_LITTLE),
        ({"whole": 0.01, "removal": MASSES}, TOO_LITTLE),
        ({"whole": 20.0}, TOO_LITTLE),  # blocks stand in for each other
        ({"removal": -MASSES}, TOO_LITTLE),  # nothing is needed
        ({"masses": MASSES[9::-1], "removal": MASSES[9::-1], "sizes": [5.0] * 10}, SUPPORTED),
        ({"masses": MASSES[8::-1], "removal": MASSES[8::-1], "sizes": [5.0] * 9}, TOO_LITTLE),
        ({"masses": MASSES[:9], "removal": MASSES[8::-1], "sizes": [5.0] * 9}, TOO_LITTLE),
        ({"masses": [0.5, 0.2, 0.3], "removal": [2.0, 1.0, 0.5], "sizes": [5.0] * 3, "sets": 2}, TOO_LITTLE),
    ],
)
def test_the_rule(changes: dict[str, Any], expected: str):
    decided, reasons = verdict(case(**changes), answer_tokens=4)
    assert decided == expected, reasons
    assert reasons


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"masses": shown(0.6, 0.2)}, SUPPORTED),
        ({"masses": shown(0.6, 0.2), "sets": 0}, SUPPORTED),  # ranks of the others are noise, and so are sets
        ({"masses": shown(0.6, 0.35)}, WEAK),
        ({"masses": shown(0.3, 0.4)}, WEAK),
        ({"masses": shown(0.2, 0.6)}, NOT_FAITHFUL),
        ({"masses": shown(0.6, 0.2), "deletion": only(1)}, NOT_FAITHFUL),
        ({"masses": shown(0.6, 0.2, 5), "removal": only(0, 5), "sizes": [5.0] * 5}, SUPPORTED),
        ({"masses": shown(0.2, 0.6, 5), "removal": only(0, 5), "sizes": [5.0] * 5}, NOT_FAITHFUL),
        ({"masses": shown(0.6, 0.2, 4), "removal": only(0, 4), "sizes": [5.0] * 4}, TOO_LITTLE),
        ({"masses": shown(0.2, 0.6, 3), "removal": only(0, 3), "sizes": [5.0] * 3}, TOO_LITTLE),
    ],
)
def test_where_one_source_has_the_effect_it_is_judged_by_whether_it_comes_first(changes: dict[str, Any], expected: str):
    decided, reasons = verdict(case(**{"removal": only(0), **changes}), answer_tokens=4)
    assert decided == expected, reasons
    if expected != TOO_LITTLE:
        assert f"by chance is 1 in {len(changes['masses'])}" in reasons[0]


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5, 8, 10, 14, 20, 40])
def test_a_picture_drawn_at_random_is_hardly_ever_supported(count: int):
    rng, decided = np.random.default_rng(count), []
    for _ in range(100):
        effects = rng.exponential(size=count)
        near = effects + 0.1 * rng.normal(size=count)
        as_good = int(rng.integers(200))
        found = case(
            masses=rng.exponential(size=count), removal=effects, deletion=near, sizes=[5.0] * count, as_good=as_good
        )
        decided.append(verdict(found, answer_tokens=4)[0])
    assert decided.count(SUPPORTED) <= 5


def test_the_page_has_the_rules_numbers():
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    section = page.split("## The verdict")[1].split("\n## ")[0]
    numbers = {value for name, value in vars(rule).items() if name.isupper() and isinstance(value, int | float)}
    assert len(numbers) >= 8
    assert {f"{value:g}" for value in numbers} - set(re.findall(r"\d+(?:\.\d+)?", section)) == set()


def test_the_reason_that_decided_stands_first():
    _, reasons = verdict(case(as_good=150), answer_tokens=4)
    assert reasons[0].startswith("Losing the blocks it shows first costs")
    assert verdict(None, answer_tokens=4)[0] == TOO_LITTLE


def test_comprehensiveness_and_sufficiency_are_shares_of_all_sources_worth():
    found = case()
    assert found.comprehensiveness == pytest.approx(5 / 2)
    assert found.sufficiency == pytest.approx(1 - 5 / 2)
    assert dataclasses.replace(found, log_prob_without=-10.0).comprehensiveness is None
    assert case(as_good=4).p_random == pytest.approx(5 / 200)
    assert case(sets=0).p_random is None
