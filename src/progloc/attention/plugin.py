"""The way into models: attention functions registered with transformers' AttentionInterface.

`progloc` is what `localize` sets; `progloc_reference` is the materialised definition, to test against. Both need the
mask function registered beside them: without one, transformers passes no mask and attention would see the future.
"""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "REFERENCE"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.reference import reference_attention
from progloc.errors import ProglocError, suggest

IMPLEMENTATION = "progloc"
REFERENCE = "progloc_reference"

REFUSED = ("softcap", "s_aux", "position_bias")
"""Keywords that change the scores; a layer that passes one is refused rather than measured wrongly."""


def _refuse(condition: bool, given: str, expected: str) -> None:
    if condition:
        raise ProglocError(f"{given}; expected {expected}")


def _check(query: Tensor, key: Tensor, mask: Tensor | None, blocks: Tensor | None, extra: dict[str, Any]) -> None:
    for name in REFUSED:
        _refuse(extra.get(name) is not None, f"this model's attention uses {name}", "plain scaled q·k scores")
    window = extra.get("sliding_window")
    _refuse(
        window is not None and key.shape[2] > window,
        f"{key.shape[2]} tokens do not fit this model's sliding window of {window}",
        "sequences no longer than the window",
    )
    _refuse(
        mask is None or mask.dtype != torch.bool,
        f"an attention mask of type {None if mask is None else mask.dtype}",
        "a 2-dimensional mask of 0 and 1, or none",
    )
    if blocks is not None:
        expected = (query.shape[0], key.shape[2])
        _refuse(
            tuple(blocks.shape) not in (expected, (1, expected[1])) or blocks.is_floating_point(),
            f"block_ids is {blocks.dtype} of shape {tuple(blocks.shape)}",
            f"integers of shape {expected}",
        )


def progloc_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    block_ids: Tensor | None = None,
    attention_temperature: float = 1.0,
    locality_channels: Sequence[str] = (),
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around `reference_attention`; the second value is the log masses.

    A model passes on the keywords it does not know, so `model(…, block_ids=…, attention_temperature=…,
    locality_channels=…)` arrives here. Without block ids no masses are computed.
    """
    _check(query, key, attention_mask, block_ids, extra)
    for channel in locality_channels:
        _refuse(channel not in EXTRA_CHANNELS, f"unknown channel '{channel}'", suggest(channel, EXTRA_CHANNELS))
    groups = query.shape[1] // key.shape[1]  # grouped-query attention shares a key head among several query heads
    output, masses = reference_attention(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        attention_mask,  # type: ignore[arg-type]  # _check has seen to it
        None if block_ids is None else block_ids.to(query.device),
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        temperature=attention_temperature,
        dropout=dropout,
        channels=locality_channels,
    )
    return output.transpose(1, 2), masses


def boolean_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Return the (B, 1, T, K) boolean mask, always: never None for "causal, work it out yourself"."""
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


for _name in (IMPLEMENTATION, REFERENCE):
    AttentionInterface.register(_name, progloc_attention)
    AttentionMaskInterface.register(_name, boolean_mask)
