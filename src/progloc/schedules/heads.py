"""λ(ℓ, h) by name: a share of every layer's heads has a schedule's λ(ℓ), the others none."""

from __future__ import annotations

__all__ = ["share_of_heads"]

import math
from collections.abc import Sequence

from progloc.errors import ProglocError
from progloc.schedules.base import Schedule, number, parse_schedule, register_schedule, short


def _count(fraction: float, heads: int) -> int:
    """Return how many of a layer's heads a fraction is: the nearest whole number, at least one of a fraction > 0."""
    return max(1, math.floor(fraction * heads + 0.5)) if fraction else 0


def _most_local(locality: Sequence[float] | None, heads: int) -> list[int]:
    """Return the heads of a layer, most local first; as they stand where nothing was measured (NaN: nothing was)."""
    if locality is None:
        return list(range(heads))
    return sorted(range(heads), key=lambda head: math.inf if math.isnan(locality[head]) else -locality[head])


@register_schedule("heads")
def share_of_heads(argument: str, denominator: str) -> Schedule:
    """`heads:FRACTION,SCHEDULE`: the most local ones where that was measured, else the first ones."""
    expected = "heads:FRACTION,SCHEDULE with FRACTION in [0, 1], as in heads:0.5,quintic"
    first, _, of_depth = argument.partition(",")
    fraction = number(f"heads:{argument}", first, expected)
    if not 0 <= fraction <= 1 or not of_depth:
        raise ProglocError(f"schedule 'heads:{argument}'; expected {expected}")
    inner = parse_schedule(of_depth, denominator)
    if inner.by_head is not None or inner.budget is not None:
        raise ProglocError(f"schedule 'heads:{argument}'; expected a schedule of layers alone after the comma")

    def by_head(layers: int, heads: int, locality: Sequence[Sequence[float]] | None) -> list[list[float]]:
        count, rows = _count(fraction, heads), []
        for layer, value in enumerate(inner(layers)):
            chosen = _most_local(None if locality is None else locality[layer], heads)[:count]
            rows.append([value if head in chosen else 0.0 for head in range(heads)])
        return rows

    return Schedule(
        f"heads:{short(fraction)},{inner.name}",
        lambda layers: [fraction * value for value in inner(layers)],
        by_head=by_head,
        settled=False,
    )
