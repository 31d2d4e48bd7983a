"""What theory says, beside what is measured: capacity under a schedule, and what score margins guarantee."""

from progloc.theory.capacity import KEPT, MOST, Capacity, ExponentFit, capacity, fitted_exponent, largest_lambda
from progloc.theory.checking import MarginReport, check
from progloc.theory.guarantees import entropy_bound, guaranteed_entropy_bound, guaranteed_mass

__all__ = [
    "KEPT",
    "MOST",
    "Capacity",
    "ExponentFit",
    "MarginReport",
    "capacity",
    "check",
    "entropy_bound",
    "fitted_exponent",
    "guaranteed_entropy_bound",
    "guaranteed_mass",
    "largest_lambda",
]
