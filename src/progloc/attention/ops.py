"""Attention with a differentiable log-sum-exp, as operators of torch's own: autograd, compilers and checkpointing see
one node each, whatever device and kernel serve it.
"""

from __future__ import annotations

__all__ = ["segment_attention", "sink_scores"]

import importlib.util
from typing import Any

import torch
from torch import Tensor

from progloc.attention.batched import batched_backward, batched_forward
from progloc.attention.segments import Segments
from progloc.attention.stock import stock_backward, stock_forward, stock_serves


def _triton(query: Tensor) -> Any:
    """The module of Triton kernels where there is Triton and it serves such queries, else None."""
    served = query.device.type == "cuda" and query.dtype != torch.float64 and query.shape[-1] <= 256
    if not served or importlib.util.find_spec("triton") is None:
        return None
    from progloc.attention import triton_segments  # compiles nothing until it is called

    return triton_segments


def _by_token(x: Tensor) -> Tensor:
    """The same (B, H, T, D), laid out (B, T, H, D) as models do: kernels differ in how they lay out results."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _whole(query: Tensor) -> Segments:
    """Every sequence one segment."""
    batch, length = query.shape[0], query.shape[2]
    place = torch.arange(length, dtype=torch.int32, device=query.device).expand(batch, -1).contiguous()
    return Segments(place, torch.zeros_like(place), torch.full_like(place, length))


def _segments(parts: list[Tensor], query: Tensor) -> Segments | None:
    """The segments, or None where a stock kernel serves whole sequences."""
    if parts:
        return Segments(*parts)
    return None if stock_serves(query) else _whole(query)


# The schemas are written out because torch 2.6 cannot read them from postponed annotations.
@torch.library.custom_op(
    "progloc::segment_attention",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor? value, Tensor[] segments, float scaling) -> (Tensor, Tensor)",
)
def _forward(
    query: Tensor, key: Tensor, value: Tensor | None, segments: list[Tensor], scaling: float
) -> tuple[Tensor, Tensor]:
    found = _segments(segments, query)
    triton = None if found is None else _triton(query)
    output: Tensor | None
    if found is None:
        output, lse = stock_forward(query, key, key if value is None else value, scaling)
    elif triton is not None:
        output, lse = triton.segment_forward(query, key, value, found.order, found.start, scaling=scaling)
    else:
        output, lse = batched_forward(query, key, value, found, scaling)
    return query.new_empty(0) if value is None or output is None else _by_token(output), lse.contiguous()


@_forward.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor | None, segments: list[Tensor], scaling: float
) -> tuple[Tensor, Tensor]:
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
    found = _segments(segments, query)
    triton = None if found is None else _triton(query)
    given = (grad_output, grad_lse, query, key, value, output, lse)
    if found is None:
        d_query, d_key, d_value = stock_backward(*given, scaling)
    elif triton is not None:
        d_query, d_key, d_value = triton.segment_backward(*given, *found, scaling=scaling)
    else:
        d_query, d_key, d_value = batched_backward(*given, found, scaling)
    return _by_token(d_query), _by_token(d_key), query.new_empty(0) if d_value is None else _by_token(d_value)


@_backward.register_fake
def _(
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
    d_query, d_key, d_value = _backward(grad_output, grad_lse, query, key, value, output, lse, segments, ctx.scaling)
    return d_query, d_key, None if grad_output is None else d_value, *without


_forward.register_autograd(_gradient, setup_context=_setup)


def segment_attention(
    query: Tensor, key: Tensor, value: Tensor | None, segments: Segments | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return causal attention within segments and its log-sum-exp, both differentiable, in memory linear in T.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv: keys are shared among heads, never repeated.
        value: as `key`; None where the log-sum-exp alone is wanted.
        segments: who attends to whom; None: every sequence is one segment.
        scaling: what q·k is multiplied by.

    Returns:
        The output (B, H, T, D), empty without a value, and the log-sum-exp (B, H, T) in nats, in at least float32.
    """
    return _forward(query, key, value, [] if segments is None else list(segments), scaling)


def _grouped(x: Tensor, key: Tensor) -> Tensor:
    """(B, H, …) → (B, H_kv, G, …) in at least float32: the query heads that share a key head lie together."""
    return x.unflatten(1, (key.shape[1], -1)).to(torch.promote_types(x.dtype, torch.float32))


@torch.library.custom_op(
    "progloc::sink_scores", mutates_args=(), schema="(Tensor query, Tensor key, float scaling) -> Tensor"
)
def _sink_scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    q, k = _grouped(query, key), _grouped(key, key)
    with torch.autocast(query.device.type, enabled=False):
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
    with torch.autocast(query.device.type, enabled=False):
        d_key = (g[..., None, :] @ q if key.shape[2] == 1 else g[..., None] * q).sum(2)
    return _by_token(d_query.to(query.dtype)), d_key.to(key.dtype)


@_sink_scores_backward.register_fake
def _(gradient: Tensor, query: Tensor, key: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    return _by_token(torch.empty_like(query)), torch.empty_like(key, memory_format=torch.contiguous_format)


def _setup_scores(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, ctx.scaling = inputs
    ctx.save_for_backward(query, key)


def _gradient_of_scores(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
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
