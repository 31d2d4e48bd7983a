"""λ(ℓ) and λ(ℓ, h): how local each layer, or each of its heads, has to be (method.md §5)."""

from progloc.lazy import exports
from progloc.schedules.base import NOT_LOCALISED, Matrix, Schedule, listed_values, parse_schedule, register_schedule
from progloc.schedules.depth import NAMED_POLYNOMIALS
from progloc.schedules.heads import share_of_heads
from progloc.schedules.learnable import learned_under_budget

__all__ = [
    "NAMED_POLYNOMIALS",
    "NOT_LOCALISED",
    "Matrix",
    "Schedule",
    "learned_under_budget",
    "listed_values",
    "parse_schedule",
    "register_schedule",
    "share_of_heads",
]

__getattr__, __dir__ = exports(__name__, {"Budget": "budget"})  # torch is loaded with it
