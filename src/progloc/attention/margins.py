"""Score margins: by how much every score inside a token's block beats every score outside it.

γ_i = min_{j∈B(i)} s_ij − max_{j∉B(i)} s_ij, in nats, from scores after scaling and before the softmax (method.md §1).
It is something to read, not to train on: it has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MARGIN_CHANNELS = ("margin", "margin_no_sink")
"""γ over all keys, and over the keys that are not the sink."""
CHUNK = 32
"""Queries at a time: few enough that chunk × T scores stay small beside the activations, enough for a fast product."""


def margin(scores: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Return γ, (B, H, T) in nats and without a gradient; +inf where nothing is outside.

    Args:
        scores: (B, H, T, K).
        inside: boolean and broadcast to the scores, the keys of a query's block; none only where none is outside.
        outside: likewise, the other keys that it sees.
    """
    scores = scores.detach()
    least = scores.masked_fill(~inside, float("inf")).amin(-1)
    return least - scores.masked_fill(~outside, float("-inf")).amax(-1)


def chunked_margins(
    query: Tensor,
    key: Tensor,
    documents: Tensor | None,
    block_ids: Tensor,
    is_sink: Tensor,
    *,
    names: Sequence[str],
    scaling: float,
) -> dict[str, Tensor]:
    """Return margins by name, (B, H, T) each, some queries at a time: memory is linear in T, time is not.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv.
        documents: (B, T) integers, or None where every sequence is one document.
        block_ids: (B, T) integers.
        is_sink: (B or 1, T) boolean, the first token of every document.
        names: which of `MARGIN_CHANNELS`.
        scaling: what q·k is multiplied by.
    """
    length, wide = query.shape[2], torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(length, device=query.device)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        keys = key.to(wide).mT  # (B, H_kv, D, T)
        for start in range(0, length, CHUNK):
            end = min(start + CHUNK, length)
            rows = query[:, :, start:end].to(wide).unflatten(1, (key.shape[1], -1))  # (B, H_kv, G, chunk, D)
            products = (rows.flatten(2, 3) @ keys[..., :end]).unflatten(2, (-1, end - start))
            scores = products.flatten(1, 2) * scaling  # (B, H, chunk, end)
            visible = position[start:end, None] >= position[:end]  # (chunk, end)
            if documents is not None:
                visible = visible & _same(documents, start, end)
            inside = _same(block_ids, start, end)
            counted = {"margin": visible, "margin_no_sink": visible & ~is_sink[:, None, None, :end]}
            for name in names:
                found[name].append(margin(scores, inside & counted[name], counted[name] & ~inside))
    return {name: torch.cat(parts, -1) for name, parts in found.items()}


def _same(labels: Tensor, start: int, end: int) -> Tensor:
    """Return whether queries start … end share a label (B, T) with each key before the end, (B, 1, chunk, end)."""
    return (labels[:, start:end, None] == labels[:, None, :end])[:, None]
