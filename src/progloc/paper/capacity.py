"""The paper's information capacity of a layer under locality, I₀(1−λ)^a, and the exponent that measured entropy has.

The paper calls the exponent α, elsewhere the penalty's coefficient (method.md §10); here it is a, and 2 by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded when they are first used

from progloc.errors import ProglocError

EXPONENT = 2.0
"""The paper's a."""
KEPT, MOST = 0.95, 0.9
"""What claim C9 says of steep schedules: MOST of the layers keep more than KEPT of their capacity (method.md §11)."""


@dataclass(frozen=True)
class Capacity:
    """What a schedule leaves of the unconstrained capacity I₀ of every layer."""

    by_layer: tuple[float, ...]
    """(1−λ(ℓ))^a, L shares of I₀ in [0, 1], input to output."""

    @property
    def total(self) -> float:
        """I_total ÷ I₀, in [0, L]."""
        return sum(self.by_layer)

    @property
    def kept(self) -> int:
        """How many layers keep more than `KEPT` of I₀."""
        return sum(share > KEPT for share in self.by_layer)

    @property
    def most_kept(self) -> bool:
        """Whether at least `MOST` of the layers do: what claim C9 asks."""
        return self.kept / len(self.by_layer) >= MOST


def capacity(lambdas: Sequence[float], exponent: float = EXPONENT) -> Capacity:
    """Return the capacity that any schedule leaves (paper §5.4.1).

    Args:
        lambdas: λ(ℓ), L numbers in [0, 1].
        exponent: a > 0.

    Raises:
        ProglocError: no layers, a λ outside [0, 1], or an exponent that is not positive.
    """
    return Capacity(tuple((1.0 - value) ** _positive(exponent) for value in _checked(lambdas)))


def largest_lambda(share: float, exponent: float = EXPONENT) -> float:
    """Return the λ that leaves exactly this share, in [0, 1], of the capacity: 1 − share^(1/a)."""
    return float(1.0 - share ** (1.0 / _positive(exponent)))


@dataclass(frozen=True)
class ExponentFit:
    """The exponent of one run, or the reason why it has none."""

    exponent: float | None
    """a > 0."""
    residual: float | None
    """Root mean square of measured − fitted share over the layers that were fitted; a share is 1 without locality."""
    reason: str = ""
    """Why there is no exponent; empty where there is one."""


def fitted_exponent(lambdas: Sequence[float], entropy: Sequence[float], entropy_before: Sequence[float]) -> ExponentFit:
    """Return the a that fits H(ℓ) ÷ H_before(ℓ) ≈ (1−λ(ℓ))^a best, by least squares over layers.

    Only layers with λ strictly between 0 and 1 say anything: at the ends every a > 0 predicts the same. Entropies that
    do not fall have no exponent: the sum of squares does not go down as a leaves 0.

    Args:
        lambdas: λ(ℓ), L numbers in [0, 1].
        entropy: measured H°, L numbers, in bits or any other unit.
        entropy_before: likewise without locality: of the λ = 0 run of the same data, budget and seed.

    Raises:
        ProglocError: a λ outside [0, 1], or not one number a layer.
    """
    shares = np.asarray(_checked(lambdas))
    after, before = np.asarray(entropy, dtype=float), np.asarray(entropy_before, dtype=float)
    if not shares.shape == after.shape == before.shape:
        raise ProglocError(
            f"{len(shares)} values of λ, {len(after)} entropies, {len(before)} before; expected one a layer"
        )
    between = (shares > 0) & (shares < 1)
    if not between.any():
        return ExponentFit(None, None, "no layer has λ strictly between 0 and 1")
    left, after, before = 1.0 - shares[between], after[between], before[between]
    if not (np.isfinite(after).all() and np.isfinite(before).all() and (before > 0).all()):
        return ExponentFit(None, None, "an entropy is undefined, or 0 without locality")
    ratio = after / before
    if not (ratio > 0).any():
        return ExponentFit(None, None, "no entropy is left, which no finite exponent says")
    if ((1.0 - ratio) * -np.log(left)).sum() <= 0:  # the slope of the sum of squares at a = 0, without its sign
        return ExponentFit(None, None, "entropy does not fall with λ")

    def missed(exponent: np.ndarray) -> np.ndarray:
        return np.asarray(ratio - left**exponent)

    found = scipy.optimize.least_squares(missed, x0=EXPONENT, bounds=(0, np.inf))
    return ExponentFit(float(found.x[0]), float(np.sqrt(np.mean(found.fun**2))))


def _positive(exponent: float) -> float:
    if not exponent > 0:
        raise ProglocError(f"the capacity's exponent is {exponent:g}; expected a number above 0, such as 2")
    return exponent


def _checked(lambdas: Sequence[float]) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for value in lambdas)
    except (TypeError, ValueError) as error:
        raise ProglocError(f"λ is {lambdas!r}; expected a number in [0, 1] for each layer") from error
    if not values or not all(0 <= value <= 1 for value in values):
        raise ProglocError(f"λ is {list(values)}; expected at least one number, each in [0, 1]")
    return values
