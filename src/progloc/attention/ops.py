"""Attention with a differentiable log-sum-exp, as operators of torch's own: autograd, compilers and checkpointing see
one node each, whatever device and kernel serve it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from progloc.attention.batched import batched_backward, batched_forward
from progloc.attention.segments import Segments
from progloc.attention.stock import stock_backward, stock_forward, stock_serves

HAS_TRITON = importlib.util.find_spec("triton") is not None


def fast_serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether there are kernels for (B, H, T, D) of this device, type and width, with values as wide as keys."""
    if not query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256:
        return False
    on_cuda = query.device.type == "cuda" and HAS_TRITON and query.dtype != torch.float64
    return on_cuda or query.device.type == "cpu"


def _triton() -> Any:
    from progloc.attention import triton_segments  # there need be no Triton where there is no GPU

    return triton_segments


def _types_as_given(x: Tensor) -> torch.autocast:
    """Autocast off: it stays on inside an operator, and would make log-sum-exps in half precision."""
    return torch.autocast(x.device.type, enabled=False)


def _by_token(x: Tensor) -> Tensor:
    """The same (B, H, T, D), laid out (B, T, H, D) as models do: kernels differ in how they lay out results."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _whole(query: Tensor) -> Segments:
    """Every sequence one segment."""
    batch, length = query.shape[0], query.shape[2]
    place = torch.arange(length, dtype=torch.int32, device=query.device).expand(batch, -1).contiguous()
    return Segments(place, torch.zeros_like(place), torch.full_like(place, length))


def _served(parts: list[Tensor], query: Tensor, key: Tensor) -> Segments | None:
    """The segments, or None where a stock kernel serves whole sequences."""
    if parts:
        return Segments(*parts)
    return None if stock_serves(query, key) else _whole(query)


# The schemas are written out because not every torch can read them from postponed annotations.
@torch.library.custom_op(
    "progloc::segment_attention",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor? value, Tensor[] segments, float scaling) -> (Tensor, Tensor)",
)
def _forward(
    query: Tensor, key: Tensor, value: Tensor | None, segments: list[Tensor], scaling: float
) -> tuple[Tensor, Tensor]:
    found = _served(segments, query, key)
    output: Tensor | None
    with _types_as_given(query):
        if found is None:
            output, lse = stock_forward(query, key, key if value is None else value, scaling)
        elif query.is_cuda:
            output, lse = _triton().segment_forward(query, key, value, found.order, found.start, scaling=scaling)
        else:
            output, lse = batched_forward(query, key, value, found, scaling)
    return query.new_empty(0) if value is None or output is None else _by_token(output), lse.contiguous()


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    lse = query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
    return query.new_empty(0) if value is None else _by_token(torch.empty_like(query)), lse


@torch.library.custom_op(
    "progloc::segment_attention_backward",
    mutates_args=(),
    schema="(Tensor? grad_output, Tensor? grad_lse, Tensor query, Tensor key, Tensor? value, Tensor? output,"
    " Tensor lse, Tensor[] segments, float scaling) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    grad_output: Tensor | None,
    grad_lse: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    output: Tensor | None,
    lse: Tensor,
    segments: list[Tensor],
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    found = _served(segments, query, key)
    if found is None and query.is_cuda and query.dtype == torch.float16 and grad_lse is not None:
        found = _whole(query)  # see `stock.shifted`
    given = (grad_output, grad_lse, query, key, value, output, lse)
    with _types_as_given(query):
        if found is None:
            d_query, d_key, d_value = stock_backward(*given, scaling)
        elif query.is_cuda:
            d_query, d_key, d_value = _triton().segment_backward(*given, *found, scaling=scaling)
        else:
            d_query, d_key, d_value = batched_backward(*given, found, scaling)
    return _by_token(d_query), _by_token(d_key), query.new_empty(0) if d_value is None else _by_token(d_value)


@_backward.register_fake
def _(
    grad_output: Tensor | None, _lse: Tensor | None, query: Tensor, key: Tensor, value: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    d_value = query.new_empty(0) if value is None or grad_output is None else _by_token(torch.empty_like(value))
    return _by_token(torch.empty_like(query)), _by_token(torch.empty_like(key)), d_value


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, segments, ctx.scaling = inputs
    ctx.set_materialize_grads(False)
    ctx.has_value = value is not None
    ctx.save_for_backward(query, key, output[1], *segments, *((value, output[0]) if ctx.has_value else ()))


def _gradient(ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
    query, key, lse, *rest = ctx.saved_tensors
    value, output = rest[-2:] if ctx.has_value else (None, None)
    segments = rest[:-2] if ctx.has_value else rest
    grad_output = grad_output if ctx.has_value else None
    without = [None] * len(segments), None  # segments and scaling have no gradient
    if grad_output is None and grad_lse is None:
        return None, None, None, *without
    if grad_output is not None:
        grad_output = _unit_last(grad_output)
    d_query, d_key, d_value = _backward(grad_output, grad_lse, query, key, value, output, lse, segments, ctx.scaling)
    return d_query, d_key, None if grad_output is None else d_value, *without


_forward.register_autograd(_gradient, setup_context=_setup)


def segment_attention(
    query: Tensor, key: Tensor, value: Tensor | None, segments: Segments | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return causal attention within segments and its log-sum-exp, both differentiable once, in memory linear in T.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv: keys are shared among heads, never repeated.
        value: as `key`; None where the log-sum-exp alone is wanted.
        segments: who attends to whom; None: every sequence is one segment.
        scaling: what q·k is multiplied by.

    Returns:
        The output (B, H, T, D), empty without a value, and the log-sum-exp (B, H, T) in nats, in at least float32.
    """
    q, k = _unit_last(query), _unit_last(key)
    v = None if value is None else _unit_last(value)
    return _forward(q, k, v, [] if segments is None else list(segments), scaling)


def merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Merge two attentions over different keys: each an output (B, H, T, D) and its log-sum-exp (B, H, T)."""
    lse = torch.logaddexp(first[1], second[1])
    share = (second[1] - lse).exp()[..., None]
    return first[0] + share * (second[0] - first[0]), lse


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return queries, keys and values in autocast's type where it is on, as it treats torch's own attention."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def _unit_last(x: Tensor) -> Tensor:
    """The same with entries of a row side by side, which every kernel takes for granted."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _grouped(x: Tensor, key: Tensor) -> Tensor:
    """(B, H, …) → (B, H_kv, G, …) in at least float32: the query heads that share a key head lie together."""
    return x.unflatten(1, (key.shape[1], -1)).to(torch.promote_types(x.dtype, torch.float32))


@torch.library.custom_op(
    "progloc::sink_scores", mutates_args=(), schema="(Tensor query, Tensor key, float scaling) -> Tensor"
)
def _sink_scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    q, k = _grouped(query, key), _grouped(key, key)
    with _types_as_given(query):
        found = (q @ k.mT).squeeze(-1) if key.shape[2] == 1 else (q * k).sum(-1)  # (B, H_kv, G, T)
    return found.flatten(1, 2) * scaling


@_sink_scores.register_fake
def _(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    return query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))


@torch.library.custom_op(
    "progloc::sink_scores_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor query, Tensor key, float scaling) -> (Tensor, Tensor)",
)
def _sink_scores_backward(gradient: Tensor, query: Tensor, key: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    q, k, g = _grouped(query, key), _grouped(key, key), _grouped(gradient, key) * scaling
    d_query = (g[..., None] * k).flatten(1, 2)
    with _types_as_given(query):
        d_key = (g[..., None, :] @ q if key.shape[2] == 1 else g[..., None] * q).sum(2)
    return _by_token(d_query.to(query.dtype)), d_key.to(key.dtype)


@_sink_scores_backward.register_fake
def _(gradient: Tensor, query: Tensor, key: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    return _by_token(torch.empty_like(query)), torch.empty_like(key, memory_format=torch.contiguous_format)


def _setup_scores(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, ctx.scaling = inputs
    ctx.save_for_backward(query, key)


def _gradient_of_scores(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    values_exist = type(gradient) is Tensor  # and not what a compiler traces with
    if values_exist and gradient.device.type == "cpu" and not gradient.any():
        return None, None, None  # a penalty on blocks alone leaves the sink's channel without one
    return *_sink_scores_backward(gradient, *ctx.saved_tensors, ctx.scaling), None


_sink_scores.register_autograd(_gradient_of_scores, setup_context=_setup_scores)


def sink_scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Return the score of every query with its sink, (B, H, T) in nats, in at least float32 and differentiable.

    An operator of its own because autograd would keep float32 copies of half-precision queries.

    Args:
        query: (B, H, T, D).
        key: the sinks' keys: (B, H_kv, 1, D), or (B, H_kv, T, D) where tokens have different ones.
        scaling: what q·k is multiplied by.
    """
    return _sink_scores(query, key, scaling)
