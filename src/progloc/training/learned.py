"""λ(ℓ) learned beside the weights, at a fixed mean (method.md §5).

A penalty alone would draw λ to the layers that are local already: least is lost there, and nothing gained. So a layer's
penalty counts from where it began. Weights θ and λ minimise

    CE(θ) + α · Σ_ℓ λ(ℓ) · (p^(ℓ)(θ) - p₀^(ℓ)),   mean λ held,

p₀ being that of the model before training. To the weights p₀ is a constant, and the loss is the usual one; to λ(ℓ) the
gradient is α · (p^(ℓ) - p₀^(ℓ)), so λ goes to the layers whose penalty has fallen most: it buys
the most locality there, for the cross-entropy that the weights give for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import Trainer

from progloc.files import read_mapping, write_json
from progloc.loading import read_locality
from progloc.measures.measuring import measure
from progloc.measures.passes import locality_of
from progloc.model import Locality
from progloc.schedules.budget import Budget

STATE_FILE = "schedule.json"
MEASURED_BEFORE = 64
"""Training sequences on which is measured where each layer's penalty begins."""


class LearnedSchedule:
    """The logits of a learned λ(ℓ), and gradient descent on them.

    α is left out of the gradient, so that the learning rate means the same at every α.

    Args:
        budget: what λ keeps to.
        start: p₀, each layer's penalty before training, (L,) nats.
        learning_rate: of the logits, for a gradient in nats.
    """

    def __init__(self, budget: Budget, start: Sequence[float], learning_rate: float) -> None:
        self._budget = budget
        self._start = torch.tensor(start, dtype=torch.float64)
        self._penalties = torch.zeros_like(self._start)
        self._logits = budget.start(len(start)).requires_grad_()
        self._optimiser = torch.optim.SGD([self._logits], lr=learning_rate)

    @property
    def lambdas(self) -> tuple[float, ...]:
        """λ(0) … λ(L-1), as learned so far."""
        return tuple(self._budget.lambdas(self._logits.detach()).tolist())

    def add(self, penalties: Tensor) -> None:
        """Add a micro-batch's share of this step's penalties, (L,) nats."""
        self._penalties += penalties.detach().cpu()

    def step(self, mean_over_processes: Callable[[Tensor], Tensor]) -> None:
        """Move λ by what was added since the last step; a step that is not finite moves nothing."""
        risen = mean_over_processes(self._penalties) - self._start
        self._penalties = torch.zeros_like(self._start)
        if risen.isfinite().all():
            self._optimiser.zero_grad()
            (self._budget.lambdas(self._logits) * risen).sum().backward()
            self._optimiser.step()

    def save(self, folder: Path) -> None:
        """Write what resuming needs into a checkpoint."""
        write_json(folder / STATE_FILE, {"logits": self._logits.tolist(), "start_nats": self._start.tolist()})

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint."""
        state = read_mapping(folder / STATE_FILE)
        with torch.no_grad():
            self._logits.copy_(torch.tensor(state["logits"], dtype=torch.float64))
        self._start = torch.tensor(state["start_nats"], dtype=torch.float64)


class ScheduleTrainer(Trainer):
    """What `LocalistTrainer` does for a λ(ℓ) that is learned: begin, move, and keep it with checkpoints."""

    learned: LearnedSchedule | None = None
    lambda_learning_rate: float
    _learned_for: Locality | None = None

    @property
    def locality(self) -> Locality:
        """The present model's (`model_init` and `localize` replace it); raises ProglocError where it has none."""
        locality: Locality = locality_of(self.model)
        return locality

    def begin_learning(self) -> None:
        """Measure p₀, once for each locality, where the schedule is learned."""
        locality = self.locality
        if self._learned_for is locality:
            return
        self._learned_for, self.learned = locality, None
        budget = locality.config.parsed_schedule.budget
        if budget is None or self.train_dataset is None:
            return
        first = list(islice(self.train_dataset, MEASURED_BEFORE))
        before = measure(self.model, first, batch_size=self.args.eval_batch_size, collator=self.data_collator)
        self.learned = LearnedSchedule(budget, before.paid_nats, self.lambda_learning_rate)
        locality.lambdas = self.learned.lambdas

    def learn(self) -> None:
        """Move λ by the penalties of the step under way."""
        if self.learned is not None:
            device = self.args.device  # processes exchange numbers there
            self.learned.step(lambda sums: self.accelerator.reduce(sums.to(device, torch.float32), "mean").cpu())
            self.locality.lambdas = self.learned.lambdas

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.learned is not None and self.args.should_save:
            self.learned.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.learned is not None and checkpoint is not None:
            self.learned.load(Path(checkpoint))
            self.locality.lambdas = self.learned.lambdas

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self.locality.restore(read_locality(str(self.state.best_model_checkpoint)))
