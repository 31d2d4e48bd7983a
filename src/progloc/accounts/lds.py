"""Whether a picture of an answer's sources is true: does it say what leaving out many of them at once costs?

A picture is a score a source. Its linear datamodeling score (LDS) is Spearman's ρ, over random halves of the sources,
of the summed scores of those left out with what leaving them out costs (method.md §14).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from progloc.accounts.agreement import DECIMALS, spearman

Floats = NDArray[np.float64]
Subsets = NDArray[np.bool_]


def random_halves(sources: int, count: int, seed: int = 0) -> Subsets:
    """Return random halves of n ≥ 2 sources, (count, n) boolean: which are left out. An odd one is rounded down."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(sources), (count, 1)), axis=1)
    return order < sources // 2


def lds(scores: Sequence[float] | Floats, left_out: Subsets, losses: Sequence[float] | Floats) -> float | None:
    """Return the linear datamodeling score of a picture, in [−1, 1]; None where nothing varies.

    Args:
        scores: (n,), one a source.
        left_out: (S, n): which sources each subset is without.
        losses: (S,): what log p(answer) falls by without them, in nats.
    """
    summed = left_out.astype(float) @ np.asarray(scores, dtype=float)
    rho = spearman(np.round(summed, 2 * DECIMALS), np.round(np.asarray(losses, dtype=float), DECIMALS))
    return None if np.isnan(rho) else float(rho)


def top(scores: Sequence[float] | Floats, k: int) -> Subsets:
    """Return the k sources of n with the largest scores, (n,) boolean; of equal scores, the earlier."""
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    members = np.zeros(len(order), dtype=bool)
    members[order[:k]] = True
    return members
