"""Attention rows, each reduced to the few numbers that every measure is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from progloc.attention.masses import entropy_terms
from progloc.attention.segments import PADDING, KeysSeen, segments
from progloc.attention.sink import sinks


@dataclass(frozen=True)
class Rows:
    """One layer's attention rows as a few numbers for each token and head, in nats.

    The last three are flags, 0 or 1, that broadcast over heads: (B, 1, T).
    """

    log_mass: Tensor
    """log m_i, (B, H, T)."""
    log_sink: Tensor
    """log A_i,sink, (B, H, T)."""
    log_mass_no_sink: Tensor
    """log of the in-block share of what is not on the sink, (B, H, T)."""
    log_off_sink: Tensor
    """log(1 − A_i,sink), (B, H, T): −inf at the sink's own row."""
    entropy_no_sink: Tensor
    """H°_i, the entropy of the row without the sink, renormalised, (B, H, T)."""
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
        """1 - A_i,sink for i > 0, and 0 elsewhere."""
        return self.log_off_sink.exp() * self.beyond_sink

    @property
    def entropy(self) -> Tensor:
        """H_i, by the chain rule: the entropy of "sink or not", and off the sink its mass times H°_i."""
        which = entropy_terms(self.log_sink) + entropy_terms(self.log_off_sink)
        return which + self.log_off_sink.exp() * self.entropy_no_sink


def flags(documents: Tensor, block_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (real, beyond_sink, beyond_first_block), (B, 1, T) booleans, from documents and block ids (B, T)."""
    real = documents != PADDING
    sink = sinks(segments(documents), documents.device)
    beyond_sink = real & (torch.arange(sink.shape[-1], device=sink.device) != sink)
    beyond_first_block = real & (block_ids != block_ids.gather(-1, sink))
    return real[:, None], beyond_sink[:, None], beyond_first_block[:, None]


def uniform_rows(seen: KeysSeen, marks: Sequence[Tensor]) -> Rows:
    """Return the rows of uniform attention to the keys seen, from which every measure's chance level follows.

    Args:
        seen: how many keys each token sees.
        marks: as `flags` returns them.
    """
    n, n_block, n_sink, real, beyond_sink, beyond_first_block = (counts.double() for counts in (*seen, *marks))
    n_off_sink = n - n_sink
    n_block_off_sink = n_block - n_sink * beyond_sink * (1 - beyond_first_block)
    at_least_one = n_off_sink.clamp(min=1)  # the sink's own row sees itself alone
    return Rows(
        log_mass=(n_block / n).log(),
        log_sink=(n_sink / n).log(),
        log_mass_no_sink=(n_block_off_sink / at_least_one).log(),
        log_off_sink=(n_off_sink / n).log(),
        entropy_no_sink=at_least_one.log(),
        real=real,
        beyond_sink=beyond_sink,
        beyond_first_block=beyond_first_block,
    )
