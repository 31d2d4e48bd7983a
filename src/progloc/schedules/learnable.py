"""λ(ℓ) by name that is learned while a model trains."""

from __future__ import annotations

__all__ = ["learned_under_budget"]

from progloc.errors import ProglocError
from progloc.schedules.base import Schedule, number, register_schedule, short


@register_schedule("learnable")
def learned_under_budget(argument: str, denominator: str) -> Schedule:
    """`learnable:MEAN` or `learnable:MEAN,monotone`: λ(ℓ) as training finds it, of that mean over layers."""
    expected = "learnable:MEAN or learnable:MEAN,monotone with MEAN, of λ over layers, between 0 and 1"
    first, comma, second = argument.partition(",")
    mean = number(f"learnable:{argument}", first, expected)
    if not 0 < mean < 1 or (comma and second != "monotone"):
        raise ProglocError(f"schedule 'learnable:{argument}'; expected {expected}")
    from progloc.schedules.budget import Budget  # torch is loaded with it, and other schedules need none

    budget = Budget(mean, monotone=bool(comma))

    def start(layers: int) -> list[float]:
        found: list[float] = budget.lambdas(budget.start(layers)).tolist()
        return found

    return Schedule(f"learnable:{short(mean)}{comma}{second}", start, budget=budget, settled=False)
