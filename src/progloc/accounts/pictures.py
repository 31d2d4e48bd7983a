"""Pictures: how attention is shared out over the blocks of a prompt, in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from progloc.blocks import FloatArray
from progloc.files import JsonObject

if TYPE_CHECKING:
    from progloc.accounts.probes import TracedAttention

PICTURES = ("mass", "mass_no_sink", "value_mass")
"""Three ways to draw the same attention; `mass_no_sink` is shown first, and is the one that the verdict is about."""
DIGITS = 5


def shares(parts: FloatArray) -> FloatArray:
    """Return parts (…, M) as shares of their sum; equal shares where the sum is 0."""
    total = parts.sum(-1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1.0), 1.0 / parts.shape[-1])


Index = int | slice | None


@dataclass(frozen=True)
class Picture:
    """Attention's shares over the M blocks of a prompt, in three ways; each is (…, M), in [0, 1], and sums to 1."""

    with_answer: FloatArray
    """(3, …, M + 1): in the order of `PICTURES`, with the answer's own tokens last; sums to 1."""

    @property
    def mass(self) -> FloatArray:
        """m: the mass on each block; that on the first token counts to its block."""
        return shares(self.with_answer[0, ..., :-1])

    @property
    def mass_no_sink(self) -> FloatArray:
        """m°: each block's share of the mass that is not on the first token."""
        return shares(self.with_answer[1, ..., :-1])

    @property
    def value_mass(self) -> FloatArray:
        """Each block's share of attention weights times the norms of the values."""
        return shares(self.with_answer[2, ..., :-1])

    @property
    def answer_share(self) -> dict[str, FloatArray]:
        """By picture, the share of all attention on the answer's own tokens, (…), which the picture leaves out."""
        return dict(zip(PICTURES, self.with_answer[..., -1], strict=True))

    def __getitem__(self, where: Index | tuple[Index, ...]) -> Picture:
        return Picture(self.with_answer[:, *(where if isinstance(where, tuple) else (where,))])

    def mean(self, axis: int | tuple[int, ...]) -> Picture:
        """Return the mean over leading axes, of `with_answer`: a token counts by its attention on the prompt."""
        axes = (axis,) if isinstance(axis, int) else axis
        return Picture(self.with_answer.mean(tuple(axis + 1 for axis in axes)))

    def to_dict(self) -> JsonObject:
        """Return lists of numbers, by picture."""
        return {
            **{name: np.round(getattr(self, name), DIGITS).tolist() for name in PICTURES},
            "answer_share": {name: np.round(share, DIGITS).tolist() for name, share in self.answer_share.items()},
        }


def pictures(traced: Sequence[TracedAttention]) -> tuple[Picture, Picture, FloatArray]:
    """Return the pictures of some layers, by head.

    Returns:
        The picture of each of the answer's tokens, (n, layers, H, M); that of the whole answer, (layers, H, M), which
        off the sink is a ratio of sums over tokens (method.md §3); and each token's sink mass, (n, layers, H).
    """
    mass, sink, value = (_stack(traced, name) for name in ("mass", "sink", "value"))  # (layers, H, n, M), but for sink
    with_sink = mass.copy()
    with_sink[..., 0] += sink  # the first token is in block 0
    by_token = np.stack([with_sink, shares(mass), shares(value)])
    answer = np.stack([with_sink.mean(2), shares(mass.sum(2)), shares(value).mean(2)])
    return Picture(np.moveaxis(by_token, 3, 1)), Picture(answer), np.moveaxis(sink, 2, 0)


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
