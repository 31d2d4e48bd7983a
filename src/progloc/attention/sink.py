"""The sink's place: a token's sink is the first token of its document."""

from __future__ import annotations

import torch
from torch import Tensor

from progloc.attention.segments import Segments, first_tokens


def sinks(documents: Segments | None, device: torch.device) -> Tensor:
    """Return every token's sink, (B, T) int64; (1, 1) without documents, where each sequence is one."""
    return torch.zeros(1, 1, dtype=torch.long, device=device) if documents is None else first_tokens(documents)


def seen_sinks(mask: Tensor) -> Tensor:
    """Return every query's sink, (B or 1, T), from a mask (B or 1, 1, T, K) alone: the first key that it sees."""
    return mask[:, 0].int().argmax(-1)


def of_sinks(x: Tensor, sinks: Tensor) -> Tensor:
    """Return what the sinks hold of (B, H, T, D): (B, H, T, D), or (B, H, 1, D) for sinks (1, 1)."""
    if sinks.shape[-1] == 1:
        return x[:, :, :1]
    return x.gather(2, sinks[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
