"""From traced attention to pictures: its shares by block, for every token of the answer and for all of it."""

from __future__ import annotations

__all__ = ["answer_picture", "margin_masses", "token_pictures"]

from collections.abc import Sequence

import numpy as np

from progloc.accounts.probes import TracedAttention
from progloc.accounts.schema import Picture, shares
from progloc.blocks import FloatArray


def token_pictures(traced: Sequence[TracedAttention]) -> tuple[Picture, FloatArray]:
    """Return each token's picture by layer and head, (n, layers, H, M), and its sink mass, (n, layers, H)."""
    mass, sink, value = (_stack(traced, name) for name in ("mass", "sink", "value"))
    picture = np.stack([_with_sink(mass, sink), shares(mass), shares(value)])
    return Picture(np.moveaxis(picture, 3, 1)), np.moveaxis(sink, 2, 0)


def answer_picture(traced: Sequence[TracedAttention]) -> Picture:
    """Return the answer's picture by layer and head, (layers, H, M); off the sink, ratios of sums (method.md §3)."""
    mass, sink, value = (_stack(traced, name) for name in ("mass", "sink", "value"))
    return Picture(np.stack([_with_sink(mass, sink).mean(2), shares(mass.sum(2)), shares(value).mean(2)]))


def margin_masses(traced: Sequence[TracedAttention]) -> tuple[list[float], list[float]]:
    """Return by layer the in-block mass without the sink that score margins guarantee, and the mass measured.

    Both are averages over the tokens that write the answer, weighted by each token's attention off the sink, for every
    head; then the mean over heads.
    """
    mass, inside, guaranteed = (_stack(traced, name) for name in ("mass", "inside", "guaranteed"))
    off_sink = mass.sum(-1)  # (layers, H, n)
    total = off_sink.sum(-1)
    safe = np.where(total > 0, total, 1.0)
    by_margin = (guaranteed * off_sink).sum(-1) / safe
    return by_margin.mean(-1).tolist(), (inside.sum(-1) / safe).mean(-1).tolist()


def _stack(traced: Sequence[TracedAttention], name: str) -> FloatArray:
    """Return one field of every layer as an array, (layers, H, n, …)."""
    return np.stack([getattr(layer, name).double().cpu().numpy() for layer in traced])


def _with_sink(mass: FloatArray, sink: FloatArray) -> FloatArray:
    """Return the masses with the sink's added to block 0, in which the first token is."""
    total = mass.copy()
    total[..., 0] += sink
    return total
