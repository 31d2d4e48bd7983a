"""Causal attention inside segments on CUDA, in Triton: its log-sum-exp, and its output where that too is wanted.

A segment is a block or a document; a token sees the earlier tokens of its own segment and itself (method.md §1's B(i)).
Segments need not be contiguous, so the kernels count *places*: tokens sorted by segment, stably. The token at place p
sees the places start[p] … p and is seen from p … end[p] − 1; `order` names the token at each place. Neither start nor
end ever falls from one place to the next, so a tile's first start and last end bound what the tile can reach.

A program does the tile of its own places first and then the tiles of earlier keys (or later queries) that its segments
reach, which for short segments is at most a few rows of one. These bounds are read inside the kernel, so the host never
waits; every sum has one order, so results are the same on every call. Places beyond T are rows of zeros, and what is
computed for them is not stored.

Inside a kernel scores are in bits, because exp2 is what a GPU computes; everywhere else they are nats.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BITS = tl.constexpr(1 / math.log(2))  # in a nat
NATS = tl.constexpr(math.log(2))  # in a bit


@triton.jit
def _head(tensor, b, h, stride_b, stride_h):
    """Return a pointer to one head, in 64 bits: B·H·T·D can pass 2³¹."""
    return tensor + b.to(tl.int64) * stride_b + h.to(tl.int64) * stride_h


@triton.jit
def _rows(head, stride, tokens, wanted, D: tl.constexpr, WIDTH: tl.constexpr):
    """Return pointers to one row a token, (TILE, WIDTH), and which of them to follow: WIDTH may exceed D."""
    d = tl.arange(0, WIDTH)
    return head + tokens.to(tl.int64)[:, None] * stride + d[None, :], wanted[:, None] & (d < D)[None, :]


@triton.jit
def _load_rows(head, stride, tokens, wanted, D: tl.constexpr, WIDTH: tl.constexpr):
    pointers, followed = _rows(head, stride, tokens, wanted, D, WIDTH)
    return tl.load(pointers, mask=followed, other=0.0)


@triton.jit
def _store_rows(head, stride, tokens, wanted, rows, D: tl.constexpr, WIDTH: tl.constexpr):
    pointers, followed = _rows(head, stride, tokens, wanted, D, WIDTH)
    tl.store(pointers, rows.to(head.dtype.element_ty), mask=followed)


@triton.jit
def _product(left, right):
    """Return the matrix product, accumulated in float32; float32 factors are not rounded to TF32."""
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
def _forward_kernel(
    query, key, value, order, start, output, lse,
    query_b, query_h, query_t, key_b, key_h, key_t, value_b, value_h, value_t, output_b, output_h, output_t,
    order_b, start_b, H, group, T, scaling,
    D: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Fill output and lse for one tile of queries: a softmax whose maximum and sum are kept as keys go by."""
    b, h = tl.program_id(0) // H, tl.program_id(0) % H
    own = tl.program_id(1) * TILE
    m = own + tl.arange(0, TILE)
    real = m < T
    order += b.to(tl.int64) * order_b
    start += b.to(tl.int64) * start_b
    tokens = tl.load(order + m, mask=real, other=0)
    starts = tl.load(start + m, mask=real, other=0)
    first = tl.load(start + own)
    queries = _head(query, b, h, query_b, query_h)
    keys = _head(key, b, h // group, key_b, key_h)
    if value is not None:
        values = _head(value, b, h // group, value_b, value_h)
    q = _load_rows(queries, query_t, tokens, real, D, WIDTH)

    top = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    weighted = tl.zeros([TILE, WIDTH], tl.float32)
    for back in range(0, own - first // TILE * TILE + TILE, TILE):
        n = own - back + tl.arange(0, TILE)
        reached = (first <= n) & (n < T)
        tokens_n = tl.load(order + n, mask=reached, other=0)
        k = _load_rows(keys, key_t, tokens_n, reached, D, WIDTH)
        visible = (starts[:, None] <= n[None, :]) & (n[None, :] <= m[:, None])
        s = tl.where(visible, _product(q, tl.trans(k)) * (scaling * BITS), float("-inf"))
        higher = tl.maximum(top, tl.max(s, 1))  # finite from the own tile on, where every place sees itself
        fade = tl.exp2(top - higher)
        weights = tl.exp2(s - higher[:, None])
        total = total * fade + tl.sum(weights, 1)
        if value is not None:
            v = _load_rows(values, value_t, tokens_n, reached, D, WIDTH)
            weighted = weighted * fade[:, None] + _product(weights.to(v.dtype), v)
        top = higher

    tl.store(_head(lse, b, h, H * T, T) + tokens, (top + tl.log2(total)) * NATS, mask=real)
    if value is not None:
        outputs = _head(output, b, h, output_b, output_h)
        _store_rows(outputs, output_t, tokens, real, weighted / total[:, None], D, WIDTH)


@triton.jit
def _query_kernel(
    grad_output, grad_lse, query, key, value, order, start, output, lse, pull, grad_query,
    grad_output_b, grad_output_h, grad_output_t, query_b, query_h, query_t, key_b, key_h, key_t,
    value_b, value_h, value_t, output_b, output_h, output_t, grad_query_b, grad_query_h, grad_query_t,
    order_b, start_b, H, group, T, scaling,
    D: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Fill grad_query for one tile of queries; where there are values also pull, which the keys' kernel reads."""
    b, h = tl.program_id(0) // H, tl.program_id(0) % H
    own = tl.program_id(1) * TILE
    m = own + tl.arange(0, TILE)
    real = m < T
    order += b.to(tl.int64) * order_b
    start += b.to(tl.int64) * start_b
    tokens = tl.load(order + m, mask=real, other=0)
    starts = tl.load(start + m, mask=real, other=0)
    first = tl.load(start + own)
    queries = _head(query, b, h, query_b, query_h)
    keys = _head(key, b, h // group, key_b, key_h)
    q = _load_rows(queries, query_t, tokens, real, D, WIDTH)
    lse_m = tl.load(_head(lse, b, h, H * T, T) + tokens, mask=real, other=0.0) * BITS
    pull_m = tl.zeros([TILE], tl.float32)
    if grad_lse is not None:
        pull_m += tl.load(_head(grad_lse, b, h, H * T, T) + tokens, mask=real, other=0.0)
    if value is not None:
        values = _head(value, b, h // group, value_b, value_h)
        outputs = _head(output, b, h, output_b, output_h)
        grad_outputs = _head(grad_output, b, h, grad_output_b, grad_output_h)
        o = _load_rows(outputs, output_t, tokens, real, D, WIDTH)
        grad_o = _load_rows(grad_outputs, grad_output_t, tokens, real, D, WIDTH)
        pull_m -= tl.sum(grad_o.to(tl.float32) * o.to(tl.float32), 1)
        tl.store(_head(pull, b, h, H * T, T) + tokens, pull_m, mask=real)

    grad_q = tl.zeros([TILE, WIDTH], tl.float32)
    for back in range(0, own - first // TILE * TILE + TILE, TILE):
        n = own - back + tl.arange(0, TILE)
        reached = (first <= n) & (n < T)
        tokens_n = tl.load(order + n, mask=reached, other=0)
        k = _load_rows(keys, key_t, tokens_n, reached, D, WIDTH)
        visible = (starts[:, None] <= n[None, :]) & (n[None, :] <= m[:, None])
        weights = tl.exp2(_product(q, tl.trans(k)) * (scaling * BITS) - lse_m[:, None])
        grad_weights = pull_m[:, None]
        if value is not None:
            v = _load_rows(values, value_t, tokens_n, reached, D, WIDTH)
            grad_weights += _product(grad_o, tl.trans(v))
        grad_s = tl.where(visible, weights * grad_weights, 0.0)
        grad_q += _product(grad_s.to(k.dtype), k)
    grad_queries = _head(grad_query, b, h, grad_query_b, grad_query_h)
    _store_rows(grad_queries, grad_query_t, tokens, real, grad_q * scaling, D, WIDTH)


@triton.jit
def _key_kernel(
    grad_output, query, key, value, order, end, lse, pull, grad_key, grad_value,
    grad_output_b, grad_output_h, grad_output_t, query_b, query_h, query_t, key_b, key_h, key_t,
    value_b, value_h, value_t, grad_key_b, grad_key_h, grad_key_t, grad_value_b, grad_value_h, grad_value_t,
    order_b, end_b, H, group, T, scaling,
    D: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Fill grad_key and grad_value for one tile of keys, summed over the query heads that share them."""
    b, h = tl.program_id(0) // (H // group), tl.program_id(0) % (H // group)
    own = tl.program_id(1) * TILE
    n = own + tl.arange(0, TILE)
    real = n < T
    order += b.to(tl.int64) * order_b
    end += b.to(tl.int64) * end_b
    tokens = tl.load(order + n, mask=real, other=0)
    ends = tl.load(end + n, mask=real, other=0)
    last = tl.load(end + tl.minimum(own + TILE, T) - 1)
    k = _load_rows(_head(key, b, h, key_b, key_h), key_t, tokens, real, D, WIDTH)
    if value is not None:
        v = _load_rows(_head(value, b, h, value_b, value_h), value_t, tokens, real, D, WIDTH)

    grad_k = tl.zeros([TILE, WIDTH], tl.float32)
    grad_v = tl.zeros([TILE, WIDTH], tl.float32)
    for member in range(group):
        query_head = h * group + member
        queries = _head(query, b, query_head, query_b, query_h)
        lses = _head(lse, b, query_head, H * T, T)
        pulls = _head(pull, b, query_head, H * T, T)
        if value is not None:
            grad_outputs = _head(grad_output, b, query_head, grad_output_b, grad_output_h)
        for tile in range(own, last, TILE):
            m = tile + tl.arange(0, TILE)
            reached = m < last
            tokens_m = tl.load(order + m, mask=reached, other=0)
            q = _load_rows(queries, query_t, tokens_m, reached, D, WIDTH)
            lse_m = tl.load(lses + tokens_m, mask=reached, other=0.0) * BITS
            pull_m = tl.load(pulls + tokens_m, mask=reached, other=0.0)
            visible = (n[:, None] <= m[None, :]) & (m[None, :] < ends[:, None])
            weights = tl.exp2(_product(k, tl.trans(q)) * (scaling * BITS) - lse_m[None, :])
            weights = tl.where(visible, weights, 0.0)
            grad_weights = pull_m[None, :]
            if value is not None:
                grad_o = _load_rows(grad_outputs, grad_output_t, tokens_m, reached, D, WIDTH)
                grad_v += _product(weights.to(grad_o.dtype), grad_o)
                grad_weights += _product(v, tl.trans(grad_o))
            grad_k += _product((weights * grad_weights).to(q.dtype), q)
    grad_keys = _head(grad_key, b, h, grad_key_b, grad_key_h)
    _store_rows(grad_keys, grad_key_t, tokens, real, grad_k * scaling, D, WIDTH)
    if value is not None:
        grad_values = _head(grad_value, b, h, grad_value_b, grad_value_h)
        _store_rows(grad_values, grad_value_t, tokens, real, grad_v, D, WIDTH)


def _tiling(query: Tensor, value: Tensor | None) -> dict[str, int]:
    """Return the constants of a launch: tile and warps by dtype, head width and whether there are values.

    They rest on the compiler's figures for sm_90 (Triton 3.6), not on a search at run time, which would slow the first
    steps down. At D = 64, 128 and 256 no kernel spills more than 14 registers. For the log-sum-exp of 5- to 50-token
    segments the instructions of a 32-row tile take about as long to issue as its rows take to arrive; a 64-row tile
    does four times the arithmetic for twice the rows. With values long segments count for more, and a 64-row tile reads
    keys half as often. Full-precision float32 products use no tensor cores: there, scores outside a segment are dear.
    """
    D = query.shape[-1]
    width = max(16, triton.next_power_of_2(D))
    if query.dtype == torch.float32:
        tile = 16
    else:
        tile = 64 if value is not None and width <= 128 else 32
    warps = 4 if value is not None else min(4, max(1, width * query.element_size() // 128))
    return {"D": D, "WIDTH": width, "TILE": tile, "num_warps": warps, "num_stages": 2}


def _grid(heads: int, T: int, tile: int) -> tuple[int, int]:
    """Return heads × tiles; heads vary fastest, because in most models those of one token lie side by side."""
    return heads, triton.cdiv(T, tile)


def _strides(*tensors: Tensor | None) -> list[int]:
    """Return of each tensor the strides of batch, head and token."""
    return [stride for tensor in tensors for stride in ((0, 0, 0) if tensor is None else tensor.stride()[:3])]


def _empty(like: Tensor) -> Tensor:
    """Return room for a result (B, H, T, D), laid out (B, T, H, D) as models do."""
    B, H, T, D = like.shape
    return like.new_empty(B, T, H, D).transpose(1, 2)


def segment_forward(
    query: Tensor, key: Tensor, value: Tensor | None, order: Tensor, start: Tensor, *, scaling: float
) -> tuple[Tensor | None, Tensor]:
    """Return attention's output inside segments, where values are given, and its log-sum-exp (method.md §2).

    Args:
        query: (B, H, T, D), D ≤ 256, in float32, bfloat16 or float16, on CUDA; any strides, the last one 1.
        key: (B, Hkv, T, D), H a multiple of Hkv: query head h reads key head h // (H // Hkv).
        value: like key, or None where the log-sum-exp alone is wanted.
        order: (B, T) int32, the token at each place.
        start: (B, T) int32, the first place of each place's segment.
        scaling: what q·k is multiplied by.

    Returns:
        The output (B, H, T, D) in the query's dtype, or None; and the log-sum-exp, (B, H, T) in float32, nats.
    """
    B, H, T, _ = query.shape
    output = None if value is None else _empty(query)
    lse = query.new_empty(B, H, T, dtype=torch.float32)
    tiling = _tiling(query, value)
    with torch.cuda.device_of(query):
        _forward_kernel[_grid(B * H, T, tiling["TILE"])](
            query, key, value, order, start, output, lse,
            *_strides(query, key, value, output), order.stride(0), start.stride(0),
            H, H // key.shape[1], T, scaling, **tiling,
        )  # fmt: skip
    return output, lse


def segment_backward(
    grad_output: Tensor | None,
    grad_lse: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    output: Tensor | None,
    lse: Tensor,
    order: Tensor,
    start: Tensor,
    end: Tensor,
    *,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of query, key and value, the same to the bit on every call.

    With A = exp(s − lse) inside the segment, dS_ij = A_ij · (grad_output_i·v_j − grad_output_i·output_i + grad_lse_i).

    Args: what `segment_forward` took and returned, and
        grad_output: (B, H, T, D), or None; then value and output are not read and need not be given.
        grad_lse: (B, H, T) in float32, or None; at least one of the two gradients is needed.
        end: (B, T) int32, one past the last place of each place's segment.

    Returns:
        Gradients in shape and dtype of what they belong to; value's is None where `grad_output` is.
    """
    if grad_output is None:
        value = output = None
    elif grad_output.stride(-1) != 1:  # a gradient may come expanded from a single number
        grad_output = grad_output.contiguous()
    if grad_lse is not None:
        grad_lse = grad_lse.contiguous()
    B, H, T, _ = query.shape
    key_heads = key.shape[1]
    pull = grad_lse if value is None else torch.empty_like(lse)  # what a row's dS_ij / A_ij has besides grad_output·v
    grad_query, grad_key = _empty(query), _empty(key)
    grad_value = None if value is None else _empty(value)
    tiling = _tiling(query, value)
    with torch.cuda.device_of(query):
        _query_kernel[_grid(B * H, T, tiling["TILE"])](
            grad_output, grad_lse, query, key, value, order, start, output, lse, pull, grad_query,
            *_strides(grad_output, query, key, value, output, grad_query), order.stride(0), start.stride(0),
            H, H // key_heads, T, scaling, **tiling,
        )  # fmt: skip
        _key_kernel[_grid(B * key_heads, T, tiling["TILE"])](
            grad_output, query, key, value, order, end, lse, pull, grad_key, grad_value,
            *_strides(grad_output, query, key, value, grad_key, grad_value), order.stride(0), end.stride(0),
            H, H // key_heads, T, scaling, **tiling,
        )  # fmt: skip
    return grad_query, grad_key, grad_value
