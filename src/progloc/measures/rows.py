"""Attention rows, reduced to the few numbers a token and head that every measure is made from."""

from __future__ import annotations

__all__ = ["Rows", "flags", "uniform_rows"]

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """One layer's attention rows, reduced to a few numbers a token and head; all but the flags are in nats.

    The flags are 0 or 1 and broadcast over heads: (B, 1, T).
    """

    log_mass: Tensor
    """log m_i, (B, H, T)."""
    log_sink: Tensor
    """log A_i,sink, (B, H, T)."""
    log_mass_no_sink: Tensor
    """log of the in-block share of what is not on the sink, (B, H, T)."""
    entropy: Tensor
    """H_i, (B, H, T)."""
    real: Tensor
    """Not padding."""
    beyond_sink: Tensor
    """Real and not the sink's own row (i > 0)."""
    beyond_first_block: Tensor
    """Real and in a block that does not hold the sink."""

    @property
    def mass(self) -> Tensor:
        """m_i."""
        return self.log_mass.exp()

    @property
    def sink(self) -> Tensor:
        """A_i,sink."""
        return self.log_sink.exp()

    @property
    def off_sink(self) -> Tensor:
        """1 - A_i,sink for i > 0, and 0 elsewhere, without cancellation."""
        return -torch.expm1(self.log_sink) * self.beyond_sink


def flags(real: Tensor, block_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (real, beyond_sink, beyond_first_block), (B, 1, T) booleans, from (B, T) flags and block ids."""
    first = real.long().argmax(-1, keepdim=True)  # the sink: the first real token
    position = torch.arange(real.shape[1], device=real.device)
    beyond_sink = real & (position > first)
    beyond_first_block = real & (block_ids != block_ids.gather(-1, first))
    return real[:, None], beyond_sink[:, None], beyond_first_block[:, None]


def uniform_rows(real: Tensor, block_ids: Tensor) -> Rows:
    """Return the rows that uniform causal attention gives on these blocks: the chance level of every measure."""
    marks = flags(real, block_ids)
    causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()
    seen = (causal & real[:, None, :]) | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)  # (B, T, T)
    in_block = seen & (block_ids[:, :, None] == block_ids[:, None, :])
    n, n_block = seen.sum(-1).double(), in_block.sum(-1).double()  # (B, T)
    sink_in_block = (marks[1] & ~marks[2])[:, 0].double()
    n_other = (n - marks[1][:, 0].double()).clamp(min=1)
    rows = (
        (n_block / n).log(),
        -n.log(),
        ((n_block - sink_in_block) / n_other).log(),
        n.log(),
    )
    return Rows(*(row[:, None] for row in rows), *(flag.double() for flag in marks))
