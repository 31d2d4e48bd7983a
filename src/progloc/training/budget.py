"""A price named beforehand: α adapts until training costs just that much perplexity, or is just that local.

The coefficient α is the dual variable of a constraint, and is adapted as one: after every evaluation of stage 2 it is
multiplied by more than 1 where the constraint leaves room, and by less where it is broken. It is a function of the
evaluations so far and of nothing else, so a resumed training goes on with the α it had.
"""

from __future__ import annotations

__all__ = ["FidelityGoal", "Goal", "PerplexityBudget", "of_stage_two"]

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Evaluation = Mapping[str, float]
"""Figures of an evaluation by name, `step` among them."""


@dataclass(frozen=True)
class Goal(ABC):
    """What α adapts to.

    Attributes:
        alpha: α until the first evaluation of stage 2.
        gain: the most that one evaluation changes log α by.
        foresight: evaluations that the error is extrapolated by, for what α does shows only later.
    """

    alpha: float
    gain: float = 0.5
    foresight: float = 1.0

    @abstractmethod
    def error(self, evaluation: Evaluation) -> float:
        """Return by how much the goal is missed: 0 is the goal, 1 is far, above 0 asks for a larger α."""

    @abstractmethod
    def rank(self, evaluation: Evaluation) -> float:
        """Return what the kept checkpoint is smallest at: those that reach the goal come first."""

    def alpha_after(self, evaluations: Iterable[Evaluation]) -> float:
        """Return α after these evaluations of stage 2, in their order."""
        logarithm, before = math.log(self.alpha), None
        for evaluation in evaluations:
            error = self.error(evaluation)
            ahead = error + self.foresight * (error - (error if before is None else before))
            logarithm += self.gain * min(1.0, max(-1.0, ahead))
            before = error
        return math.exp(logarithm)


@dataclass(frozen=True)
class PerplexityBudget(Goal):
    """At most so much more perplexity than the same training without a penalty.

    Attributes:
        budget: as a share: 0.01 is +1%.
        reference: (step, cross-entropy) of every evaluation of the training without a penalty, in order.
    """

    budget: float = 0.01
    reference: Sequence[tuple[int, float]] = ()

    def error(self, evaluation: Evaluation) -> float:
        """Return the share of the budget that is left, beside the best that the reference had come to by that step.

        The price is taken to the best checkpoint of the reference, so where that one overfits this one may not follow.
        """
        steps, losses = zip(*self.reference, strict=True)
        course = np.minimum.accumulate(losses)
        excess = evaluation["loss"] - float(np.interp(evaluation["step"], steps, course))
        return 1.0 - excess / math.log1p(self.budget)

    def rank(self, evaluation: Evaluation) -> float:
        """Within the budget, the least penalty; outside, the least perplexity, and never before one within."""
        least = min(ce for _, ce in self.reference)  # which is what the reference keeps, and the price is taken to
        over = evaluation["loss"] - least - math.log1p(self.budget)
        return 1e6 * (1.0 + over) if over > 0 else evaluation["weighted_penalty_nats"]


@dataclass(frozen=True)
class FidelityGoal(Goal):
    """At least so much fidelity off the sink, F° weighted by λ over layers, at the least perplexity.

    Attributes:
        fidelity: in (0, 1).
    """

    fidelity: float = 0.8

    def error(self, evaluation: Evaluation) -> float:
        """Return what is missing, in tenths."""
        return 10.0 * (self.fidelity - evaluation["penalised_fidelity"])

    def rank(self, evaluation: Evaluation) -> float:
        """At the goal, the least perplexity; short of it, the nearest, and never before one at the goal."""
        missing = self.fidelity - evaluation["penalised_fidelity"]
        return 1e6 * (1.0 + missing) if missing > 0 else evaluation["loss"]


def of_stage_two(history: Iterable[Mapping[str, Any]], boundary: int) -> list[dict[str, float]]:
    """Return the evaluations of stage 2 from a Trainer's log history, their names without `eval_`."""
    return [
        {name.removeprefix("eval_"): value for name, value in entry.items()}
        for entry in history
        if "eval_objective" in entry and entry["step"] > boundary
    ]
