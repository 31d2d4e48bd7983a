"""Isolation's rule: which keys tokens of each role keep, and strict isolation in less than the whole matrix.

method.md §14. A shared token sees shared tokens, a source's token these and its own source, a reader everything; all of
it causal. What is forbidden has its odds multiplied by w: 1 − w is how strictly a layer isolates.

Every path takes the rule from here but the definition (`reference`), which has its own to hold the others against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from progloc.attention.ops import as_autocast, merge, segment_attention
from progloc.attention.segments import segments

if TYPE_CHECKING:
    from progloc.attention.request import LayerAttention

SHARED = -1
"""The role of a token that all may see, such as a sink or a system prompt, and that sees its like alone."""
READER = -2
"""The role of a token that sees everything before it: a question, and what is generated."""


@dataclass(frozen=True, eq=False)
class Isolation:
    """How a call isolates sources from each other, in all its layers."""

    roles: Tensor
    """(B or 1, K) int64: ≥ 0 the source of a token, else SHARED or READER; of all tokens so far."""
    outside: Sequence[float]
    """w(ℓ), L numbers in [0, 1]: what the odds of forbidden keys are multiplied by; 1 isolates nothing."""

    def to(self, device: torch.device) -> Isolation:
        """Return the same, with its roles on a device."""
        return self if self.roles.device == device else Isolation(self.roles.to(device), self.outside)

    @cached_property
    def readers(self) -> Tensor:
        """(B or 1, R): the tokens that read, in order; in rows with fewer, some that do not are behind them."""
        return _places(self.roles == READER)

    @cached_property
    def shared(self) -> Tensor:
        """(B or 1, P): the tokens that are shared, likewise."""
        return _places(self.roles == SHARED)


def stays(role: Tensor, key_role: Tensor) -> Tensor:
    """Return whether keys keep their odds, by the roles of query and key, in any shapes that broadcast."""
    return (role == READER) | (key_role == SHARED) | (role == key_role)


def _places(marked: Tensor) -> Tensor:
    """Return where marks (B, K) are, (B, most of them in a row); what fills up a row is a place without a mark."""
    most = int(marked.sum(-1).max())
    return (~marked).int().argsort(dim=-1, stable=True)[:, :most]


def isolated_attention(layer: LayerAttention) -> Tensor:
    """Return the output (B, H, T, D) of strictly isolated attention of whole sequences, differentiable.

    A source's tokens attend within their source and to what is shared, readers to all: n sources of S tokens and R
    readers take n·S² + R·T scores a head in place of T².
    """
    isolation = layer.isolation
    assert isolation is not None
    query, key, value = as_autocast(layer.query, layer.key, layer.value)
    batch, scale = len(query), layer.scale
    roles = isolation.roles.expand(batch, -1)
    documents = torch.zeros_like(roles) if layer.seen is None else layer.seen.expand(batch, -1)
    output, lse = segment_attention(query, key, value, segments(documents, roles), scale)
    if isolation.shared.shape[1]:
        shared = isolation.shared.expand(batch, -1)
        with torch.autocast(query.device.type, enabled=False):
            output = merge((output, lse), _from_shared(query, key, value, scale, roles, documents, shared))[0]
        output = output.to(value.dtype)
    readers = isolation.readers.expand(batch, -1)
    if readers.shape[1]:
        place = torch.arange(key.shape[2], device=key.device)
        seen = place <= readers[..., None]
        seen &= documents.gather(1, readers)[..., None] == documents[:, None]
        # those behind a row's readers keep what they have
        reads = roles.gather(1, readers) == READER
        rows = _take(query, readers)
        read = scaled_dot_product_attention(
            rows, key, value, seen[:, None], scale=scale, enable_gqa=key.shape[1] != query.shape[1]
        )
        index = readers[:, None, :, None].expand_as(read)
        output = output.scatter(2, index, torch.where(reads[:, None, :, None], read, output.gather(2, index)))
    return output


def _from_shared(
    query: Tensor, key: Tensor, value: Tensor, scale: float, roles: Tensor, documents: Tensor, shared: Tensor
) -> tuple[Tensor, Tensor]:
    """Return attention of the sources' tokens to the shared ones (B, P) before them: output and log-sum-exp.

    Tokens that have none have −inf and nothing; scores are in at least float32.
    """
    key, value = _take(key, shared), _take(value, shared)
    groups = query.shape[1] // key.shape[1]
    wide = torch.promote_types(query.dtype, torch.float32)
    rows = query.to(wide).unflatten(1, (key.shape[1], groups))
    scores = (rows @ key.to(wide)[:, :, None].mT).flatten(1, 2) * scale  # (B, H, T, P)
    place = torch.arange(roles.shape[1], device=roles.device)
    seen = (roles >= 0)[..., None] & (roles.gather(1, shared) == SHARED)[:, None]
    seen &= (shared[:, None] < place[:, None]) & (documents.gather(1, shared)[:, None] == documents[..., None])
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    there = seen.any(-1)[:, None]  # (B, 1, T)
    lse = scores.masked_fill(~there[..., None], 0.0).logsumexp(-1)
    weights = (scores - lse[..., None]).exp().to(value.dtype)
    output = (weights.unflatten(1, (-1, groups)) @ value[:, :, None]).flatten(1, 2)
    return output, lse.masked_fill(~there, float("-inf"))


def _take(x: Tensor, places: Tensor) -> Tensor:
    """(B, H, T, D) at places (B, N) → (B, H, N, D)."""
    return x.gather(2, places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
