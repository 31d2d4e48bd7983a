"""The way into models: attention functions registered with transformers' AttentionInterface.

`progloc` is what `localize` sets; `progloc_reference` is the materialised definition, to test against. Both need the
mask function registered beside them: without one, transformers passes no mask and attention would see the future.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from progloc.attention.backends import BACKENDS, DEFINITION, Backend
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.request import AttentionRequest, LayerAttention
from progloc.attention.visibility import visibility
from progloc.errors import ProglocError, suggest

IMPLEMENTATION = "progloc"
REFERENCE = "progloc_reference"
PLAIN = frozenset({"eager", *AttentionInterface().valid_keys()})
"""What transformers has of its own."""

REFUSED = ("softcap", "s_aux", "position_bias")
"""Keywords that change the scores; a layer that passes one is refused rather than measured wrongly."""


def _refuse(condition: bool, given: str, expected: str) -> None:
    if condition:
        raise ProglocError(f"{given}; expected {expected}")


def _check(layer: LayerAttention, extra: dict[str, Any]) -> None:
    queries, keys = layer.query.shape[2], layer.key.shape[2]
    seen, blocks, channels = layer.seen, layer.block_ids, layer.request.channels
    for name in REFUSED:
        _refuse(extra.get(name) is not None, f"this model's attention uses {name}", "plain scaled q·k scores")
    _refuse(
        seen is not None and seen.is_floating_point(),
        f"an attention mask of type {None if seen is None else seen.dtype}",
        "a 2-dimensional mask of 0 and 1, or none",
    )
    if layer.isolation is not None:
        roles = tuple(layer.isolation.roles.shape)
        _refuse(
            roles not in ((layer.query.shape[0], keys), (1, keys)),
            f"source_ids of shape {roles} for {keys} keys",
            "a role a token so far, and a cache that holds all of them",
        )
        _refuse(layer.is_causal is False, "isolation was asked for with is_causal=False", "causal attention")
    if blocks is None:
        _refuse(layer.dial.turned, "a dialled model was called without block_ids", "one id a token so far")
        return
    _refuse(layer.is_causal is False, "log masses were asked for with is_causal=False", "causal attention")
    _refuse(
        queries < keys < blocks.shape[-1],
        f"of {blocks.shape[-1]} tokens a layer's cache holds the {keys} that this model's sliding window shows",
        "use_cache=False, or sequences no longer than the window",
    )
    for channel in channels:
        _refuse(channel not in EXTRA_CHANNELS, f"unknown channel '{channel}'", suggest(channel, EXTRA_CHANNELS))
    _refuse(
        queries != keys and any("with_previous" in channel for channel in channels),
        f"channels {', '.join(channels)} of {queries} tokens after {keys - queries} others",
        "a whole sequence at once, where the block before counts as a token's own",
    )
    expected = (layer.query.shape[0], keys)
    _refuse(
        tuple(blocks.shape) not in (expected, (1, keys)) or blocks.is_floating_point(),
        f"block_ids is {blocks.dtype} of shape {tuple(blocks.shape)}",
        f"integers of shape {expected}",
    )


def _so_far(
    queries: int, key: Tensor, value: Tensor, seen: Tensor | None, ids: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what is seen up to the last token that has a block or a role, where a static cache has room for more."""
    end = key.shape[2] if ids is None else ids.shape[-1]
    if seen is None:
        room = 1 < queries == end < key.shape[2]
    else:
        room = seen.ndim == 4 and end < key.shape[2] and not seen[..., end:].any()
    if not room:
        return key, value, seen
    return key[:, :, :end], value[:, :, :end], None if seen is None else seen[..., :end]


def _attend(
    backends: Sequence[Backend],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    attention_request: AttentionRequest | None = None,
    is_causal: bool | None = None,
    **extra: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention signature around the first backend that serves a layer.

    A model passes on the keywords it does not know, so `model(…, attention_request=…)` arrives here.

    Returns:
        (B, T, H, D), and (B, H, T, 2 + len(channels)) in nats, or None without block ids: zeros where the request
        leaves the layer out.
    """
    request = attention_request or AttentionRequest()
    block_ids, isolation = request.blocks_of(module, query.device), request.isolation_of(module, query.device)
    ids = block_ids if isolation is None else isolation.roles
    key, value, seen = _so_far(query.shape[2], key, value, attention_mask, ids)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = LayerAttention(request, module, query, key, value, seen, block_ids, scaling, dropout, is_causal, isolation)
    _check(layer, extra)
    output, masses = None if request.probe is None else request.probe(layer), None
    if output is None:
        output, masses = next(backend for backend in backends if backend.serves(layer)).attend(layer)
    return output.transpose(1, 2).contiguous(), masses


_plain: Any = PreTrainedConfig.output_attentions


def _ask_for_attentions(config: PreTrainedConfig, wanted: bool) -> None:
    """Set `config.output_attentions`, which transformers grants to its eager attention alone: log masses come by it."""
    if config._attn_implementation in (IMPLEMENTATION, REFERENCE):
        config._output_attentions = wanted
    else:
        _plain.fset(config, wanted)


PreTrainedConfig.output_attentions = _plain.setter(_ask_for_attentions)
for _name, _backends in ((IMPLEMENTATION, BACKENDS), (REFERENCE, (DEFINITION,))):
    AttentionInterface.register(_name, partial(_attend, _backends))
    AttentionMaskInterface.register(_name, visibility)
