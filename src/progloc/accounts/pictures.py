"""From traced attention to pictures: how it is shared out, of every token of the answer and of the whole."""

from __future__ import annotations

__all__ = ["by_token", "margins", "of_answer"]

from collections.abc import Sequence

import numpy as np

from progloc.accounts.probes import TracedAttention
from progloc.accounts.schema import Picture, shares
from progloc.blocks import FloatArray


def by_token(traced: Sequence[TracedAttention]) -> tuple[Picture, FloatArray]:
    """Return every token's picture by layer and head, (n, layers, H, M), and its sink mass, (n, layers, H)."""
    mass, sink, value = (_stacked(traced, name) for name in ("mass", "sink", "value"))
    picture = np.stack([_with_sink(mass, sink), shares(mass), shares(value)])
    return Picture(np.moveaxis(picture, 3, 1)), np.moveaxis(sink, 2, 0)


def of_answer(traced: Sequence[TracedAttention]) -> Picture:
    """Return the answer's picture by layer and head, (layers, H, M): off the sink, ratios of sums (method.md §3)."""
    mass, sink, value = (_stacked(traced, name) for name in ("mass", "sink", "value"))
    return Picture(np.stack([_with_sink(mass, sink).mean(2), shares(mass.sum(2)), shares(value).mean(2)]))


def margins(traced: Sequence[TracedAttention]) -> tuple[list[float], list[float]]:
    """Return by layer the in-block mass without the sink that margins guarantee, and what there is of it.

    Both over the tokens that write the answer, weighted by what is not on the sink, per head, then the mean over heads.
    """
    mass, inside, guaranteed = (_stacked(traced, name) for name in ("mass", "inside", "guaranteed"))
    off_sink = mass.sum(-1)  # (layers, H, n)
    total = off_sink.sum(-1)
    safe = np.where(total > 0, total, 1.0)
    held = (guaranteed * off_sink).sum(-1) / safe
    return held.mean(-1).tolist(), (inside.sum(-1) / safe).mean(-1).tolist()


def _stacked(traced: Sequence[TracedAttention], name: str) -> FloatArray:
    """Return what every layer has by a name, (layers, H, n, …)."""
    return np.stack([getattr(each, name).double().cpu().numpy() for each in traced])


def _with_sink(mass: FloatArray, sink: FloatArray) -> FloatArray:
    """Return masses with the sink's added to its block, the first."""
    found = mass.copy()
    found[..., 0] += sink
    return found
