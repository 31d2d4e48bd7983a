"""The locality penalty, from log masses to one number (SPEC §4).

loss = CE + α · Σ_ℓ λ(ℓ) · mean_{b,h,i} p_i^(ℓ),   p_i = -log m_i
"""

from __future__ import annotations

__all__ = ["locality_penalty", "penalty_by_head", "token_penalty"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def token_penalty(masses: Tensor, clip: float | None = None) -> Tensor:
    """Return p_i = -log m_i, (B, H, T) nats ≥ 0, of one layer's log masses (B, H, T, C).

    With ``clip`` the mass is clamped to at least that before the logarithm, which takes the gradient away below it.
    """
    log_mass = masses[..., 0]
    return -(log_mass if clip is None else log_mass.clamp(min=math.log(clip)))


def penalty_by_head(
    masses: Sequence[Tensor],
    real: Tensor | None = None,
    *,
    clip: float | None = None,
    tokens: Tensor | float | None = None,
) -> Tensor:
    """Return the mean penalty of every layer and head over real tokens, (L, H) nats.

    Args:
        masses: one (B, H, T, C) a layer, from `log_masses`.
        real: (B, T), 1 at real tokens and 0 at padding; None counts every token.
        clip: see `token_penalty`.
        tokens: what the sum over tokens is divided by; the number of real ones by default. A trainer that accumulates
            gives the number in the whole step, so that 8 × 1 and 1 × 8 make the same step.
    """
    if real is None:
        real = masses[0].new_ones(masses[0].shape[0], masses[0].shape[2])
    counted = real.to(device=masses[0].device, dtype=torch.bool)[:, None, :]  # (B, 1, T)
    if tokens is None:
        tokens = counted.sum()
    sums = [token_penalty(layer, clip).masked_fill(~counted, 0.0).sum((0, 2)) for layer in masses]  # L × (H,)
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
