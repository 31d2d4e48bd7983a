"""Probes, which trace a layer's attention for an audit, or cut it.

They need only the scores of the queries that write the answer, so nothing grows with the square of the text.
The text is one sequence without padding, in every row of a batch; its first token is the sink.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from progloc.attention.margins import margin
from progloc.attention.request import LayerAttention
from progloc.errors import ProglocError
from progloc.measures.guarantees import guaranteed_mass

NEVER = float("-inf")
CHUNK = 64
"""Queries at a time: a long text's scores are H × CHUNK × K."""


@dataclass(frozen=True)
class TracedAttention:
    """One layer's attention of n queries, by part of the text: sums over keys, none of them by subtraction."""

    mass: Tensor
    """(H, n, M): without the first token's own."""
    sink: Tensor
    """(H, n): the first token's mass."""
    value: Tensor
    """(H, n, M): Σ_j A_ij·‖v_j‖ over a part's keys, the first token among them."""
    inside: Tensor
    """(H, n): the mass in the query's own block, without the first token's."""
    guaranteed: Tensor
    """(H, n): the in-block share of what is not on the sink that the score margin alone guarantees."""


@dataclass
class Trace:
    """Leaves attention as it is, and records how the queries that write the answer distribute theirs over the text."""

    layers: Collection[int]
    division: Tensor
    """(K,): the part of the text that each token belongs to, 0 … M−1."""
    own: Tensor
    """(K,): the block of each token, for margins."""
    queries: int
    """n: the answer's tokens. They are the last of the text, and each is written by the token before it."""
    traced: dict[int, TracedAttention] = field(default_factory=dict)
    """By layer."""

    def __call__(self, layer: LayerAttention) -> None:
        """Record one layer's attention."""
        if not _is_probed(layer, self.layers):
            return
        query, key = layer.query, layer.key
        past, last = key.shape[2] - query.shape[2], key.shape[2] - 1
        parts = []
        for start in range(last - self.queries, last, CHUNK):
            end = min(start + CHUNK, last)
            rows = query[:, :, start - past : end - past]
            parts.append(self._trace(rows, key[:, :, :end], layer.value[0, :, :end], layer))
        self.traced[layer.index] = TracedAttention(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    def _trace(self, query: Tensor, key: Tensor, value: Tensor, layer: LayerAttention) -> tuple[Tensor, ...]:
        """Return the fields of a TracedAttention for the last c of K tokens.

        Args:
            query: (1, H, c, D).
            key: (1, H_kv, K, D).
            value: (H_kv, K, D).
            layer: their layer.
        """
        scores = _scores(query, key, layer)[0]  # (H, c, K)
        weights = scores.softmax(-1)
        blocks = int(self.division.max()) + 1
        own = self.own[: key.shape[2]]
        member = nn.functional.one_hot(self.division[: key.shape[2]], blocks).to(weights)  # (K, M)
        norms = value.to(weights).norm(dim=-1).repeat_interleave(len(weights) // len(value), 0)  # (H, K)
        seen, positions = _causal(query.shape[2], key)
        seen[:, 0] = False
        seen &= scores[0] > NEVER  # the same for all heads: keys that isolation, or a dial at its end, leaves out
        same = own[positions, None] == own  # (c, K)
        inside, outer = seen & same, seen & ~same
        return (
            weights[..., 1:] @ member[1:],
            weights[..., 0],
            (weights * norms[:, None]) @ member,
            (weights * inside).sum(-1),
            guaranteed_mass(margin(scores, inside, outer), inside.sum(-1), outer.sum(-1)),
        )


@dataclass(frozen=True)
class Knockout:
    """Cuts attention from every query to some of the keys, in some of the layers; other rows have other keys cut."""

    layers: Collection[int]
    cut: Tensor
    """(B, K') boolean: the keys cut in each row; those after the K'-th are not."""
    renormalise: Tensor
    """(B,) boolean: whether what is left is renormalised to sum to 1, as if the keys were not there."""

    def __call__(self, layer: LayerAttention) -> Tensor | None:
        """Return a layer's output (B, H, n, D) without the keys."""
        if not _is_probed(layer, self.layers):
            return None
        key, value = layer.key, layer.value
        scores = _scores(layer.query, key, layer)  # (B, H, n, K)
        cut = nn.functional.pad(self.cut, (0, key.shape[2] - self.cut.shape[1]))[:, None, None]
        renormalised = scores.masked_fill(cut, NEVER).softmax(-1)
        remaining = scores.softmax(-1).masked_fill(cut, 0.0)
        weights = torch.where(self.renormalise[:, None, None, None], renormalised, remaining).to(value.dtype)
        return (weights.unflatten(1, (value.shape[1], -1)) @ value[:, :, None]).flatten(1, 2)


def _is_probed(layer: LayerAttention, layers: Collection[int]) -> bool:
    """Return whether a layer is one of those probed; raise ProglocError for one that sees but a part of the text."""
    if layer.index not in layers:
        return False
    if layer.window or (layer.seen is not None and layer.seen.ndim == 4):
        within = f"a window of {layer.window} tokens" if layer.window else "a window of the model's own"
        raise ProglocError(
            f"layer {layer.index} attends within {within}, which an audit does not trace; expected layers that see the "
            "whole text, or a text that fits the window"
        )
    return True


def _causal(queries: int, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return which keys the last n queries see, (n, K) boolean, and the positions of these queries, (n,)."""
    positions = torch.arange(key.shape[2], device=key.device)
    return positions <= positions[-queries:, None], positions[-queries:]


def _scores(query: Tensor, key: Tensor, layer: LayerAttention) -> Tensor:
    """Return the scores that attention is the softmax of, (B, H, n, K) in at least float32, as the dial has them.

    Args:
        query: (B, H, n, D), of the last n tokens.
        key: (B, H_kv, K, D).
        layer: their layer.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    rows = query.to(wide).unflatten(1, (key.shape[1], -1))  # (B, H_kv, G, n, D)
    scores = (rows @ key.to(wide)[:, :, None].mT).flatten(1, 2) * layer.scale
    seen, positions = _causal(query.shape[2], key)
    is_first = torch.arange(key.shape[2], device=key.device) == 0
    return layer.lower(scores, positions, key.shape[2], is_first).masked_fill(~seen, NEVER)
