"""The ways to compute a layer's attention; each says what it serves, and the first that does is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.utils import logging

from progloc.attention.fast import fast_attention
from progloc.attention.isolation import isolated_attention
from progloc.attention.ops import fast_serves
from progloc.attention.reference import reference_attention
from progloc.attention.request import LayerAttention
from progloc.attention.windows import windowed_attention

logger = logging.get_logger(__name__)


class Backend(NamedTuple):
    """A way to compute attention."""

    serves: Callable[[LayerAttention], bool]
    """Whether it gives what is asked for."""
    attend: Callable[[LayerAttention], tuple[Tensor, Tensor | None]]
    """Returns (B, H, T, D'), and log masses (B, H, T, C) in nats, or None without block ids."""


def _is_plain(layer: LayerAttention) -> bool:
    """Whether neither log masses nor a dial nor isolation are asked for."""
    return not layer.measured and not layer.kept_odds


def _in_segments(layer: LayerAttention) -> bool:
    """Whether it is attention of whole sequences, causal within documents, and there are kernels for it."""
    whole = layer.query.shape[2] == layer.key.shape[2] and (layer.seen is None or layer.seen.ndim == 2)
    return whole and not layer.dropout and fast_serves(layer.query, layer.key, layer.value)


def _attend_in_window(layer: LayerAttention) -> tuple[Tensor, Tensor | None]:
    """Without a mask, in time and memory linear in the length."""
    output = windowed_attention(layer.query, layer.key, layer.value, layer.seen, layer.window, layer.scale)
    return output, layer.no_masses


def _attend_fast(layer: LayerAttention) -> tuple[Tensor, Tensor | None]:
    """With log masses and dial, in the time and memory of plain attention."""
    assert layer.block_ids is not None
    return fast_attention(
        layer.query, layer.key, layer.value, layer.seen, layer.block_ids, scaling=layer.scaling,
        temperature=layer.request.temperature, channels=layer.request.channels, **layer.dial._asdict(),
    )  # fmt: skip


def _attend_plainly(layer: LayerAttention) -> tuple[Tensor, Tensor | None]:
    """By torch's own scaled dot-product attention; a window is a mask, dial and isolation a bias a key."""
    mask = None if layer.seen is None and not layer.window and not layer.kept_odds else layer.mask
    if mask is not None and layer.kept_odds:
        mask = _lowered(layer, mask)
    output, _ = sdpa_attention_forward(
        layer.module, layer.query, layer.key, layer.value, mask, layer.dropout, layer.scale, is_causal=layer.is_causal
    )
    return output.transpose(1, 2), layer.no_masses


def _attend_isolated(layer: LayerAttention) -> tuple[Tensor, Tensor | None]:
    """Strictly, with fewer scores than plain attention: sources are short."""
    return isolated_attention(layer), layer.no_masses


def _is_strict(layer: LayerAttention) -> bool:
    """Whether sources see nothing of each other, and that is all that is asked for."""
    alone = layer.isolation is not None and layer.kept_odds == (0.0,) and not layer.measured
    return alone and not torch.compiler.is_compiling()  # how many tokens read is a value


def _lowered(layer: LayerAttention, mask: Tensor) -> Tensor:
    """Return a mask (B, 1, T, K) with odds as a bias a key, or without the keys of no odds where that is all."""
    queries, keys = mask.shape[-2:]
    is_sink: Tensor | bool = False
    if layer.dial.keep_sink:
        is_sink = layer.sinks(mask)[:, None, :, None] == torch.arange(keys, device=mask.device)
    bias = layer.lower(layer.query.new_zeros(()), slice(-queries, None), keys, is_sink)
    return bias.masked_fill(~mask, float("-inf")) if any(layer.kept_odds) else mask & bias.isfinite()


def _attend_by_definition(layer: LayerAttention) -> tuple[Tensor, Tensor | None]:
    """With the whole matrix; all there is."""
    if layer.dropout:
        logger.warning_once(
            f"attention dropout of {layer.dropout} makes progloc hold the whole attention matrix; "
            "set it to 0 in the model's configuration for time and memory of plain attention"
        )
    mask, groups = layer.mask, layer.query.shape[1] // layer.key.shape[1]
    return reference_attention(
        layer.query, repeat_kv(layer.key, groups), repeat_kv(layer.value, groups),
        mask.expand(len(layer.query), -1, -1, -1), layer.block_ids, scaling=layer.scaling,
        temperature=layer.request.temperature, dropout=layer.dropout, channels=layer.request.channels,
        sinks=None if layer.request.documents is None else layer.sinks(mask), **layer.dial._asdict(),
        roles=None if layer.isolation is None else layer.isolation.roles,
        forbidden_odds=1.0 if layer.isolation is None else layer.isolation.outside[layer.index],
    )  # fmt: skip


DEFINITION = Backend(lambda layer: True, _attend_by_definition)
BACKENDS = (
    Backend(lambda layer: layer.window > 0 and _is_plain(layer) and _in_segments(layer), _attend_in_window),
    Backend(lambda layer: not layer.window and _is_strict(layer) and _in_segments(layer), _attend_isolated),
    Backend(
        lambda layer: not layer.window and not layer.isolation and not _is_plain(layer) and _in_segments(layer),
        _attend_fast,
    ),
    Backend(lambda layer: not layer.measured, _attend_plainly),
    DEFINITION,
)
"""In the order in which they are asked."""
