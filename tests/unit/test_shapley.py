"""Shapley values: exact on games that are known, unbiased and with honest errors on others."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from progloc.accounts.shapley import Floats, Game, shapley_values, subsets_needed


def game_of(n: int, seed: int, joint: float = 1.0) -> tuple[Game, float, float]:
    """A game with effects of one, two and three players, and the values of everyone and nobody."""
    rng = np.random.default_rng(seed)
    single, pair, triple = (
        rng.normal(size=n),
        joint * rng.normal(size=(n, n)) / 3,
        joint * rng.normal(size=(n, n, n)) / 9,
    )

    def game(subsets: np.ndarray) -> Floats:
        z = subsets.astype(float)
        return 0.7 + z @ single + ((z @ pair) * z).sum(1) + np.einsum("si,sj,sk,ijk->s", z, z, z, triple)

    return game, float(game(np.ones((1, n)))[0]), float(game(np.zeros((1, n)))[0])


def by_orders(game: Game, n: int) -> Floats:
    """The definition: what a player adds when it comes, over all orders."""
    worth = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        there = np.zeros((n + 1, n), dtype=bool)
        for place, player in enumerate(order, 1):
            there[place] = there[place - 1]
            there[place, player] = True
        worth[list(order)] += np.diff(game(there))
    return worth / len(orders)


def without_each(game: Game, n: int, everyone: float) -> Floats:
    return everyone - game(~np.eye(n, dtype=bool))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_few_players_are_exact(n: int) -> None:
    game, everyone, nobody = game_of(n, n)
    result = shapley_values(game, everyone, nobody, np.zeros(n), budget=64)
    np.testing.assert_allclose(result.values, by_orders(game, n), atol=1e-12)
    assert not result.standard_errors.any()
    assert result.subsets == subsets_needed(n, 64)


def test_an_additive_game_is_exact_whatever_is_drawn() -> None:
    worth = np.linspace(-2, 3, 20)
    everyone = float(worth.sum())
    result = shapley_values(lambda subsets: subsets @ worth, everyone, 0.0, worth, budget=16)
    np.testing.assert_allclose(result.values, worth, atol=1e-12)


def test_estimates_are_unbiased_with_errors_that_are_true() -> None:
    n, budget = 7, 60
    game, everyone, nobody = game_of(n, 3)
    exact, guess = by_orders(game, n), without_each(game, n, everyone)
    results = [shapley_values(game, everyone, nobody, guess, budget=budget, seed=seed) for seed in range(400)]
    values = np.array([result.values for result in results])
    spread = values.std(0)
    assert (np.abs(values.mean(0) - exact) < 4 * spread / np.sqrt(len(values))).all()
    errors = np.sqrt(np.mean([result.standard_errors**2 for result in results], 0))
    np.testing.assert_allclose(errors, spread, rtol=0.15)
    assert all(abs(result.values.sum() - (everyone - nobody)) < 1e-9 for result in results)
    assert all(result.subsets == budget for result in results)
    assert spread.max() > 0.01


def test_a_better_guess_makes_smaller_errors() -> None:
    n = 12
    game, everyone, nobody = game_of(n, 5, joint=0.1)
    guessed, blind = (
        shapley_values(game, everyone, nobody, guess, budget=64).standard_errors.mean()
        for guess in (without_each(game, n, everyone), np.zeros(n))
    )
    assert guessed < blind / 2
