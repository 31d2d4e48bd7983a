"""Blocks of n tokens, the paper's own."""

from __future__ import annotations

__all__ = ["Fixed", "is_fixed"]

from typing import TYPE_CHECKING

import numpy as np

from progloc.blocks.base import IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.errors import ProglocError

if TYPE_CHECKING:
    from torch import Tensor


@register_partitioner("fixed")
class Fixed(Partitioner):
    """`fixed:N`: token i is in block i // N, counted from the start of its sequence."""

    causal = True

    def __init__(self, argument: str = "") -> None:
        if not argument.isdecimal() or not 1 <= int(argument) < 2**31:
            raise ProglocError(f"blocks 'fixed:{argument}'; expected fixed:N with N a whole number ≥ 1, as in fixed:5")
        self.size = int(argument)

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return i // N for every token, (T,)."""
        return np.arange(len(text), dtype=np.int64) // self.size

    def from_positions(self, positions: Tensor) -> Tensor:
        """Return positions // N, (B, T)."""
        return positions // self.size


def is_fixed(blocks: str) -> bool:
    """Whether a partitioner cuts by count alone."""
    return blocks.partition(":")[0] == "fixed"
