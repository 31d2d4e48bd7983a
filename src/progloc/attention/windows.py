"""Attention within a window: a token sees its own chunk, the one before, and the first token (paper §5.4.2).

Chunks are counted from the beginning of a document, so a window of W tokens shows a token W to 2W of them. Two by two,
chunks make pairs in two ways, and in one of them a token's chunk is the second of its pair: so attention within a
window is two attentions within segments, in time and memory linear in the length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from progloc.attention.ops import merge, segment_attention, sink_scores
from progloc.attention.segments import segments, tokens_before
from progloc.attention.sink import of_sinks, seen_sinks, sinks

NEVER = float("-inf")


def windowed_attention(
    query: Tensor, key: Tensor, value: Tensor, documents: Tensor | None, window: int, scaling: float
) -> Tensor:
    """Return attention's output (B, H, T, D) within a window.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv.
        value: as `key`.
        documents: (B, T) or (1, T) integers; a token sees the earlier ones of its own document. None: every sequence
            is one.
        window: W, tokens a chunk.
        scaling: what q·k is multiplied by.
    """
    batch, length = query.shape[0], query.shape[2]
    if documents is None:
        documents = torch.zeros(1, length, dtype=torch.long, device=query.device)
    whole = segments(documents.expand(batch, -1))
    chunks, sink = tokens_before(whole) // window, sinks(whole, query.device)  # (B, T), both
    ways = (chunks // 2, (chunks + 1) // 2)
    parts = [segment_attention(query, key, value, segments(documents, way), scaling) for way in ways]
    chosen = (chunks % 2 == 1)[:, None]  # where a token's chunk is the second of its pair in the first way
    output = torch.where(chosen[..., None], parts[0][0], parts[1][0])
    lse = torch.where(chosen, parts[0][1], parts[1][1])
    far = (chunks > 1)[:, None]  # those that do not see the first token in their window
    at_sink = sink_scores(query, of_sinks(key, sink), scaling).masked_fill(~far, NEVER)
    of_sink = of_sinks(value, sink).repeat_interleave(query.shape[1] // key.shape[1], 1)
    return merge((output, lse), (of_sink, at_sink))[0].to(value.dtype)


def windowed_mask(allowed: Tensor, window: int) -> Tensor:
    """Return which of the keys a query may look at are in its window, (B or 1, 1, T, K) boolean.

    Args:
        allowed: (B or 1, 1, T, K) boolean, causal within documents: a row's first True is its document's first token,
            and its last one the query itself.
        window: W, tokens a chunk.
    """
    place = torch.arange(allowed.shape[-1], device=allowed.device)
    first = seen_sinks(allowed)[:, None, :, None]
    last = allowed.shape[-1] - 1 - allowed.flip(-1).int().argmax(-1, keepdim=True)
    near = (last - first) // window - (place - first) // window <= 1
    return allowed & (near | (place == first))
