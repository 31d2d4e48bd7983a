"""How well a picture agrees with the effects of removing blocks: ranks, shares, and the level of chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from progloc.accounts.pictures import shares
from progloc.accounts.schema import BASELINES, Correlation, LeadingSource
from progloc.blocks import FloatArray

DECIMALS = 5
"""To which shares and nats are rounded before they are ranked: smaller differences are float32 rounding."""
RESAMPLES = 2000
TOP = 0.2
"""The share of the tested tokens that the top blocks hold."""


def spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Spearman's ρ along the last axis; NaN where either does not vary."""
    x, y = (stats.rankdata(values, axis=-1) for values in np.broadcast_arrays(x, y))
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (x, y))
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 0, (x * y).sum(-1) / spread, np.nan))


def _finite(value: FloatArray | float) -> float | None:
    return None if np.isnan(value) else float(value)


def correlation(
    picture: str, effect: str, masses: FloatArray, effects: FloatArray, sizes: FloatArray, seed: int
) -> Correlation:
    """Return how well a picture's masses agree with the effects of losing the blocks.

    Args:
        picture: the picture's name.
        effect: the effect's name.
        masses: (N,), of the tested blocks.
        effects: (N,), nats.
        sizes: (N,), tokens in each block.
        seed: for the bootstrap and the shuffles.
    """
    x, y, mass_per_token, effect_per_token = (
        np.round(values, DECIMALS) for values in (masses, effects, masses / sizes, effects / sizes)
    )
    rho = _finite(spearman(x, y)) if len(x) >= 3 else None
    if rho is None:
        return Correlation(picture, effect, overlap=overlap(masses, effects))
    rng = np.random.default_rng(seed)
    samples = rng.integers(len(x), size=(RESAMPLES, len(x)))
    resampled = spearman(x[samples], y[samples])
    low, high = np.nanpercentile(resampled, (2.5, 97.5))  # NaN: a resample in which nothing varies
    shuffled = spearman(rng.permuted(np.tile(x, (RESAMPLES, 1)), axis=1), y)
    p = (1 + int((shuffled >= rho - 1e-12).sum())) / (RESAMPLES + 1)
    rho_for_size = _finite(spearman(mass_per_token, effect_per_token))
    return Correlation(picture, effect, rho, float(low), float(high), p, rho_for_size, overlap(masses, effects))


def baselines(sizes: FloatArray) -> dict[str, FloatArray]:
    """Return pictures that ignore the model, (N,) each, for sources of the given sizes in text order."""
    count = len(sizes)
    return dict(zip(BASELINES, (np.arange(1.0, count + 1), np.eye(count)[-1], sizes), strict=True))


def leading_source(effect: str, blocks: Sequence[int], masses: FloatArray, effects: FloatArray) -> LeadingSource | None:
    """Return the source with the largest effect and its share of a picture; None where no effect is above 0.

    Args:
        effect: the effect's name.
        blocks: the sources' numbers, N ≥ 2.
        masses: (N,).
        effects: (N,), nats.
    """
    first = int(effects.argmax())
    if effects[first] <= 0:
        return None
    effect_share, picture_shares = shares(effects.clip(min=0))[first], shares(masses)
    rival_share = np.delete(picture_shares, first).max()
    numbers = (effects[first], effect_share, picture_shares[first], rival_share)
    return LeadingSource(effect, blocks[first], *map(float, numbers))


def overlap(masses: FloatArray, effects: FloatArray) -> float | None:
    """Return how much of a picture lies where the effects are: Σ_b min(π_b, ε_b), both normalised to 1, in [0, 1].

    It is 1 minus the total variation distance. None where there is no mass, or no effect above 0.

    Args:
        masses: (N,) ≥ 0.
        effects: (N,) nats; those below 0 count as 0.
    """
    positive = effects.clip(min=0)
    if masses.sum() <= 0 or positive.sum() <= 0:
        return None
    return float(np.minimum(shares(masses), shares(positive)).sum())


def top_blocks(masses: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """Return the indices of the blocks with the most mass: as many as hold `TOP` of the tokens, but never all.

    Args:
        masses: N ≥ 2 numbers.
        sizes: tokens in each block.
    """
    order = np.argsort(-np.asarray(masses), kind="stable")
    tokens = np.cumsum(np.asarray(sizes)[order])
    count = int(np.searchsorted(tokens, TOP * tokens[-1])) + 1
    return sorted(order[: min(count, len(order) - 1)].tolist())


def random_sets(sizes: Sequence[float], top: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Return random sets of blocks, other than `top`, with about as many tokens; fewer where there are no more.

    Args:
        sizes: tokens in each block.
        top: the set to match. A random set is complete when one more block would take it further from `top`'s tokens.
        count: how many sets.
        seed: of the random draws.
    """
    rng = np.random.default_rng(seed)
    target = sum(sizes[block] for block in top)
    sets: dict[frozenset[int], None] = {}
    for _ in range(20 * count):
        if len(sets) == count:
            break
        blocks: list[int] = []
        tokens = 0.0
        for block in rng.permutation(len(sizes)).tolist():
            if blocks and abs(tokens + sizes[block] - target) > abs(tokens - target):
                break
            blocks.append(block)
            tokens += sizes[block]
        if set(blocks) != set(top):
            sets[frozenset(blocks)] = None
    return [sorted(blocks) for blocks in sets]
