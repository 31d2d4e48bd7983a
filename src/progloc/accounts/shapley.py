"""Shapley values of a game's players, exactly where its subsets are few, else estimated with standard errors.

The estimator is the unbiased form of KernelSHAP (Covert and Lee, AISTATS 2021) over pairs of a subset and its
complement, of what a first additive guess leaves: a game that is additive takes no luck at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Game = Callable[[NDArray[np.bool_]], Floats]
"""From subsets (S, n) boolean to their values (S,)."""


@dataclass(frozen=True)
class ShapleyValues:
    """What each player is worth, in the game's unit."""

    values: Floats
    """(n,); they sum to the value of all less the value of none."""
    standard_errors: Floats
    """(n,): of estimation alone; 0 where the values are exact."""
    subsets: int
    """How many subsets were asked for."""


def subsets_needed(players: int, budget: int) -> int:
    """Return how many subsets `shapley_values` asks for, besides all and none."""
    proper = 2**players - 2
    return proper if proper <= budget else budget - budget % 2


def shapley_values(
    game: Game, everyone: float, nobody: float, guess: Floats, *, budget: int, seed: int = 0
) -> ShapleyValues:
    """Return the Shapley values of n players.

    Args:
        game: gives the value of subsets that are neither everyone nor nobody.
        everyone: the value of all.
        nobody: the value of none.
        guess: (n,), such as what the value falls by without each; the nearer, the smaller the error.
        budget: the most subsets to ask for, ≥ 4. All of them are taken where they are no more.
        seed: of the draws.
    """
    n = len(guess)
    if n == 1:
        return ShapleyValues(np.array([everyone - nobody]), np.zeros(1), 0)
    if 2**n - 2 <= budget:
        return _exact(game, everyone, nobody, n)
    pairs = budget // 2
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, n)
    odds = 1 / (sizes * (n - sizes))
    odds /= odds.sum()
    drawn = np.zeros((pairs, n), dtype=bool)
    for row, size in zip(drawn, rng.choice(sizes, pairs, p=odds), strict=True):
        row[rng.choice(n, size, replace=False)] = True
    both = np.concatenate([drawn, ~drawn])
    rest = game(both) - nobody - both @ guess
    moments = (both * rest[:, None]).reshape(2, pairs, n).mean(0)  # (pairs, n)
    together = (odds * sizes * (sizes - 1)).sum() / (n * (n - 1))  # the chance that two players are both there
    inverse = np.linalg.inv(np.full((n, n), together) + (0.5 - together) * np.eye(n))
    shares = inverse.sum(1) / inverse.sum()
    # the part of the solution that depends on the draws; the constraint on the sum takes up the rest
    project = inverse - np.outer(shares, inverse.sum(0))
    values = guess + project @ moments.mean(0) + shares * (everyone - nobody - guess.sum())
    errors = (moments @ project.T).std(0, ddof=1) / math.sqrt(pairs)
    return ShapleyValues(values, errors, len(both))


def _exact(game: Game, everyone: float, nobody: float, n: int) -> ShapleyValues:
    subsets = np.array(list(product([False, True], repeat=n)))
    values = np.concatenate([[nobody], game(subsets[1:-1]), [everyone]])
    sizes = subsets.sum(1)
    weights = np.array([1 / (n * math.comb(n - 1, k)) for k in range(n)])
    worth = np.empty(n)
    for player in range(n):
        there = subsets[:, player]  # product() counts up: without a player's bit the others are in the same order
        worth[player] = (weights[sizes[~there]] * (values[there] - values[~there])).sum()
    return ShapleyValues(worth, np.zeros(n), len(subsets) - 2)
