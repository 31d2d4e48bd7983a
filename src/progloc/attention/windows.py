"""Attention within a window: a token sees its own chunk, the one before, and the first token (paper §5.4.2).

Chunks are counted from the beginning of a document, so a window of W tokens shows a token W to 2W of them. Two by two,
chunks make pairs in two ways, and in one of them a token's chunk is the second of its pair: so attention within a
window is two attentions within segments, in time and memory linear in the length.
"""

from __future__ import annotations

__all__ = ["chunks_of", "pairs", "windowed_attention", "windowed_mask"]

import torch
from torch import Tensor

from progloc.attention.ops import segment_attention, sink_scores
from progloc.attention.segments import first_tokens, segments, tokens_before

NEVER = float("-inf")


def chunks_of(documents: Tensor, window: int) -> Tensor:
    """Return the chunk of each token within its document, (B, T), counted from 0.

    Args:
        documents: (B, T).
        window: W, tokens a chunk.
    """
    return tokens_before(segments(documents)) // window


def pairs(chunks: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the two ways in which chunks (B, T) make pairs, and whether the first is a token's own, (B, T).

    Of a token's own way the pair is its chunk and the one before; labels are within a document.
    """
    return (chunks // 2, (chunks + 1) // 2), chunks % 2 == 1


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
    documents = documents.expand(batch, -1)
    chunks = chunks_of(documents, window)
    ways, first_way = pairs(chunks)
    found = [segment_attention(query, key, value, segments(documents, way), scaling) for way in ways]
    chosen = first_way[:, None]
    output = torch.where(chosen[..., None], found[0][0], found[1][0])
    lse = torch.where(chosen, found[0][1], found[1][1])
    sink = first_tokens(segments(documents))
    far = (chunks > 1)[:, None]  # those that do not see the first token in their window
    groups = query.shape[1] // key.shape[1]
    of_sink = [x.gather(2, sink[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])) for x in (key, value)]
    at_sink = sink_scores(query, of_sink[0], scaling).masked_fill(~far, NEVER)
    share = (at_sink - torch.logaddexp(lse, at_sink)).exp()[..., None]
    return (output + share * (of_sink[1].repeat_interleave(groups, 1) - output)).to(value.dtype)


def windowed_mask(allowed: Tensor, window: int) -> Tensor:
    """Return which of the keys a query may look at are in its window, (B or 1, 1, T, K) boolean.

    Args:
        allowed: (B or 1, 1, T, K) boolean, causal within documents: a row's first True is its document's first token,
            and its last one the query itself.
        window: W, tokens a chunk.
    """
    place = torch.arange(allowed.shape[-1], device=allowed.device)
    first = allowed.int().argmax(-1, keepdim=True)
    last = allowed.shape[-1] - 1 - allowed.flip(-1).int().argmax(-1, keepdim=True)
    near = (last - first) // window - (place - first) // window <= 1
    return allowed & (near | (place == first))
