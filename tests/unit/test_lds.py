"""The linear datamodeling score: against its definition, at its ends, and where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from progloc.accounts.lds import lds, random_halves, top

RNG = np.random.default_rng(4)


@pytest.mark.parametrize(("sources", "left_out"), [(2, 1), (7, 3), (24, 12)])
def test_halves_leave_out_half_and_every_source_as_often(sources: int, left_out: int) -> None:
    halves = random_halves(sources, 2000, seed=1)
    assert halves.shape == (2000, sources)
    assert (halves.sum(1) == left_out).all()
    assert np.abs(halves.mean(0) - left_out / sources).max() < 0.06
    assert (random_halves(sources, 2000, seed=1) == halves).all()


def test_it_is_spearmans_rho_of_summed_scores_and_losses() -> None:
    scores, halves = RNG.normal(size=9), random_halves(9, 64)
    losses = RNG.normal(size=64)
    summed = [sum(score for score, gone in zip(scores, row, strict=True) if gone) for row in halves]
    assert lds(scores, halves, losses) == pytest.approx(spearmanr(summed, losses).statistic)


def test_the_effects_of_an_additive_game_are_a_true_picture_and_their_opposite_is_none() -> None:
    effects, halves = RNG.normal(size=9), random_halves(9, 64)
    assert lds(effects, halves, halves @ effects) == pytest.approx(1)
    assert lds(-effects, halves, halves @ effects) == pytest.approx(-1)


@pytest.mark.parametrize(("scores", "scale"), [(np.ones(6), 1.0), (np.arange(6.0), 0.0)])
def test_where_nothing_varies_there_is_none(scores: np.ndarray, scale: float) -> None:
    assert lds(scores, random_halves(6, 20), scale * RNG.normal(size=20)) is None


def test_the_top_sources_are_those_of_the_largest_scores() -> None:
    assert top([0.1, 3.0, -1.0, 3.0], 1).tolist() == [False, True, False, False]
    assert top([0.1, 3.0, -1.0, 3.0], 3).tolist() == [True, True, False, True]
