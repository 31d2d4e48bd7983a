"""λ(ℓ) and λ(ℓ, h): how local each layer, or each of its heads, has to be (method.md §5)."""

from progloc.lazy import exports
from progloc.schedules.shapes import (
    NAMED_POLYNOMIALS,
    NOT_LOCALISED,
    Matrix,
    Schedule,
    listed_values,
    parse_schedule,
    register_schedule,
)

__all__ = [
    "NAMED_POLYNOMIALS",
    "NOT_LOCALISED",
    "Matrix",
    "Schedule",
    "listed_values",
    "parse_schedule",
    "register_schedule",
]

__getattr__, __dir__ = exports(__name__, {"Budget": "budget"})  # torch is loaded with it
