"""The block ids that steps are timed with: drawn, not made from text, so that every length can have them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from progloc.blocks import partitioner

FIXED, SENTENCE_LIKE, SCATTERED, WHOLE = "fixed:5", "sentence-like", "scattered", "whole sequence"

SENTENCE_TOKENS = (5, 45)
"""The shortest and the longest sentence-like block."""
SCATTERED_TOKENS = 25
"""The mean size of a scattered block: what a sentence-like one has too."""


def _fixed(batch: int, length: int, generator: Generator) -> Tensor:
    ids = partitioner(FIXED).from_positions(torch.arange(length).expand(batch, -1))
    assert ids is not None  # fixed blocks need no text
    return ids


def _sentence_like(batch: int, length: int, generator: Generator) -> Tensor:
    shortest, longest = SENTENCE_TOKENS
    sizes = torch.randint(shortest, longest + 1, (batch, length // shortest + 1), generator=generator)
    positions = torch.arange(length).expand(batch, -1).contiguous()
    return torch.searchsorted(sizes.cumsum(-1), positions, right=True)


def _scattered(batch: int, length: int, generator: Generator) -> Tensor:
    return torch.randint(0, max(1, length // SCATTERED_TOKENS), (batch, length), generator=generator)


def _whole(batch: int, length: int, generator: Generator) -> Tensor:
    return torch.zeros(batch, length, dtype=torch.long)


PARTITIONS: dict[str, Callable[[int, int, Generator], Tensor]] = {
    FIXED: _fixed,
    SENTENCE_LIKE: _sentence_like,
    SCATTERED: _scattered,
    WHOLE: _whole,
}
"""By name, functions ``(B, T, generator) -> (B, T)`` int64 block ids: blocks of 5 tokens; contiguous blocks of 5 to 45
tokens (the last one cut off by the end), their lengths drawn uniformly and for each sequence anew; about 25 tokens a
block, wherever they lie; one block."""
