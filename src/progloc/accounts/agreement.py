"""How well a picture agrees with what removing blocks does: ranks, shares, and what chance gives."""

from __future__ import annotations

__all__ = ["baselines", "correlation", "leading_source", "overlap", "random_sets", "top_blocks"]

from collections.abc import Sequence

import numpy as np
from scipy import stats

from progloc.accounts.schema import BASELINES, Correlation, LeadingSource, shares
from progloc.blocks import FloatArray

DECIMALS = 5
"""Of shares and nats: what differs by less is rounding in float32, and counts as equal."""
RESAMPLES = 2000
TOP = 0.2
"""The share of the tested tokens that the top blocks hold."""


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
    """Return how a picture's masses agree with what the blocks' loss costs.

    Args:
        picture: its name.
        effect: its name.
        masses: (N,), of the tested blocks.
        effects: (N,), nats.
        sizes: (N,), their tokens.
        seed: of what is drawn.
    """
    x, y, per_token, effect_per_token = (
        np.round(each, DECIMALS) for each in (masses, effects, masses / sizes, effects / sizes)
    )
    shared = overlap(masses, effects)
    rho = _number(_spearman(x, y)) if len(x) >= 3 else None
    if rho is None:
        return Correlation(picture, effect, None, None, None, None, None, shared)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(x), size=(RESAMPLES, len(x)))
    resampled = _spearman(x[drawn], y[drawn])
    low, high = np.nanpercentile(resampled, (2.5, 97.5))  # a draw in which nothing varies ranks nothing
    shuffled = _spearman(rng.permuted(np.tile(x, (RESAMPLES, 1)), axis=1), y)
    p = (1 + int((shuffled >= rho - 1e-12).sum())) / (RESAMPLES + 1)
    return Correlation(
        picture, effect, rho, float(low), float(high), p, _number(_spearman(per_token, effect_per_token)), shared
    )


def baselines(sizes: FloatArray) -> dict[str, FloatArray]:
    """Return pictures that know nothing of the model, (N,) each, of sources of these sizes in the text's order."""
    count = len(sizes)
    return dict(zip(BASELINES, (np.arange(1.0, count + 1), np.eye(count)[-1], sizes), strict=True))


def leading_source(effect: str, blocks: Sequence[int], masses: FloatArray, effects: FloatArray) -> LeadingSource | None:
    """Return the source that costs most to lose, and what a picture makes of it; None where no loss costs anything.

    Args:
        effect: its name.
        blocks: N ≥ 2 numbers.
        masses: (N,).
        effects: (N,), nats.
    """
    first = int(effects.argmax())
    if effects[first] <= 0:
        return None
    harmful, shown = shares(effects.clip(min=0)), shares(masses)
    numbers = (effects[first], harmful[first], shown[first], np.delete(shown, first).max())
    return LeadingSource(effect, blocks[first], *map(float, numbers))


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


def top_blocks(masses: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """Return which blocks hold the most mass, as many as are needed to hold `TOP` of the tokens, and never all.

    Args:
        masses: N ≥ 2 numbers.
        sizes: their tokens.
    """
    order = np.argsort(-np.asarray(masses), kind="stable")
    held = np.cumsum(np.asarray(sizes)[order])
    count = int(np.searchsorted(held, TOP * held[-1])) + 1
    return sorted(order[: min(count, len(order) - 1)].tolist())


def random_sets(sizes: Sequence[float], top: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Return other sets of blocks that hold about as many tokens, drawn at random; fewer where there are no more.

    Args:
        sizes: the tokens of every block.
        top: the set that they are to match: one is closed when another block would take it further from its tokens.
        count: how many sets.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    tokens = sum(sizes[block] for block in top)
    found: dict[frozenset[int], None] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        drawn: list[int] = []
        held = 0.0
        for block in rng.permutation(len(sizes)).tolist():
            if drawn and abs(held + sizes[block] - tokens) > abs(held - tokens):
                break
            drawn.append(block)
            held += sizes[block]
        if set(drawn) != set(top):
            found[frozenset(drawn)] = None
    return [sorted(each) for each in found]
