"""Segment attention from stock kernels: segments of like length become the rows of one batch.

A segment laid out alone needs no mask but the causal one, which every kernel knows. Segments are sorted into classes of
lengths that differ by about a factor of two at most, and each class is one call. What pads a shorter segment comes
after it, where causal attention does not look.
"""

from __future__ import annotations

__all__ = ["batched_backward", "batched_forward"]

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from progloc.attention.segments import Segments
from progloc.attention.stock import stock_backward, stock_forward

SPARE = 1 / 8
"""A class joins the next larger one where that makes a batch longer by no more than this: a call costs as well."""


class _Layout(NamedTuple):
    """Where B·T tokens go, segment by segment and class by class, P ≥ B·T with what pads segments."""

    tokens: Tensor
    """(P,), the token at each spot, counted through the batch; padding repeats a segment's last one."""
    spots: Tensor
    """(B·T,), the spot of each token."""
    padding: Tensor
    """The spots that are padding."""
    classes: tuple[tuple[int, int], ...]
    """Segments and their padded length, (N, W), of each class."""
    in_place: bool
    """Whether every token lies where it is, as whole sequences and blocks that divide them do."""

    def lay(self, x: Tensor) -> Tensor:
        """(B, H, T, …) → (P, H, …)."""
        flat = x.transpose(1, 2).flatten(0, 1)  # a view where a model laid its projections out by token
        return flat if self.in_place else flat.index_select(0, self.tokens)

    def split(self, laid: Tensor | None) -> Sequence[Tensor | None]:
        """(P, H, …) → one (N, H, W, …) a class, all views."""
        if laid is None:
            return [None] * len(self.classes)
        parts = laid.split([n * w for n, w in self.classes])
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(parts, self.classes, strict=True)]

    def collect(self, parts: Sequence[Tensor], batch: int) -> Tensor:
        """One (N, H, W, …) a class → (B, H, T, …)."""
        laid = [part.transpose(1, 2).flatten(0, 1) for part in parts]
        flat = laid[0] if len(laid) == 1 else torch.cat(laid)
        return (flat if self.in_place else flat.index_select(0, self.spots)).unflatten(0, (batch, -1)).transpose(1, 2)


@lru_cache(maxsize=8)
def _layout_of(order: bytes, start: bytes, end: bytes, shape: tuple[int, int]) -> _Layout:
    """The layout, by what the segments hold: every layer of a forward and backward pass asks for the same one."""
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
        if larger is not None and int(chosen.sum()) << larger <= token.numel() * SPARE:
            sizes[chosen] = larger
            continue
        step = torch.arange(int(lengths[chosen].max()))
        held = lengths[chosen, None]
        tokens.append(token[first[chosen, None] + step.minimum(held - 1)].flatten())
        real.append((step < held).flatten())
        classes.append((len(held), len(step)))
    laid, is_real = torch.cat(tokens), torch.cat(real)
    spots = torch.empty_like(token)
    spots[laid[is_real]] = is_real.nonzero()[:, 0]
    in_place = torch.equal(laid, torch.arange(token.numel()))
    return _Layout(laid, spots, (~is_real).nonzero()[:, 0], tuple(classes), in_place)


def _layout(segments: Segments) -> _Layout:
    parts = [part.cpu().contiguous() for part in segments]
    found = _layout_of(*(part.numpy().tobytes() for part in parts), (parts[0].shape[0], parts[0].shape[1]))
    return found._replace(**{name: getattr(found, name).to(segments.order.device) for name in found._fields[:3]})


def batched_forward(
    query: Tensor, key: Tensor, value: Tensor | None, segments: Segments, scaling: float
) -> tuple[Tensor | None, Tensor]:
    """Return the output (B, H, T, D), None without a value, and the log-sum-exp (B, H, T) of attention in segments.

    As `stock_forward` otherwise.
    """
    layout = _layout(segments)
    q, k = (layout.split(layout.lay(x)) for x in (query, key))
    v = k if value is None else layout.split(layout.lay(value))
    outputs, lses = zip(*(stock_forward(*rows, scaling) for rows in zip(q, k, v, strict=True)), strict=True)  # type: ignore[arg-type]
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
    layout = _layout(segments)
    laid = [None if x is None else layout.lay(x) for x in (grad_output, grad_lse, query, key, value, output, lse)]
    for at, gradient in enumerate(laid[:2]):
        if gradient is not None and len(layout.padding):  # it repeats a token, whose gradient is not to count again
            laid[at] = gradient.index_fill(0, layout.padding, 0)
    rows = zip(*(layout.split(x) for x in laid), strict=True)
    d_query, d_key, d_value = zip(*(stock_backward(*row, scaling) for row in rows), strict=True)  # type: ignore[call-arg]
    batch = len(query)
    found = None if d_value[0] is None else layout.collect(d_value, batch)
    return layout.collect(d_query, batch), layout.collect(d_key, batch), found
