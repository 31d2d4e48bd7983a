"""The two stages of training (method.md §6): exploration with a weak penalty and warm attention, then localisation."""

from __future__ import annotations

__all__ = ["Stages"]

from dataclasses import dataclass

from progloc.config import TrainingConfig


@dataclass(frozen=True)
class Stages:
    """Where stage 1 ends, and what α and the attention temperature are in it; in stage 2 they are α and 1."""

    exploration: float = 0.25
    """The share of all optimiser steps that is stage 1; 0 leaves it out."""
    exploration_alpha: float = 0.1
    """What α is multiplied by in stage 1."""
    exploration_temperature: float = 1.5
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
