"""The dial's rule: what the odds of a key are multiplied by, and what that makes of log-sum-exps.

Every path takes it from here but the definition (`reference`), which has its own to hold the others against.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


def _log(odds: float) -> float:
    return math.log(odds) if odds else float("-inf")


def lowered(scores: Tensor, stays: Tensor, outside: float) -> Tensor:
    """Return scores, in nats, lower by −log w wherever a key does not keep its odds; shapes broadcast."""
    return torch.where(stays, scores, scores + _log(outside))


class Dial(NamedTuple):
    """How one layer is dialled; by default not at all."""

    outside: float = 1.0
    """w in [0, 1]: what the odds of keys outside a token's block are multiplied by."""
    keep_sink: bool = False
    """Whether the sink's odds stay as they are, whichever block it is in."""

    @property
    def turned(self) -> bool:
        """Whether it changes anything."""
        return self.outside < 1

    @property
    def log_outside(self) -> float:
        """log w, −inf at 0."""
        return _log(self.outside)

    def stays(self, block: Tensor, key_block: Tensor, is_sink: Tensor | bool) -> Tensor:
        """Return whether keys keep their odds, by the blocks of query and key, in any shapes that broadcast."""
        same = block == key_block
        return same | is_sink if self.keep_sink else same

    def lower(self, scores: Tensor, block: Tensor, key_block: Tensor, is_sink: Tensor | bool) -> Tensor:
        """Return scores, in nats, as the dial has them: lower by −log w wherever a key does not keep its odds."""
        return lowered(scores, self.stays(block, key_block, is_sink), self.outside)

    def split(self, lse: Tensor, lse_block: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two log-sum-exps that a dialled one is made of: w times all keys', and 1 − w times the block's."""
        return lse + self.log_outside, lse_block + math.log(1 - self.outside)
