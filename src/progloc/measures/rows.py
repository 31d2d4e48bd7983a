"""Attention rows, reduced to the few numbers a token and head that every measure is made from."""

from __future__ import annotations

__all__ = ["Rows", "flags", "uniform_rows", "visible_keys"]

from dataclasses import dataclass

import torch
from torch import Tensor

from progloc.attention.segments import PADDING, first_tokens, segments, tokens_before
from progloc.attention.windows import chunks_of, pairs


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


def flags(documents: Tensor, block_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (real, beyond_sink, beyond_first_block), (B, 1, T) booleans, from documents and block ids (B, T)."""
    real = documents != PADDING
    sink = first_tokens(segments(documents))
    beyond_sink = real & (torch.arange(sink.shape[-1], device=sink.device) != sink)
    beyond_first_block = real & (block_ids != block_ids.gather(-1, sink))
    return real[:, None], beyond_sink[:, None], beyond_first_block[:, None]


def visible_keys(documents: Tensor, block_ids: Tensor, window: int = 0) -> tuple[Tensor, Tensor]:
    """Return how many keys a token sees, and how many of them in its block, (B, 1, T) in float64; itself included.

    Args:
        documents: (B, T).
        block_ids: (B, T).
        window: of a layer that attends within one (`progloc.attention.windows`), W; 0: it sees all.
    """
    n, n_block = (_earlier(labels, documents, window) + 1 for labels in ((documents,), (documents, block_ids)))
    if window:
        sink = first_tokens(segments(documents))
        far = chunks_of(documents, window) > 1  # the first token is seen beside the window
        n, n_block = n + far, n_block + (far & (block_ids == block_ids.gather(-1, sink)))
    return n[:, None].double(), n_block[:, None].double()


def _earlier(labels: tuple[Tensor, ...], documents: Tensor, window: int) -> Tensor:
    """Return how many tokens before each are of its labels, and in its window where there is one, (B, T)."""
    if not window:
        return tokens_before(segments(*labels))
    ways, first_way = pairs(chunks_of(documents, window))
    earlier, later = (tokens_before(segments(*labels, way)) for way in ways)
    return torch.where(first_way, earlier, later)


def uniform_rows(documents: Tensor, block_ids: Tensor, window: int = 0) -> Rows:
    """Return the rows that uniform attention to what is seen gives on these blocks: the chance level of every measure.

    Args: as `visible_keys`.
    """
    marks = [mark.double() for mark in flags(documents, block_ids)]
    n, n_block = visible_keys(documents, block_ids, window)
    sink_in_block = marks[1] * (1 - marks[2])
    n_other = (n - marks[1]).clamp(min=1)
    return Rows((n_block / n).log(), -n.log(), ((n_block - sink_in_block) / n_other).log(), n.log(), *marks)
