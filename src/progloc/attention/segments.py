"""Segments: tokens that attend only among themselves, as blocks and documents do.

Every fast path rests on one thing, causal attention within segments. A segment need not be contiguous; sorting a
sequence's tokens by their labels, stably, lays every segment together and keeps the order inside it. The *place* of a
token is where it then lies. All shapes are static, so no host waits for a device and a compiler can trace it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PADDING = -1
"""The document that padding belongs to; others are counted from 0."""


class Segments(NamedTuple):
    """Where the tokens of a batch lie once its segments lie together: three int32 tensors (B, T), by place."""

    order: Tensor
    """The token at each place."""
    start: Tensor
    """The place of the first token of the segment a place belongs to; a place attends to start … itself."""
    end: Tensor
    """The place after that segment's last token."""


class KeysSeen(NamedTuple):
    """How many keys tokens see, themselves included; (B, 1, T) each, as all heads see the same."""

    keys: Tensor
    block_keys: Tensor
    """Of their block."""
    sink_keys: Tensor
    """Whether the sink is one of them, 1 or 0."""


def documents_in(attention_mask: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Return the document of every token, (B, T) int64, as transformers tells documents in one sequence apart.

    Args:
        attention_mask: (B, T), 0 at padding.
        position_ids: (B, T) or (1, T), where documents are packed: one begins wherever they do not go up by one.
            transformers looks at them only where it has neither an attention mask nor a cache.
    """
    labels = torch.zeros(attention_mask.shape, dtype=torch.long, device=attention_mask.device)
    if position_ids is not None:
        begins = position_ids.diff(dim=-1) != 1
        labels = labels + torch.nn.functional.pad(begins.cumsum(-1), (1, 0))
    return labels.masked_fill(attention_mask == 0, PADDING)


def segments(*labels: Tensor) -> Segments:
    """Return the segments that labels (B, T) of any integer type make: tokens that agree in every label are one."""
    shape = torch.broadcast_shapes(*(label.shape for label in labels))
    order = torch.arange(shape[-1], device=labels[0].device).expand(shape)
    for label in reversed(labels):  # sorted by the last label first: the first one has the final say
        order = order.gather(-1, label.expand(shape).gather(-1, order).argsort(dim=-1, stable=True))
    opens = torch.zeros(shape, dtype=torch.bool, device=order.device)
    opens[..., 0] = True
    for label in labels:
        ordered = label.expand(shape).gather(-1, order)
        opens[..., 1:] |= ordered[..., 1:] != ordered[..., :-1]
    place = torch.arange(shape[-1], device=order.device)
    start = torch.where(opens, place, 0).cummax(-1).values
    closes = opens.roll(-1, dims=-1)  # the last place closes because the first one opens
    end = torch.where(closes, place + 1, shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    return Segments(order.int().contiguous(), start.int(), end.int())


def _by_token(found: Segments, by_place: Tensor) -> Tensor:
    return torch.empty_like(by_place).scatter(-1, found.order.long(), by_place)


def tokens_before(found: Segments) -> Tensor:
    """Return how many tokens of its own segment come before each token, (B, T) int64."""
    return _by_token(found, torch.arange(found.start.shape[-1], device=found.start.device) - found.start)


def first_tokens(found: Segments) -> Tensor:
    """Return the first token of each token's segment, (B, T) int64."""
    return _by_token(found, found.order.gather(-1, found.start.long()).long())


def keys_seen(documents: Tensor, block_ids: Tensor) -> KeysSeen:
    """Return how many keys causal attention within documents (B, T) shows each token, with blocks (B, T)."""
    seen, in_block = (
        tokens_before(segments(*labels))[:, None] + 1 for labels in ((documents,), (documents, block_ids))
    )
    return KeysSeen(seen, in_block, torch.ones_like(seen))
