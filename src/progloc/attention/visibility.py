"""Who may see whom, in the least that says it: nothing, a label a token, or the whole mask.

transformers asks an attention implementation for its mask once a forward pass. Nearly always it is causal attention
within documents, padding being a document of its own: that takes one label a token, not T numbers a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import and_masks, causal_mask_function, sdpa_mask

from progloc.attention.segments import PADDING

CONJUNCTION = and_masks(causal_mask_function).__qualname__
AHEAD = "this attention mask lets a token see later ones, which compiled progloc attention cannot do"


def visibility(**asked: Any) -> Tensor | None:
    """transformers' mask interface: what it returns reaches attention as `attention_mask`.

    Args:
        asked: what transformers' own mask functions take, such as `sdpa_mask`.

    Returns:
        None: the queries are all of the tokens so far, or the last one, and see every earlier token.
        (B, K) int64: the queries are the last T of K tokens, and see the earlier ones of their own label.
        (B, 1, T, K) boolean, True where a query may look: anything else (static caches, windows, patterns of a model's
        own).
    """
    labels = _labels(**asked)
    if labels is None:
        return sdpa_mask(**asked)
    unmasked = asked.get("attention_mask") is None
    alone = unmasked and asked.get("mask_function", causal_mask_function) is causal_mask_function
    if not alone and not torch.compiler.is_compiling():  # whoever compiles cannot read a value
        alone = bool((labels == labels[:, :1]).all())
    return None if alone and asked["q_length"] in (1, asked["kv_length"]) else labels


def _labels(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Tensor] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **_: Any,
) -> Tensor | None:
    """Return the document of every token, (B, K) int64; None where attention is more than causal in documents."""
    queries_come_last = isinstance(q_offset, int) and q_offset + q_length == kv_length and kv_offset == 0
    windowed = local_size is not None and local_size < kv_length
    odd_padding = attention_mask is not None and attention_mask.shape != (batch_size, kv_length)
    # transformers packs by a conjunction with causal attention; whatever else a function is, its mask is made whole
    causal = mask_function is causal_mask_function
    known = causal or mask_function.__qualname__ == CONJUNCTION
    if use_vmap or windowed or odd_padding or not known or not queries_come_last:
        return None
    if causal:
        labels = torch.zeros(batch_size, kv_length, dtype=torch.long, device=device)
    else:
        labels, ahead = _documents(mask_function, batch_size, kv_length, device)
        if torch.compiler.is_compiling():
            torch._assert_async(~ahead, AHEAD)
        elif ahead:
            return None
    return labels if attention_mask is None else labels.masked_fill(~attention_mask, PADDING)


def _documents(mask_function: Callable[..., Tensor], batch: int, length: int, device: Any) -> tuple[Tensor, Tensor]:
    """Return labels (B, K), a new one wherever a token does not see the one before it, and whether any sees ahead."""
    row = torch.arange(batch, device=device)[:, None]
    head = torch.zeros_like(row)
    earlier, later = torch.arange(length - 1, device=device)[None], torch.arange(1, length, device=device)[None]
    parted = ~mask_function(row, head, later, earlier).expand(batch, -1)
    return torch.nn.functional.pad(parted.cumsum(-1), (1, 0)), mask_function(row, head, earlier, later).any()


def mask_of(seen: Tensor | None, queries: int, keys: int, device: torch.device) -> Tensor:
    """Return the boolean mask (B or 1, 1, T, K) that a result of `visibility` stands for."""
    if seen is not None and seen.ndim == 4:
        return seen
    # without a mask, several queries are the first of the keys: a static cache has room for more
    diagonal = 0 if seen is None and queries > 1 else keys - queries
    causal = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal)[None, None]
    return causal if seen is None else causal & (seen[:, None, -queries:, None] == seen[:, None, None, :])
