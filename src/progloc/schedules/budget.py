"""λ(ℓ) learned under a budget: L logits whose λ always have a given mean (method.md §5).

λ(ℓ) = σ(z_ℓ + c), with c such that the mean over layers is the budget's. c is a function of the logits z, so the
gradient accounts for what the other layers lose when one gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit, logit
from torch import Tensor
from torch.nn import functional

TOTAL_RISE = 1.0
"""By how much the last layer's logit exceeds the first's where a monotone schedule starts: it cannot start level."""


@dataclass(frozen=True)
class Budget:
    """The mean that a learned λ(ℓ) keeps, in (0, 1), and whether it may fall from a layer to the next."""

    mean: float
    monotone: bool = False

    def start(self, layers: int) -> Tensor:
        """Return initial logits, (L,) float64: λ = mean everywhere, or, if monotone, rising a little."""
        if not self.monotone:
            return torch.zeros(layers, dtype=torch.float64)
        rise = TOTAL_RISE / max(layers - 1, 1)
        return torch.full((layers,), math.log(math.expm1(rise)), dtype=torch.float64)  # softplus of it is the rise

    def lambdas(self, logits: Tensor) -> Tensor:
        """Return λ(ℓ), (L,) in [0, 1], from logits (L,); their mean is the budget's, whatever the logits."""
        z = functional.softplus(logits).cumsum(0) if self.monotone else logits
        shifted = z + _shift(z.detach().numpy(), self.mean)
        lambdas = shifted.sigmoid()
        slope = (lambdas * (1 - lambdas)).mean().detach().clamp(min=torch.finfo(lambdas.dtype).tiny)
        # how c follows z, by the implicit function theorem; c is already exact, so this is 0 with a gradient
        correction = (lambdas.mean() - lambdas.mean().detach()) / slope
        return (shifted - correction).sigmoid()


def _shift(z: np.ndarray, mean: float) -> float:
    """Return the c at which σ(z + c) has the mean."""
    target = float(logit(mean))
    bounds = target - z.max() - 1, target - z.min() + 1
    return float(brentq(lambda c: float(expit(z + c).mean()) - mean, *bounds, xtol=1e-14))
