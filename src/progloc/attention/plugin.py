"""The way into models: attention functions registered with transformers' AttentionInterface.

`progloc` is what `localize` sets; `progloc_reference` is the materialised definition, to test against. Both need the
mask function registered beside them: without one, transformers passes no mask and attention would see the future.
"""

from __future__ import annotations

__all__ = ["IMPLEMENTATION", "PLAIN", "REFERENCE", "Probe"]

import math
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.utils import logging

from progloc.attention.fast import fast_attention
from progloc.attention.masses import CHANNELS, EXTRA_CHANNELS
from progloc.attention.ops import fast_serves
from progloc.attention.reference import reference_attention
from progloc.attention.segments import first_tokens, segments
from progloc.attention.visibility import mask_of, visibility
from progloc.attention.windows import windowed_attention, windowed_mask
from progloc.errors import ProglocError, suggest

IMPLEMENTATION = "progloc"
REFERENCE = "progloc_reference"
PLAIN = frozenset({"eager", *AttentionInterface().valid_keys()})
"""What transformers has of its own."""

REFUSED = ("softcap", "s_aux", "position_bias")
"""Keywords that change the scores; a layer that passes one is refused rather than measured wrongly."""

logger = logging.get_logger(__name__)


class Probe(Protocol):
    """Looks at a layer's attention, or takes its place; handed to a model as the keyword `locality_probe`."""

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        block_ids: Tensor | None,
        outside: float,
        keep_sink: bool,
        window: int,
        seen: Tensor | None,
    ) -> Tensor | None:
        """Return an output (B, H, T, D) to be used instead of attention's, or None to leave that as it is.

        Args:
            module: the layer, with its `layer_idx`.
            query: (B, H, T, D), of the last T of K tokens.
            key: (B, H_kv, K, D).
            value: as `key`.
            scaling: what q·k is multiplied by.
            block_ids: (B, K), where the model was given any.
            outside: w, what the odds outside a token's block are multiplied by; 1: nothing is.
            keep_sink: the first token's are not.
            window: within how many tokens the layer attends; 0: to all.
            seen: as `progloc.attention.visibility.visibility` gives it; (B, 1, T, K) is a pattern of the model's own.
        """


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
    _refuse(
        query.shape[2] < key.shape[2] < blocks.shape[-1],
        f"of {blocks.shape[-1]} tokens a layer's cache holds the {key.shape[2]} that this model's sliding window shows",
        "use_cache=False, or sequences no longer than the window",
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


def _so_far(
    queries: int, key: Tensor, value: Tensor, mask: Tensor | None, block_ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return keys, values and mask up to the last token that has a block, where a static cache has room for more."""
    seen = key.shape[2] if block_ids is None else block_ids.shape[-1]
    if mask is None:
        room = 1 < queries == seen < key.shape[2]
    else:
        room = mask.ndim == 4 and seen < key.shape[2] and not mask[..., seen:].any()
    return (
        (key[:, :, :seen], value[:, :, :seen], None if mask is None else mask[..., :seen])
        if room
        else (key, value, mask)
    )


def _outside(module: nn.Module, block_ids: Tensor | None, by_layer: Sequence[float]) -> float:
    """Return what a layer's odds outside the block are multiplied by."""
    outside = by_layer[int(module.layer_idx)] if by_layer else 1.0  # type: ignore[arg-type]
    _refuse(outside < 1 and block_ids is None, "a dialled model was called without block_ids", "one id a token so far")
    return outside


def _sinks(seen: Tensor, documents: Tensor | None) -> Tensor:
    """Return each query's sink, (B or 1, T): the first token of its document, or where that is not told, that it sees.

    Args:
        seen: (B or 1, 1, T, K) boolean.
        documents: (B, K); the queries are the last T.
    """
    if documents is None:
        return seen[:, 0].int().argmax(-1)
    return first_tokens(segments(documents.to(seen.device)))[:, -seen.shape[2] :]


def _window(module: nn.Module, key: Tensor, by_layer: Sequence[int]) -> int:
    """Return within how many tokens a layer attends, 0 where that is all of them: there are no more, or it has none."""
    window = by_layer[int(module.layer_idx)] if by_layer else 0  # type: ignore[arg-type]
    return window if key.shape[2] > 2 * window else 0


def _dialled_mask(query: Tensor, seen: Tensor, block_ids: Tensor, outside: float, sinks: Tensor | None) -> Tensor:
    """Return the bias a key (B, 1, T, K) that the dial is, or the keys it leaves where that is all it does.

    Args:
        query: (B, H, T, D).
        seen: (B or 1, 1, T, K) boolean.
        block_ids: (B, K) integers.
        outside: w < 1.
        sinks: (B or 1, T), the key of each query that stays as it is; None: none does.
    """
    stays = (block_ids[:, -query.shape[2] :, None] == block_ids[:, None, :])[:, None]
    if sinks is not None:
        stays = stays.scatter(-1, sinks.expand(len(stays), -1)[:, None, :, None], True)
    if outside == 0:
        return stays & seen
    bias = torch.zeros(stays.shape, dtype=query.dtype, device=query.device).masked_fill(~stays, math.log(outside))
    return bias.masked_fill(~seen, float("-inf"))


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
    locality_outside: Sequence[float] = (),
    locality_keep_sink: bool = False,
    locality_windows: Sequence[int] = (),
    locality_documents: Tensor | None = None,
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around `reference_attention`; see `progloc`."""
    block_ids = _of_layer(module, block_ids, locality_granularity)
    key, value, attention_mask = _so_far(query.shape[2], key, value, attention_mask, block_ids)
    if window := _window(module, key, locality_windows):
        whole = mask_of(attention_mask, query.shape[2], key.shape[2], query.device)
        attention_mask = windowed_mask(whole.expand(len(query), -1, -1, -1), window)
    _check(query, key, attention_mask, block_ids, locality_channels, extra)
    allowed = mask_of(attention_mask, query.shape[2], key.shape[2], query.device).expand(len(query), -1, -1, -1)
    groups = query.shape[1] // key.shape[1]  # grouped-query attention shares a key head among several query heads
    output, masses = reference_attention(
        query,
        repeat_kv(key, groups),
        repeat_kv(value, groups),
        allowed,
        None if block_ids is None else block_ids.to(query.device),
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        temperature=attention_temperature,
        dropout=dropout,
        channels=locality_channels,
        outside=_outside(module, block_ids, locality_outside),
        keep_sink=locality_keep_sink,
        sinks=None if locality_documents is None else _sinks(allowed, locality_documents),
    )
    return output.transpose(1, 2).contiguous(), masses


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
    locality_outside: Sequence[float] = (),
    locality_keep_sink: bool = False,
    locality_windows: Sequence[int] = (),
    locality_documents: Tensor | None = None,
    locality_probe: Probe | None = None,
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around the fast paths; the second value is the log masses.

    A model passes on the keywords it does not know, so `model(…, block_ids=…, attention_temperature=…,
    locality_channels=…, locality_layers=…, locality_granularity=…, locality_outside=…)` arrives here.
    Layer by layer, `locality_windows` says within how many tokens it attends (0: all), `locality_granularity` which
    of G granularities it has where block ids are (B, T, G), and `locality_outside` what the odds outside its blocks
    are multiplied by (`progloc.dial`). `locality_documents` (B, K) tells the sink of tokens that do not see it.
    `locality_probe` is shown every layer's attention first (`Probe`).

    - Without block ids, or in a layer that is not among `locality_layers` (None: all are) and not dialled, this is
      torch's own scaled dot-product attention and nothing else, or `windowed_attention`; zeros of the promised shape
      stand for the masses of such a layer.
    - With them, `fast_attention`, or the materialised definition for what that does not do: dropout on the weights,
      queries that are the end of a longer past, masks that are more than causal attention within documents, values
      wider or narrower than keys, and devices that no kernel serves.
    - In a dialled layer whose masses nobody asked for, those queries take torch's own attention with a bias a key,
      which is a row where one token follows a past.

    Returns:
        (B, T, H, D), and (B, H, T, 2 + len(locality_channels)) in nats, or None without block ids.
    """
    block_ids = _of_layer(module, block_ids, locality_granularity)
    key, value, attention_mask = _so_far(query.shape[2], key, value, attention_mask, block_ids)
    _check(query, key, attention_mask, block_ids, locality_channels, extra)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    outside = _outside(module, block_ids, locality_outside)
    if locality_probe is not None:
        instead = locality_probe(
            module, query, key, value, scaling=scaling / attention_temperature, block_ids=block_ids, outside=outside,
            keep_sink=locality_keep_sink, window=_window(module, key, locality_windows), seen=attention_mask,
        )  # fmt: skip
        if instead is not None:
            return instead.transpose(1, 2).contiguous(), None
    measured = block_ids is not None and (locality_layers is None or module.layer_idx in locality_layers)
    opaque = attention_mask is not None and attention_mask.ndim == 4
    window = _window(module, key, locality_windows)
    if window and (measured or outside < 1 or dropout or opaque or query.shape[2] != key.shape[2]):
        whole = mask_of(attention_mask, query.shape[2], key.shape[2], query.device)
        attention_mask, opaque = windowed_mask(whole, window), True
    by_definition = dropout or opaque or query.shape[2] != key.shape[2] or not fast_serves(query, key, value)
    width = len(CHANNELS) + len(locality_channels)
    nothing = None if block_ids is None else query.new_zeros(()).expand(*query.shape[:3], width)
    if window and not by_definition and not measured:
        output = windowed_attention(query, key, value, attention_mask, window, scaling / attention_temperature)
        return output.transpose(1, 2).contiguous(), nothing
    if block_ids is None or (not measured and (outside == 1 or by_definition)):
        mask = None
        if attention_mask is not None or outside < 1:
            mask = mask_of(attention_mask, query.shape[2], key.shape[2], query.device)
            if block_ids is not None and outside < 1:
                sinks = _sinks(mask, locality_documents) if locality_keep_sink else None
                mask = _dialled_mask(query, mask, block_ids.to(query.device), outside, sinks)
        output, _ = sdpa_attention_forward(
            module, query, key, value, mask, dropout, scaling / attention_temperature, is_causal=extra.get("is_causal")
        )
        return output, nothing
    if by_definition:
        if dropout:
            logger.warning_once(
                f"attention dropout of {dropout} makes progloc hold the whole attention matrix; "
                "set it to 0 in the model's configuration for time and memory of plain attention"
            )
        return reference(
            module, query, key, value, attention_mask, scaling, dropout, block_ids=block_ids,
            attention_temperature=attention_temperature, locality_channels=locality_channels,
            locality_outside=locality_outside, locality_keep_sink=locality_keep_sink,
            locality_documents=locality_documents, **extra,
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
        outside=outside,
        keep_sink=locality_keep_sink,
    )
    return output.transpose(1, 2).contiguous(), masses


_plain: Any = PreTrainedConfig.output_attentions


def _ask_for_attentions(config: PreTrainedConfig, wanted: bool) -> None:
    """Set `config.output_attentions`, which transformers grants to its eager attention alone: log masses come by it."""
    if config._attn_implementation in (IMPLEMENTATION, REFERENCE):
        config._output_attentions = wanted
    else:
        _plain.fset(config, wanted)


PreTrainedConfig.output_attentions = _plain.setter(_ask_for_attentions)
for _name, _function in ((IMPLEMENTATION, progloc), (REFERENCE, reference)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, visibility)
