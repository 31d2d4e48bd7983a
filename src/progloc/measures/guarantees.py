"""What a score margin alone guarantees of a token's attention: in-block mass, and from it a bound on entropy.

A token sees n_in keys in its block and n_out outside it; γ is its margin (`attention.margins`). Without the sink the
same holds of attention renormalised over the other keys: n_in, n_out and γ are then those of the keys without it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def guaranteed_mass(margin: Tensor, n_in: Tensor, n_out: Tensor) -> Tensor:
    """Return the in-block mass that a margin guarantees, in [0, 1]: m ≥ 1 / (1 + n_out/n_in · e^{−γ}).

    With s the smallest score inside, Σ_in e^{s_j} ≥ n_in·e^s and Σ_out e^{s_j} ≤ n_out·e^{s−γ}, so that
    Σ_out/Σ_in ≤ n_out/n_in · e^{−γ}, and m = 1 / (1 + Σ_out/Σ_in). Equal where scores on each side are all alike.

    Args:
        margin: γ in nats, +inf allowed; any shape that the counts broadcast to.
        n_in: how many keys are seen inside, ≥ 1.
        n_out: how many are seen outside; 0 guarantees a mass of 1, whatever the margin.
    """
    return torch.sigmoid(margin + n_in.log() - n_out.log())


def entropy_bound(mass: Tensor, n_in: Tensor, n_out: Tensor) -> Tensor:
    """Return the most entropy that a row of this in-block mass has, in bits: h(m) + m log2 n_in + (1−m) log2 n_out.

    By the chain rule H is h(m), the entropy of inside or outside, plus m times the entropy inside and 1−m times that
    outside; over n keys an entropy is at most log2 n. Equal where attention is uniform on each side.

    Args:
        mass: m itself, in [0, 1], not a bound on it: below n_in / (n_in + n_out) the result rises with m.
        n_in: as in `guaranteed_mass`.
        n_out: likewise.
    """
    rest = 1.0 - mass
    which = torch.special.entr(mass) + torch.special.entr(rest)
    # with no key outside, a rest of a rounding's size adds nothing
    return (which + mass * n_in.log() + rest * n_out.clamp(min=1).log()) / math.log(2)


def guaranteed_entropy_bound(margin: Tensor, n_in: Tensor, n_out: Tensor) -> Tensor:
    """Return the most entropy that a row of this margin has, in bits.

    `entropy_bound` is concave in m with its top, log2(n_in + n_out), at m = n_in/(n_in + n_out), the mass that γ = 0
    guarantees. So for every m at or above the guarantee it is at most its value there if γ ≥ 0, and that top if γ < 0.

    Args: as in `guaranteed_mass`.
    """
    return entropy_bound(guaranteed_mass(margin.clamp(min=0.0), n_in, n_out), n_in, n_out)
