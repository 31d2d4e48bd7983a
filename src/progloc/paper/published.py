"""The paper's own Tables 1-4, as data, and where the paper contradicts itself (method.md §10).

*Progressive Localisation in Localist LLMs*, arXiv 2511.18375, version 1: GPT-2 124M on the paper's own corpus, a book
that is not distributed, one seed. The figures stand beside a suite's results; nothing is computed from them.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "arXiv 2511.18375v1, GPT-2 124M, its own corpus, one seed"


class Architecture(NamedTuple):
    """A row of Table 1."""

    perplexity: float
    entropy_bits: float
    fidelity: float
    final_penalty: float
    vs_baseline: float | None


class Optimisation(NamedTuple):
    """A row of Table 2: the previous training, and the optimised one."""

    alpha: float
    epochs: int
    perplexity: float
    improvement_percent: float | None


class Layer(NamedTuple):
    """A row of Table 3."""

    layer: int
    label: str
    lambda_quintic: float
    lambda_linear: float
    entropy_quintic: float
    entropy_linear: float


class Gradient(NamedTuple):
    """A row of Table 4; penalties in nats."""

    mean_penalty: float
    max_penalty: float
    gradient_norm: float


class Contradiction(NamedTuple):
    """A place where the paper disagrees with itself or with arithmetic."""

    place: str
    says: str
    but: str


# Table 1, "Performance-Interpretability Tradeoff Across Locality Architectures"
TABLE_1 = {
    "distributed": Architecture(7.76, 2.42, 0.144, 0.0000, None),
    "localist": Architecture(68.26, 0.64, 0.613, 0.9592, 8.80),
    "linear": Architecture(36.99, 1.04, 0.564, 0.3682, 4.77),
    "quadratic": Architecture(27.44, 1.25, 0.523, 0.2700, 3.54),
    "cubic": Architecture(20.66, 1.44, 0.480, 0.3454, 2.66),
    "quartic": Architecture(16.59, 1.60, 0.430, 0.4528, 2.14),
    "quintic": Architecture(14.64, 1.69, 0.393, 0.4556, 1.89),
}

# Table 2, "Impact of Experimental Optimizations (Progressive Cubic)"
TABLE_2 = (
    Optimisation(0.50, 5, 130.58, None),
    Optimisation(0.05, 20, 20.66, 84.2),
)

# Table 3, "Layer-Wise Attention Entropy (bits) — Quintic vs Linear Schedules"
TABLE_3 = (
    Layer(0, "input", 0.000, 0.000, 2.51, 2.48),
    Layer(3, "", 0.005, 0.273, 2.47, 1.82),
    Layer(6, "middle", 0.048, 0.545, 2.38, 1.24),
    Layer(9, "", 0.185, 0.818, 1.94, 0.89),
    Layer(11, "output", 1.000, 1.000, 0.87, 0.76),
)
TABLE_3_LAYERS = 12

# Table 4, "Mean Locality Penalty Magnitude During Training"
TABLE_4 = {
    "linear": Gradient(12.34, 24.91, 0.86),
    "quadratic": Gradient(10.87, 22.43, 0.81),
    "cubic": Gradient(9.56, 20.15, 0.77),
    "quartic": Gradient(8.93, 18.76, 0.74),
    "quintic": Gradient(8.45, 17.92, 0.72),
}

CONTRADICTIONS = (
    Contradiction("§2.2", "λ(ℓ) = (ℓ/L)^β with λ(L−1) ≈ 1", "its tables are (ℓ/(L−1))^β: 6/11 = 0.545"),
    Contradiction(
        "Table 3, §5.1",
        "quintic λ is 0.005 at layer 3 and 0.185 at layer 9, below 0.2 for layers 0–9",
        "(ℓ/(L−1))⁵ gives 0.0015 and 0.367",
    ),
    Contradiction("§2.2", "7% locality in the middle for quartic, 4% for quintic", "½⁴ = 6.25%, ½⁵ = 3.1%"),
    Contradiction("abstract", "84.2% improvement, said of quintic", "it is cubic's: 130.58 → 20.66"),
    Contradiction(
        "§3.4",
        "chance fidelity is 1/50, for sequences of 50 blocks",
        "128 tokens are 26 blocks of 5, and uniform causal attention has fidelity 0.110",
    ),
    Contradiction(
        "Table 4",
        "penalties up to 24.9 nats",
        "a weight clipped at 1e-6 cannot cost more than 13.8: these must be sums over layers",
    ),
    Contradiction("Table 4", "gradient norms stay below the threshold, 1.0", "so does every norm taken after clipping"),
    Contradiction("§4.2", "the gap narrows from 6.6×", "130.58 ÷ 7.76 = 16.8×"),
    Contradiction("§5.4.1", "the exponent of capacity is called α", "α is the penalty coefficient everywhere else"),
)
