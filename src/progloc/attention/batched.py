"""Segment attention on a CPU: segments of like length become the rows of one batch.

A segment laid out alone needs no mask but the causal one, which every kernel knows. Segments are sorted into classes of
lengths that differ by about a factor of two at most, and each class is one call of a stock kernel, or of `tiles` where
they are short and their log-sum-exp alone is wanted. What pads a segment comes after it, where causal attention does
not look.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from progloc.attention.segments import Segments
from progloc.attention.stock import stock_backward, stock_forward
from progloc.attention.tiles import TILE, tile_backward, tile_forward

SPARE = 1 / 8
"""A class joins the next larger one where that makes a batch longer by no more than this: a call costs as well."""


class _Class(NamedTuple):
    """Segments of like length, padded to one width, in rows of one or, in tiles, of several side by side."""

    rows: int
    """N."""
    tokens: int
    """Of a row."""
    width: int
    """W."""
    tiled: bool
    """Whether `tiles` serves it, rather than a stock kernel."""


class _Layout(NamedTuple):
    """Where B·T tokens go, segment by segment and class by class, P ≥ B·T with what pads segments."""

    tokens: Tensor
    """(P,), the token at each spot, counted through the batch; padding repeats a segment's last one."""
    spots: Tensor
    """(B·T,), the spot of each token."""
    padding: Tensor
    """The spots that are padding."""
    classes: tuple[_Class, ...]
    in_place: bool
    """Whether every token lies where it is, as whole sequences and blocks that divide them do."""

    def lay(self, x: Tensor) -> Tensor:
        """(B, H, T, …) → (P, H, …)."""
        flat = x.transpose(1, 2).flatten(0, 1)  # a view where a model laid its projections out by token
        return flat if self.in_place else flat.index_select(0, self.tokens)

    def split(self, laid: Tensor | None) -> Sequence[Any]:
        """(P, H, …) → one (N, H, tokens of a row, …) a class, all views."""
        if laid is None:
            return [None] * len(self.classes)
        parts = laid.split([one.rows * one.tokens for one in self.classes])
        return [
            part.unflatten(0, (one.rows, one.tokens)).transpose(1, 2)
            for part, one in zip(parts, self.classes, strict=True)
        ]

    def collect(self, parts: Sequence[Tensor], batch: int) -> Tensor:
        """The reverse: → (B, H, T, …)."""
        laid = [part.transpose(1, 2).flatten(0, 1) for part in parts]
        flat = laid[0] if len(laid) == 1 else torch.cat(laid)
        return (flat if self.in_place else flat.index_select(0, self.spots)).unflatten(0, (batch, -1)).transpose(1, 2)


@lru_cache(maxsize=8)
def _layout_of(order: bytes, start: bytes, end: bytes, shape: tuple[int, int], tiled: bool) -> _Layout:
    """The layout, by what the segments hold: every layer of a forward and backward pass asks for the same one.

    With ``tiled``, short segments are laid in tiles.
    """
    by_place, begins, ends = (
        torch.frombuffer(bytearray(part), dtype=torch.int32).view(shape).long() for part in (order, start, end)
    )
    token = (by_place + torch.arange(shape[0])[:, None] * shape[1]).flatten()  # at each place of the batch
    first = (begins == torch.arange(shape[1])).flatten().nonzero()[:, 0]  # where segments begin
    lengths = (ends - begins).flatten()[first]
    sizes = torch.frexp((lengths - 1).double())[1]  # 1 | 2 | 3, 4 | 5 … 8 | …
    rising = sizes.unique().tolist()
    tokens, real, classes = [], [], []
    for size, larger in zip(rising, [*rising[1:], None], strict=True):
        chosen = sizes == size
        # so many segments, padded to the next power of two
        if larger is not None and int(chosen.sum()) << larger <= token.numel() * SPARE:
            sizes[chosen] = larger
            continue
        step = torch.arange(int(lengths[chosen].max()))
        held = lengths[chosen, None]
        in_tile = TILE // len(step) if tiled else 0
        side_by_side = max(1, in_tile)
        missing = -len(held) % side_by_side * len(step)  # what the last row lacks
        tokens.append(pad(token[first[chosen, None] + step.minimum(held - 1)].flatten(), (0, missing)))
        real.append(pad((step < held).flatten(), (0, missing)))
        rows = len(real[-1]) // (side_by_side * len(step))
        classes.append(_Class(rows, side_by_side * len(step), len(step), in_tile > 0))
    laid, is_real = torch.cat(tokens), torch.cat(real)
    spots = torch.empty_like(token)
    spots[laid[is_real]] = is_real.nonzero()[:, 0]
    in_place = torch.equal(laid, torch.arange(token.numel()))
    return _Layout(laid, spots, (~is_real).nonzero()[:, 0], tuple(classes), in_place)


def _layout(segments: Segments, tiled: bool) -> _Layout:
    order, start, end = (part.contiguous().numpy().tobytes() for part in segments)
    return _layout_of(order, start, end, (segments.order.shape[0], segments.order.shape[1]), tiled)


def batched_forward(
    query: Tensor, key: Tensor, value: Tensor | None, segments: Segments, scaling: float
) -> tuple[Tensor | None, Tensor]:
    """Return the output (B, H, T, D), None without a value, and the log-sum-exp (B, H, T) of attention in segments.

    As `stock_forward` otherwise.
    """
    layout = _layout(segments, tiled=value is None)
    q, k, v = (layout.split(layout.lay(x)) for x in (query, key, key if value is None else value))
    found = [
        (None, tile_forward(rows[0], rows[1], one.width, scaling)) if one.tiled else stock_forward(*rows, scaling)
        for one, rows in zip(layout.classes, zip(q, k, v, strict=True), strict=True)
    ]
    outputs, lses = zip(*found, strict=True)
    batch = len(query)
    return None if value is None else layout.collect(outputs, batch), layout.collect(lses, batch)


def batched_backward(
    grad_output: Tensor | None,
    grad_lse: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    output: Tensor | None,
    lse: Tensor,
    segments: Segments,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `stock_backward`, in segments."""
    layout = _layout(segments, tiled=value is None)
    laid = [None if x is None else layout.lay(x) for x in (grad_output, grad_lse, query, key, value, output, lse)]
    for at, gradient in enumerate(laid[:2]):
        if gradient is not None and len(layout.padding):  # it repeats a token, whose gradient is not to count again
            laid[at] = gradient.index_fill(0, layout.padding, 0)
    found = [
        (*tile_backward(rows[1], rows[2], rows[3], rows[6], one.width, scaling), None)
        if one.tiled
        else stock_backward(*rows, scaling)  # type: ignore[call-arg]
        for one, rows in zip(layout.classes, zip(*map(layout.split, laid), strict=True), strict=True)
    ]
    d_query, d_key, d_value = zip(*found, strict=True)
    batch = len(query)
    of_value = None if d_value[0] is None else layout.collect(d_value, batch)
    return layout.collect(d_query, batch), layout.collect(d_key, batch), of_value
