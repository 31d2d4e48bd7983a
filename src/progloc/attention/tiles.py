"""The log-sum-exp of short segments, several side by side in a tile: one small matrix product, and a mask.

A stock kernel takes a fixed while for every segment, however short, and computes an output that is not wanted.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

TILE = 32
"""Tokens a tile; only segments that fit are laid in tiles."""


@lru_cache(maxsize=32)
def _unseen(width: int, side_by_side: int) -> Tensor:
    """Where a query does not look, (S·W, S·W): outside its segment, and ahead."""
    return ~torch.block_diag(*[torch.ones(width, width).tril()] * side_by_side).bool()


def _scores(query: Tensor, key: Tensor, width: int, scaling: float) -> Tensor:
    """(N, H_kv, G·S·W, S·W) in float32 at least, -inf where a query does not look."""
    groups, tokens = query.shape[1] // key.shape[1], query.shape[2]
    found = (_by_key_head(query, key) @ key.mT).mul_(scaling)
    unseen = _unseen(width, tokens // width).repeat(groups, 1)
    return found.masked_fill_(unseen, float("-inf"))


def _by_key_head(x: Tensor, key: Tensor) -> Tensor:
    """(N, H, S·W, …) → (N, H_kv, G·S·W, …): the query heads that share a key head, one after another."""
    return x.unflatten(1, (key.shape[1], -1)).flatten(2, 3)


def _by_query_head(x: Tensor, query: Tensor) -> Tensor:
    """The reverse."""
    return x.unflatten(2, (-1, query.shape[2])).flatten(1, 2)


def tile_forward(query: Tensor, key: Tensor, width: int, scaling: float) -> Tensor:
    """Return the log-sum-exp of every row, (N, H, S·W) in float32 at least.

    Args:
        query: (N, H, S·W, D): S segments of W tokens, each after the other.
        key: (N, H_kv, S·W, D), H a multiple of H_kv.
        width: W.
        scaling: what q·k is multiplied by.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    return _by_query_head(_scores(query.to(wide), key.to(wide), width, scaling).logsumexp(-1), query)


def tile_backward(
    gradient: Tensor, query: Tensor, key: Tensor, lse: Tensor, width: int, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of query and key from that of `tile_forward`'s result."""
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k = query.to(wide), key.to(wide)
    pull = _scores(q, k, width, scaling).sub_(_by_key_head(lse, k)[..., None]).exp_()  # A, then its share of a gradient
    pull.mul_((_by_key_head(gradient, k) * scaling)[..., None])
    d_query, d_key = _by_query_head(pull @ k, query), pull.mT @ _by_key_head(q, k)
    return d_query.to(query.dtype), d_key.to(key.dtype)
