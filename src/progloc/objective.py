"""The locality penalty, from log masses to one number (method.md §4).

loss = CE + α · Σ_ℓ λ(ℓ) · mean_{b,h,i} p_i^(ℓ),   p_i = -log m_i
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from progloc.attention.masses import CHANNELS


@dataclass(frozen=True)
class Penalty:
    """What a token pays for looking outside its block: the paper's p_i = -log m_i, or a refinement of it."""

    sink_aware: bool = False
    """p° = -log m°: the mass on the sink is not counted, so it stays where it is (method.md §4)."""
    fidelity_target: float | None = None
    """A mass of at least this costs nothing, a smaller one what it lacks: max(0, log target - log m)."""
    previous_block: bool = False
    """The block before a token's own counts as its own."""
    clip: float | None = None
    """Masses are clamped to at least this before the logarithm, which takes the gradient away below it."""

    @property
    def channel(self) -> str:
        """The log mass that it is computed from."""
        return f"log_mass{'_with_previous' if self.previous_block else ''}{'_no_sink' if self.sink_aware else ''}"

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels to request of a model beyond `CHANNELS`."""
        return () if self.channel in CHANNELS else (self.channel,)

    def __call__(self, log_mass: Tensor) -> Tensor:
        """Return each token's penalty, in nats ≥ 0, from the `channel` of its log masses (any shape).

        A document's first token, whose only choice is itself, pays nothing.
        """
        if self.clip is not None:
            log_mass = log_mass.clamp(min=math.log(self.clip))
        return -log_mass if self.fidelity_target is None else (math.log(self.fidelity_target) - log_mass).relu()


def penalty_by_head(
    masses: Sequence[Tensor],
    real: Tensor | None = None,
    *,
    penalty: Penalty | None = None,
    channels: Sequence[str] | None = None,
    tokens: Tensor | float | None = None,
) -> Tensor:
    """Return the mean penalty of every layer and head over real tokens, (L, H) nats.

    Args:
        masses: one (B, H, T, C) a layer, from `log_masses`.
        real: (B, T), 1 at real tokens and 0 at padding; None counts every token.
        penalty: what a token pays; the paper's by default.
        channels: those requested of the model; the penalty's own by default.
        tokens: the divisor of the sum over tokens; the number of real ones by default. A trainer that accumulates
            gives the number in the whole step, so that 8 × 1 and 1 × 8 make the same step.
    """
    penalty = penalty or Penalty()
    index = (*CHANNELS, *(penalty.channels if channels is None else channels)).index(penalty.channel)
    if real is None:
        real = masses[0].new_ones(masses[0].shape[0], masses[0].shape[2])
    counted = real.to(device=masses[0].device, dtype=torch.bool)[:, None, :]  # (B, 1, T)
    if tokens is None:
        tokens = counted.sum()
    sums = [penalty(layer[..., index]).masked_fill(~counted, 0.0).sum((0, 2)) for layer in masses]  # L × (H,)
    return torch.stack([layer.to(sums[0].device) for layer in sums]) / tokens


def locality_penalty(by_head: Tensor, lambdas: Tensor, reduction: str = "sum") -> Tensor:
    """Return Σ_ℓ λ(ℓ) · mean_h p^(ℓ,h), a scalar in nats; "mean" divides it by L.

    Args:
        by_head: (L, H), from `penalty_by_head`.
        lambdas: (L,), or (L, H) for a λ a head.
        reduction: "sum" (the paper's reading) or "mean" over layers.
    """
    if lambdas.ndim == 1:
        lambdas = lambdas[:, None]
    by_layer = (lambdas.to(by_head) * by_head).mean(-1)
    return by_layer.sum() if reduction == "sum" else by_layer.mean()
