"""How numbers, intervals and p-values are written, in every table and sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from progloc.report.statistics import Estimate

ABSENT = "—"
"""Stands where there is no figure."""


def number(value: float | None, digits: int) -> str:
    """Write a number with `digits` decimals, very large ones in powers of ten; None and NaN as a dash."""
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}"
    # "-0.00" says nothing that "0.00" does not
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−", 1) if value < 0 else text


def counted(count: int, noun: str) -> str:
    """Write `1 seed`, `3 seeds`, `2 passes` or `1,024 tokens`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def layers_named(layers: Sequence[int]) -> str:
    """Write layers as `layer 5` or `layers 26, 27`."""
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))}"


def interval(estimate: Estimate, digits: int) -> str:
    """Write a mean and the half-width of its interval, `1.23 ± 0.04`."""
    if estimate.high is None:
        return number(estimate.mean, digits)
    return f"{number(estimate.mean, digits)} ± {number(estimate.high - estimate.mean, digits)}"


def span(estimate: Estimate, digits: int) -> str:
    """Write an interval, `[1.020, 1.061]`; nothing where there is none."""
    return "" if estimate.low is None else f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def ratio(estimate: Estimate, digits: int = 3) -> str:
    """Write a ratio and its interval, which is not symmetric: `1.040× [1.020, 1.061]`."""
    if math.isnan(estimate.mean):
        return ABSENT
    return f"{number(estimate.mean, digits)}× {span(estimate, digits)}".rstrip()


def percent(estimate: Estimate) -> str:
    """Write a ratio of perplexities as the improvement it is, `+84.2% [+80.1, +87.0]`."""
    if math.isnan(estimate.mean):
        return ABSENT

    def improvement(value: float) -> str:
        return f"{(1 - value) * 100:+.1f}".replace("-", "−")

    text = f"{improvement(estimate.mean)}%"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{improvement(estimate.high)}, {improvement(estimate.low)}]"


def p_value(p: float | None) -> str:
    """Write a p-value for a table's cell."""
    return ABSENT if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_text(p: float | None) -> str:
    """Write a p-value within a sentence."""
    return "no p" if p is None else f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"
