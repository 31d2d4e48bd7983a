"""The way into models: attention functions registered with transformers' AttentionInterface.

`progloc` is what `localize` sets; `progloc_reference` is the materialised definition, to test against. Both need the
mask function registered beside them: without one, transformers passes no mask and attention would see the future.
"""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "REFERENCE"]

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.utils import logging

from progloc.attention.fast import fast_attention
from progloc.attention.masses import CHANNELS, EXTRA_CHANNELS
from progloc.attention.ops import fast_serves
from progloc.attention.reference import reference_attention
from progloc.attention.visibility import mask_of, visibility
from progloc.errors import ProglocError, suggest

IMPLEMENTATION = "progloc"
REFERENCE = "progloc_reference"

REFUSED = ("softcap", "s_aux", "position_bias")
"""Keywords that change the scores; a layer that passes one is refused rather than measured wrongly."""

logger = logging.get_logger(__name__)


def _refuse(condition: bool, given: str, expected: str) -> None:
    if condition:
        raise ProglocError(f"{given}; expected {expected}")


def _check(
    query: Tensor, key: Tensor, seen: Tensor | None, blocks: Tensor | None, channels: Sequence[str], extra: Any
) -> None:
    for name in REFUSED:
        _refuse(extra.get(name) is not None, f"this model's attention uses {name}", "plain scaled q·k scores")
    _refuse(
        seen is not None and seen.is_floating_point(),
        f"an attention mask of type {None if seen is None else seen.dtype}",
        "a 2-dimensional mask of 0 and 1, or none",
    )
    if blocks is None:
        return
    _refuse(extra.get("is_causal") is False, "log masses were asked for with is_causal=False", "causal attention")
    window, length = extra.get("sliding_window"), max(key.shape[2], blocks.shape[-1])
    _refuse(
        window is not None and length > window,
        f"{length} tokens do not fit this model's sliding window of {window}",
        "sequences no longer than the window",
    )
    for channel in channels:
        _refuse(channel not in EXTRA_CHANNELS, f"unknown channel '{channel}'", suggest(channel, EXTRA_CHANNELS))
    _refuse(
        query.shape[2] != key.shape[2] and any("with_previous" in channel for channel in channels),
        f"channels {', '.join(channels)} of {query.shape[2]} tokens after {key.shape[2] - query.shape[2]} others",
        "a whole sequence at once, where the block before counts as a token's own",
    )
    expected = (query.shape[0], key.shape[2])
    _refuse(
        tuple(blocks.shape) not in (expected, (1, expected[1])) or blocks.is_floating_point(),
        f"block_ids is {blocks.dtype} of shape {tuple(blocks.shape)}",
        f"integers of shape {expected}",
    )


def _of_layer(module: nn.Module, block_ids: Tensor | None, granularity: Sequence[int]) -> Tensor | None:
    """Return a layer's own block ids (B, T), of those that may be (B, T, G)."""
    if block_ids is None or block_ids.ndim < 3 or not granularity:
        return block_ids
    return block_ids[..., granularity[int(module.layer_idx)]]  # type: ignore[arg-type]


def reference(
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
    locality_granularity: Sequence[int] = (),
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around `reference_attention`; see `progloc`."""
    block_ids = _of_layer(module, block_ids, locality_granularity)
    _check(query, key, attention_mask, block_ids, locality_channels, extra)
    groups = query.shape[1] // key.shape[1]  # grouped-query attention shares a key head among several query heads
    output, masses = reference_attention(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        mask_of(attention_mask, query.shape[2], key.shape[2], query.device).expand(len(query), -1, -1, -1),
        None if block_ids is None else block_ids.to(query.device),
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        temperature=attention_temperature,
        dropout=dropout,
        channels=locality_channels,
    )
    return output.transpose(1, 2), masses


def progloc(
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
    locality_layers: Collection[int] | None = None,
    locality_granularity: Sequence[int] = (),
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around the fast paths; the second value is the log masses.

    A model passes on the keywords it does not know, so `model(…, block_ids=…, attention_temperature=…,
    locality_channels=…, locality_layers=…, locality_granularity=…)` arrives here. The last says, layer by layer, which
    of G granularities it has where block ids are (B, T, G).

    - Without block ids, or in a layer that is not among `locality_layers` (None: all are), this is torch's own scaled
      dot-product attention and nothing else; zeros of the promised shape stand for the masses of such a layer.
    - With them, `fast_attention`, or the materialised definition for what that does not do: dropout on the weights,
      queries that are the end of a longer past, masks that are more than causal attention within documents, values
      wider or narrower than keys, and devices that no kernel serves.

    Returns:
        (B, T, H, D), and (B, H, T, 2 + len(locality_channels)) in nats, or None without block ids.
    """
    block_ids = _of_layer(module, block_ids, locality_granularity)
    _check(query, key, attention_mask, block_ids, locality_channels, extra)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    length = query.shape[2]
    if block_ids is None or (locality_layers is not None and module.layer_idx not in locality_layers):
        mask = None if attention_mask is None else mask_of(attention_mask, length, key.shape[2], query.device)
        output, _ = sdpa_attention_forward(
            module, query, key, value, mask, dropout, scaling / attention_temperature, **extra
        )
        width = len(CHANNELS) + len(locality_channels)
        nothing = None if block_ids is None else query.new_zeros(()).expand(*query.shape[:3], width)
        return output, nothing
    opaque = attention_mask is not None and attention_mask.ndim == 4
    if dropout or opaque or length != key.shape[2] or not fast_serves(query, key, value):
        if dropout:
            logger.warning_once(
                f"attention dropout of {dropout} makes progloc hold the whole attention matrix; "
                "set it to 0 in the model's configuration for time and memory of plain attention"
            )
        return reference(
            module, query, key, value, attention_mask, scaling, dropout, block_ids=block_ids,
            attention_temperature=attention_temperature, locality_channels=locality_channels, **extra,
        )  # fmt: skip
    output, masses = fast_attention(
        query,
        key,
        value,
        attention_mask,
        block_ids.to(query.device),
        scaling=scaling,
        temperature=attention_temperature,
        channels=locality_channels,
    )
    return output.transpose(1, 2), masses


for _name, _function in ((IMPLEMENTATION, progloc), (REFERENCE, reference)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, visibility)
