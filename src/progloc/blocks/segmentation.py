"""The best division of a sequence into contiguous blocks, exactly, by dynamic programming."""

from __future__ import annotations

__all__ = ["best_blocks", "squared_sums"]

import numpy as np

from progloc.blocks.base import FloatArray, IntArray

CHUNK = 1024
"""Tokens at a time, so that what is worked on stays in the processor's cache."""


def squared_sums(vectors: FloatArray, longest: int) -> FloatArray:
    """Return |Σ x|² of every block of at most ``longest`` tokens, (T, longest).

    Row t holds the blocks that end with token t, the longest first: column j is the block of ``longest`` − j tokens.
    Where that would begin before the sequence the entry is 0.
    """
    tokens = len(vectors)
    products = np.zeros((tokens, longest))  # [t, lag]: x_t · x_(t-lag)
    for begin in range(0, tokens, CHUNK):
        end = min(begin + CHUNK, tokens)
        for lag in range(min(longest, end)):
            first = max(begin, lag)
            products[first:end, lag] = np.vecdot(vectors[first:end], vectors[first - lag : end - lag])
    added = 2 * np.cumsum(products, axis=1) - products[:, :1]  # by token t to the block that it makes lag + 1 long
    found = np.zeros((tokens, longest))
    before = np.zeros(tokens)
    for lag in range(min(longest, tokens)):
        before = before[: tokens - lag] + added[lag:, lag]  # (tokens - lag,), by the block's first token
        found[lag:, longest - 1 - lag] = before
    return found


def best_blocks(costs: FloatArray) -> IntArray:
    """Return the block ids (T,), from 0 upwards, of the contiguous blocks whose costs sum to the least.

    Args:
        costs: (T, longest), of every block that may be chosen, laid out as by `squared_sums`. Blocks that would begin
            before the sequence are not looked at. Of equal divisions the one with the longest last blocks is taken.
    """
    tokens, longest = costs.shape
    least = np.full(longest + tokens, np.inf)  # [longest + t]: of the tokens up to t; infinite before the sequence
    least[longest - 1] = 0
    columns = np.empty(tokens, dtype=np.int64)
    for token, row in enumerate(costs):
        totals = least[token : token + longest] + row
        column = columns[token] = totals.argmin()
        least[longest + token] = totals[column]
    opens = np.zeros(tokens, dtype=np.int64)
    end = tokens
    while end > 0:
        end -= longest - int(columns[end - 1])
        opens[end] = 1
    return np.cumsum(opens) - 1
