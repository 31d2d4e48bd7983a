"""From traced attention to pictures: shares of it by block, of every token of the answer and of the whole."""

from __future__ import annotations

__all__ = ["by_token", "margins", "of_answer"]

from collections.abc import Sequence

import numpy as np

from progloc.auditing.probes import TracedAttention
from progloc.auditing.report import PICTURES, Picture
from progloc.auditing.text import AuditedText
from progloc.blocks import FloatArray


def by_token(traced: Sequence[TracedAttention]) -> tuple[Picture, FloatArray]:
    """Return every token's picture by layer and head, (n, layers, H, M), and its sink mass, (n, layers, H)."""
    mass, sink, value = (_stacked(traced, name) for name in ("mass", "sink", "value"))
    picture = Picture(_with_sink(mass, sink), _shares(mass), _shares(value))
    return Picture(*(np.moveaxis(getattr(picture, name), 2, 0) for name in PICTURES)), np.moveaxis(sink, 2, 0)


def of_answer(traced: Sequence[TracedAttention]) -> Picture:
    """Return the answer's picture by layer and head, (layers, H, M): without the sink, a ratio of sums (SPEC §3)."""
    mass, sink, value = (_stacked(traced, name) for name in ("mass", "sink", "value"))
    return Picture(_with_sink(mass, sink).mean(2), _shares(mass.sum(2)), _shares(value).mean(2))


def margins(traced: Sequence[TracedAttention], text: AuditedText) -> tuple[list[float], list[float]]:
    """Return by layer the in-block mass without the sink that margins guarantee, and what there is of it.

    Both over the tokens that write the answer, weighted by what is not on the sink, per head, then the mean over heads.
    """
    mass, guaranteed = (_stacked(traced, name) for name in ("mass", "guaranteed"))
    writers = text.division[text.answer_start - 1 : -1].numpy()  # (n,): the block of each token that writes one
    inside = np.take_along_axis(mass, np.broadcast_to(writers[:, None], (*mass.shape[:3], 1)), -1)[..., 0]
    off_sink = mass.sum(-1)  # (layers, H, n)
    total = off_sink.sum(-1)
    safe = np.where(total > 0, total, 1.0)
    held = (guaranteed * off_sink).sum(-1) / safe
    return held.mean(-1).tolist(), (inside.sum(-1) / safe).mean(-1).tolist()


def _stacked(traced: Sequence[TracedAttention], name: str) -> FloatArray:
    """Return what every layer has by a name, (layers, H, n, …)."""
    return np.stack([getattr(each, name).double().cpu().numpy() for each in traced])


def _shares(parts: FloatArray) -> FloatArray:
    """Return parts as shares of their sum over blocks; equal shares of nothing."""
    total = parts.sum(-1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1.0), 1.0 / parts.shape[-1])


def _with_sink(mass: FloatArray, sink: FloatArray) -> FloatArray:
    """Return masses with the sink's added to its block, the first."""
    found = mass.copy()
    found[..., 0] += sink
    return found
