"""How well a picture agrees with what removing blocks does: ranks, shares, and what chance gives."""

from __future__ import annotations

__all__ = ["correlation", "overlap", "random_sets", "top_blocks"]

from collections.abc import Sequence

import numpy as np
from scipy import stats

from progloc.auditing.report import Correlation
from progloc.blocks import FloatArray

RESOLUTION = 100
"""What differs by less than this part of the largest counts as equal: nobody would see it in a picture."""
RESAMPLES = 2000
TOP = 0.2
"""The share of the tested tokens that the top blocks hold."""


def _rounded(values: FloatArray) -> FloatArray:
    largest = np.abs(values).max(initial=0.0)
    return values if largest == 0 else np.round(values / largest * RESOLUTION)


def _spearman(one: FloatArray, other: FloatArray, axis: int = -1) -> FloatArray:
    """Return Spearman's ρ along an axis; NaN where either does not vary."""
    ranks = [stats.rankdata(each, axis=axis) for each in np.broadcast_arrays(one, other)]
    centred = [each - each.mean(axis, keepdims=True) for each in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(axis) * (centred[1] ** 2).sum(axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 0, (centred[0] * centred[1]).sum(axis) / spread, np.nan))


def _number(value: FloatArray | float) -> float | None:
    return None if np.isnan(value) else float(value)


def correlation(
    picture: str, effect: str, masses: FloatArray, effects: FloatArray, sizes: FloatArray, seed: int
) -> Correlation:
    """Return how a picture's masses rank blocks against how their effects do.

    Args:
        picture: its name.
        effect: its name.
        masses: (N,), of the tested blocks.
        effects: (N,), nats.
        sizes: (N,), their tokens.
        seed: of what is drawn.
    """
    x, y = _rounded(masses), _rounded(effects)
    rho = _number(_spearman(x, y)) if len(x) >= 3 else None
    if rho is None:
        return Correlation(picture, effect, None, None, None, None, None)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(x), size=(RESAMPLES, len(x)))
    resampled = _spearman(x[drawn], y[drawn])
    low, high = np.nanpercentile(resampled, (2.5, 97.5))  # a draw in which nothing varies ranks nothing
    shuffled = _spearman(rng.permuted(np.tile(x, (RESAMPLES, 1)), axis=1), y)
    p = (1 + int((shuffled >= rho - 1e-12).sum())) / (RESAMPLES + 1)
    for_size = _number(_spearman(_rounded(masses / sizes), _rounded(effects / sizes)))
    return Correlation(picture, effect, rho, float(low), float(high), p, for_size)


def overlap(masses: FloatArray, effects: FloatArray) -> float | None:
    """Return how much of a picture is where the effects are: Σ_b min(π_b, ε_b), both made to sum to 1, in [0, 1].

    It is 1 minus the total variation distance. None where no mass is there, or nothing has an effect above 0.

    Args:
        masses: (N,) ≥ 0.
        effects: (N,) nats; those below 0 count as none.
    """
    harmful = np.clip(effects, 0.0, None)
    if masses.sum() <= 0 or harmful.sum() <= 0:
        return None
    return float(np.minimum(masses / masses.sum(), harmful / harmful.sum()).sum())


def top_blocks(masses: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Return which blocks hold the most mass, as many as are needed to hold `TOP` of the tokens, and never all.

    Args:
        masses: N ≥ 2 numbers.
        sizes: their tokens.
    """
    order = np.argsort(-np.asarray(masses), kind="stable")
    held = np.cumsum(np.asarray(sizes)[order])
    count = int(np.searchsorted(held, TOP * held[-1])) + 1
    return sorted(order[: min(count, len(order) - 1)].tolist())


def random_sets(others: Sequence[int], sizes: Sequence[int], tokens: int, count: int, seed: int) -> list[list[int]]:
    """Return different sets of blocks that hold about so many tokens, drawn at random; fewer where there are no more.

    Args:
        others: indices of the blocks to draw from.
        sizes: the tokens of every block, by index.
        tokens: how many a set is to hold: it is closed when another block would take it further from that.
        count: how many sets.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    found: dict[frozenset[int], None] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        drawn: list[int] = []
        held = 0
        for block in rng.permutation(np.asarray(others)).tolist():
            if drawn and abs(held + sizes[block] - tokens) > abs(held - tokens):
                break
            drawn.append(block)
            held += sizes[block]
        found[frozenset(drawn)] = None
    return [sorted(each) for each in found]
