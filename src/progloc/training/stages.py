"""How strong the penalty is in the course of a training: its two stages (method.md §6), and a goal that α adapts to.

The coefficient α is the dual variable of a constraint, and is adapted as one: after every evaluation of stage 2 it is
multiplied by more than 1 where the constraint leaves room, and by less where it is broken. It is a function of the
evaluations so far and of nothing else, so a resumed training continues with the α it had.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import TrainerState

from progloc.config import TrainingConfig

Evaluation = Mapping[str, float]
"""Figures of an evaluation by name, `step` among them."""


@dataclass(frozen=True)
class Stages:
    """Where stage 1 ends, and what α and the attention temperature are in it; in stage 2 they are α and 1."""

    exploration: float = TrainingConfig.exploration
    """The share of all optimiser steps that is stage 1; 0 leaves it out."""
    exploration_alpha: float = TrainingConfig.exploration_alpha
    """What α is multiplied by in stage 1."""
    exploration_temperature: float = TrainingConfig.exploration_temperature
    """What attention scores are divided by in stage 1; 1 turns it off."""

    @classmethod
    def of(cls, training: TrainingConfig) -> Stages:
        """Return the stages a TrainingConfig asks for."""
        return cls(training.exploration, training.exploration_alpha, training.exploration_temperature)

    def boundary(self, steps: int) -> int:
        """Return how many of ``steps`` optimiser steps are stage 1; at least one is always left for stage 2."""
        return min(round(self.exploration * steps), steps - 1)

    def stage(self, step: int, steps: int) -> int:
        """Return the stage, 1 or 2, of the optimiser step that follows ``step`` finished ones."""
        return 1 if step < self.boundary(steps) else 2

    def alpha(self, alpha: float, stage: int) -> float:
        """Return the coefficient in force."""
        return alpha * self.exploration_alpha if stage == 1 else alpha

    def temperature(self, stage: int) -> float:
        """Return what scores are divided by while training; evaluation is always at 1."""
        return self.exploration_temperature if stage == 1 else 1.0

    def evaluations(self, state: TrainerState, figure: str = "objective") -> list[Evaluation]:
        """Return the evaluations of stage 2 so far that have ``figure``; names are without `eval_`."""
        boundary = self.boundary(state.max_steps)
        return [
            {name.removeprefix("eval_"): value for name, value in entry.items()}
            for entry in state.log_history
            if f"eval_{figure}" in entry and entry["step"] > boundary
        ]


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
        log_alpha, previous = math.log(self.alpha), None
        for evaluation in evaluations:
            error = self.error(evaluation)
            ahead = error + self.foresight * (error - (error if previous is None else previous))
            log_alpha += self.gain * min(1.0, max(-1.0, ahead))
            previous = error
        return math.exp(log_alpha)


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
        """Return the share of the budget that is left, relative to the reference's best evaluation up to that step.

        The price is taken to the best checkpoint of the reference, so where that one overfits this one may not follow.
        """
        steps, losses = zip(*self.reference, strict=True)
        excess = evaluation["loss"] - float(np.interp(evaluation["step"], steps, np.minimum.accumulate(losses)))
        return 1.0 - excess / math.log1p(self.budget)

    def rank(self, evaluation: Evaluation) -> float:
        """Within the budget, the least penalty; outside, the least perplexity, and never before one within."""
        best = min(loss for _, loss in self.reference)  # which the reference keeps, and the price is relative to
        over = evaluation["loss"] - best - math.log1p(self.budget)
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
