"""transformers' Trainer with the locality penalty in its loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerControl, TrainingArguments
from transformers.trainer_utils import TrainOutput
from transformers.utils import ModelOutput

from progloc.attention.masses import log_masses
from progloc.attention.request import AttentionRequest
from progloc.calls import REENTRANT
from progloc.config import TrainingConfig
from progloc.cross_entropy import IGNORED
from progloc.data import collate
from progloc.data.collate import Items
from progloc.dialling import dial
from progloc.errors import ProglocError
from progloc.fused_loss import FusedLoss
from progloc.isolating import SOURCES
from progloc.measures.measuring import measure
from progloc.objective import locality_penalty, penalty_by_head
from progloc.servable import attention_modules
from progloc.training.learned import ScheduleTrainer
from progloc.training.readers import apart, held_readers, with_readers
from progloc.training.stages import Goal, Stages
from progloc.training.truth import truth_gap

PLAIN_INPUTS = ("input_ids", "inputs_embeds", "attention_mask", "position_ids")
"""What a model is called with that is neither dialled nor isolated."""


class LocalistTrainer(ScheduleTrainer):
    """Fine-tunes a localised model on loss = CE + α(stage) · Σ_ℓ λ(ℓ) · p^(ℓ) (method.md §4, §6).

    It is a `transformers.Trainer`, with its arguments, callbacks, trackers and resuming. What differs:

    - the loss includes the penalty, normalised over an accumulated step as the cross-entropy is;
    - training runs in two stages (`stages`);
    - `evaluate` measures (`progloc.measure`) and reports `eval_loss` (CE), `eval_perplexity`, `eval_objective`
      (CE + α·Σλp at the full α) and every registered measure;
    - only evaluations of stage 2 can be the best one;
    - each log line also has `ce`, `penalty_nats` (Σλp), `alpha`, `stage`, `clipped_share`, and per layer
      `penalty_nats/layer_N` (unweighted; where λ > 0) and `grad_norm/layer_N`. Gradient norms are those before
      clipping;
    - λ(ℓ) of a `learnable` schedule is learned in stage 2 (`LearnedSchedule`), saved in checkpoints, and logged after
      each step as `lambda/layer_N`;
    - attention in layers with λ = 0 is the plain model's: their log masses are not computed.

    Args:
        stages: the two stages; the paper's by default. `Stages(exploration=0)` trains in one.
        goal: what α adapts to in stage 2; None leaves it as configured.
        fused_loss: compute the training loss without making logits (`FusedLoss`): the same to rounding, in less memory.
        dial: train, and evaluate, with the model dialled at this δ; "sampled": train at a δ drawn uniformly for every
            micro-batch, and evaluate undialled. The penalty is of attention as it was dialled.
        isolation: train, and evaluate, with a sequence's blocks kept apart as sources and what follows them reading
            ("sources", "sources:K"; see `progloc.isolate`). The reader starts at a block drawn for every batch, and the
            loss is of what it predicts. "sampled": train with K drawn for every micro-batch, and evaluate strictly.
        truth: α_t, the weight of 1 − Pearson's r of the reader's mean attention on each source and its exact effect, in
            a sequence of each micro-batch (`truth_gap`); staged and adapted as α is. It needs ``isolation="sources"``.
        distil: learn from the model as it is given, with dial and isolation off, instead of from the text: in place of
            the cross-entropy the loss has the Kullback-Leibler divergence of what is predicted from what that model,
            of which a copy is kept, predicts. It needs logits, so `fused_loss` has to be off.
        lambda_learning_rate: of the logits of a `learnable` schedule, see `LearnedSchedule`.
        **kwargs: everything else, as for Trainer; `model` must come from `localize` or `load`.

    Raises:
        ProglocError: the model has no locality, or its loss cannot be fused.
    """

    def __init__(
        self,
        *args: object,
        stages: Stages | None = None,
        goal: Goal | None = None,
        fused_loss: bool = False,
        dial: float | Literal["sampled"] | None = None,
        isolation: str | None = None,
        truth: float = 0.0,
        distil: bool = False,
        lambda_learning_rate: float = TrainingConfig.lambda_learning_rate,
        **kwargs: object,
    ) -> None:
        kwargs.setdefault("data_collator", collate)
        super().__init__(*args, **kwargs)
        has_own_loss = self.label_smoother is not None or getattr(self, "compute_loss_func", None) is not None
        if (self.args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ProglocError(REENTRANT)
        if distil and (fused_loss or has_own_loss):
            raise ProglocError("distil needs logits and is a loss of its own; leave fused_loss and other losses off")
        if fused_loss and has_own_loss:
            raise ProglocError("label smoothing and a loss function of one's own need logits; leave fused_loss off")
        self.fused_loss = fused_loss
        self._fused: FusedLoss | None = None
        self.stages = stages or Stages()
        self.goal = goal
        self.dial = dial
        self.isolation = isolation
        self.truth = truth
        if truth and isolation != SOURCES:
            raise ProglocError(f"truth={truth:g} with isolation={isolation!r}; expected isolation='{SOURCES}' with it")
        self.teacher: nn.Module | None = None
        if distil:
            self.teacher = copy.deepcopy(self.accelerator.unwrap_model(self.model)).eval().requires_grad_(False)
        self.lambda_learning_rate = lambda_learning_rate
        self._fusing()  # a model that cannot be fused is refused now
        self.begin_learning()
        self._real_tokens: Tensor | None = None
        self._begin_window()

    @property
    def stage(self) -> int:
        """The stage, 1 or 2, of the step under way."""
        return self.stages.stage(self.state.global_step, self.state.max_steps)

    def alpha(self, stage: int) -> float:
        """Return the coefficient in force in a stage, as far as evaluations have brought it."""
        alpha = self.locality.config.alpha
        if self.goal is not None:
            alpha = self.goal.alpha_after(self.stages.evaluations(self.state))
        return self.stages.alpha(alpha, stage)

    def truth_weight(self, stage: int) -> float:
        """Return α_t in force in a stage: the goal that scales α scales it alike."""
        if self.goal is None:
            return self.stages.alpha(self.truth, stage)
        return self.truth * self.alpha(stage) / self.goal.alpha

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        for name in ("block_ids", "source_ids"):  # they reach attention through **kwargs, so no signature names them
            if name not in self._signature_columns:
                self._signature_columns.append(name)

    def _inner_training_loop(self, *args: object, **kwargs: object) -> TrainOutput:
        """Train the present model: `model_init` may have made another since this trainer was."""
        self.begin_learning()
        self._begin_window()
        return super()._inner_training_loop(*args, **kwargs)

    # --- the loss ---

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """Return a step's micro-batches; the penalty is a mean over the real tokens in all of them, counted here."""
        if self.isolation is not None:
            # drawn by the step: Trainer takes a checkpoint's random state up only after a step's batches are there
            rng = np.random.default_rng([self.args.seed, self.state.global_step, self.args.process_index])
            epoch_iterator = (
                with_readers(batch, self.locality, torch.from_numpy(rng.random(len(batch["input_ids"]))))
                for batch in epoch_iterator
            )
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._real_tokens = None
        if items is not None:
            counts = [b["attention_mask"].sum() if "attention_mask" in b else b["input_ids"].numel() for b in samples]
            total = torch.as_tensor(sum(counts), device=device, dtype=torch.float32)
            if self.args.average_tokens_across_devices and self.args.world_size > 1:
                total = self.accelerator.gather(total).sum()
            self._real_tokens = total
        return samples, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, ModelOutput]:
        """Return CE + α·Σλp while training, and plain CE otherwise."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.begin_learning()
        stage, config, weights = self.stage, self.locality.config, self.locality.weights
        request = AttentionRequest(config.penalty.channels, self._penalised, self.stages.temperature(stage))
        options = {"output_attentions": True, "use_cache": False, "attention_request": request}
        unwrapped = self.accelerator.unwrap_model(self.model)
        with (
            self._distilling(inputs),
            self._fusing(),
            self._dialled(sampled=True),
            apart(unwrapped, self.isolation, sampled=True),
        ):
            ce, outputs = super().compute_loss(model, {**inputs, **options}, True, num_items_in_batch)

        by_head = penalty_by_head(
            log_masses(outputs), inputs.get("attention_mask"), penalty=config.penalty, tokens=self._real_tokens
        )
        if self._real_tokens is not None and self.args.average_tokens_across_devices:
            by_head = by_head * (self.accelerator.num_processes // self.get_tp_size())  # as Trainer scales the CE
        penalty = locality_penalty(by_head, weights, config.reduction)
        share = 1.0 if self._real_tokens is not None else 1.0 / self.current_gradient_accumulation_steps
        by_layer = by_head.mean(-1) * share
        self._note(ce=ce * share, penalty_nats=penalty * share, by_layer=by_layer)
        if self.learned is not None and stage == 2:  # a warmer stage 1 says nothing of how local attention will be
            self.learned.add(by_layer)

        weight = self.alpha(stage)
        # with nothing to weigh the loss is the CE itself, so λ=0 is ordinary fine-tuning to the bit
        loss = ce + weight * penalty if weight and weights.any() else ce
        if self.truth:
            gap = truth_gap(unwrapped, inputs)
            self._note(truth_gap=gap / self.current_gradient_accumulation_steps)
            # Trainer divides by the accumulated micro-batches only where nobody counted their tokens
            parts = 1 if self._real_tokens is None else self.current_gradient_accumulation_steps
            loss = loss + self.truth_weight(stage) * gap / parts
        return (loss, outputs) if return_outputs else loss

    @property
    def _penalised(self) -> tuple[int, ...]:
        """The layers with some λ > 0; training computes log masses in these only."""
        return tuple(layer for layer, strength in enumerate(self.locality.lambdas) if strength)

    @contextmanager
    def _distilling(self, inputs: dict[str, Tensor]) -> Iterator[None]:
        """Let the loss of a micro-batch be the divergence from the teacher, if there is one; an evaluation's is not."""
        if self.teacher is None:
            yield
            return
        with torch.no_grad():
            target = self.teacher(**{name: inputs[name] for name in PLAIN_INPUTS if name in inputs}, use_cache=False)
        self.compute_loss_func = partial(divergence, target.logits)
        try:
            yield
        finally:
            self.compute_loss_func = None  # type: ignore[assignment]

    def _fusing(self) -> AbstractContextManager[object]:
        """Return a context in which the present model's loss makes no logits, if `fused_loss` is set."""
        if not self.fused_loss:
            return nullcontext()
        if self._fused is None or self._fused.outer is not self.model:
            self._fused = FusedLoss(self.model)
        return self._fused

    def _dialled(self, *, sampled: bool) -> AbstractContextManager[object]:
        """Return the dial of a micro-batch (``sampled``), or of an evaluation."""
        delta = (float(torch.rand(())) if sampled else None) if self.dial == "sampled" else self.dial
        if delta is None or not any(self.locality.lambdas):  # a dial scales λ, so at λ = 0 there is nothing to dial
            return nullcontext()
        return dial(self.accelerator.unwrap_model(self.model), delta)

    # --- what is logged ---

    def _begin_window(self) -> None:
        self._window: dict[str, Tensor] = {}
        self._window_steps = 0

    def _note(self, **values: Tensor) -> None:
        for name, value in values.items():
            value = value.detach()
            self._window[name] = self._window[name] + value if name in self._window else value

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float:
        norm = super()._get_grad_norm(model, grad_norm)
        total, limit = torch.as_tensor(norm, dtype=torch.float32).cpu(), self.args.max_grad_norm
        # the gradients are clipped (and, in fp16, unscaled) by now; the one factor that clipping used gives them back
        scale = (limit / (total + 1e-6)).clamp(max=1.0) if limit > 0 else torch.ones(())
        layers = attention_layers(self.accelerator.unwrap_model(self.model))
        self._note(layer_norms=layer_gradient_norms(layers) / scale, clipped_share=(scale < 1.0).float())
        return norm

    def training_step(self, *args: object, **kwargs: object) -> Tensor:
        """Train on one micro-batch; the last of a step also moves a learned λ."""
        last = self.accelerator.sync_gradients
        self._window_steps += last
        loss = super().training_step(*args, **kwargs)
        if last and self.stage == 2:
            self.learn()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add this window's means, over steps and processes, to a training log line."""
        if "loss" in logs and self._window_steps:
            values = [value.to(self.args.device, torch.float32).reshape(-1) for value in self._window.values()]
            gathered = self.accelerator.gather(torch.cat(values)[None] / self._window_steps).mean(0).cpu()
            means = dict(zip(self._window, gathered.split([len(value) for value in values]), strict=True))
            by_layer, norms = means.pop("by_layer"), means.pop("layer_norms", torch.empty(0))
            stage = self.stages.stage(self.state.global_step - 1, self.state.max_steps)
            logs |= {name: float(value) for name, value in means.items()}
            logs |= {"stage": stage, "alpha": self.alpha(stage)}
            logs |= {f"penalty_nats/layer_{layer}": float(by_layer[layer]) for layer in self._penalised}
            logs |= {f"grad_norm/layer_{layer}": float(value) for layer, value in enumerate(norms)}
            if self.learned is not None:
                logs |= {f"lambda/layer_{layer}": value for layer, value in enumerate(self.learned.lambdas)}
            self._begin_window()
        super().log(logs, start_time)

    # --- evaluation and what is kept ---

    def evaluate(
        self,
        eval_dataset: Items | dict[str, Items] | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the model on a dataset (or each of a dictionary of them), log and return the figures.

        Where `compute_metrics` was given, Trainer's own evaluation loop runs as well and its metrics are added.

        Raises:
            ProglocError: there is no dataset, or the objective is no longer finite.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if isinstance(dataset, dict):
            return {
                name: value
                for key, part in dataset.items()
                for name, value in self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{key}").items()
            }
        if dataset is None:
            raise ProglocError("nothing to evaluate on; give the trainer an eval_dataset")
        model, locality = self.accelerator.unwrap_model(self.model), self.locality
        collator = self.data_collator
        if self.isolation is not None:
            collator = held_readers(collator, locality)
        with self._dialled(sampled=False), apart(model, self.isolation):
            report = measure(model, dataset, batch_size=self.args.eval_batch_size, collator=collator)
        if not math.isfinite(report.objective):
            raise ProglocError(
                f"training diverged: after step {self.state.global_step} the objective is {report.objective}; "
                "try a smaller learning rate or α"
            )
        metrics = {
            "loss": report.cross_entropy,
            "perplexity": report.perplexity,
            "objective": report.objective,
            "weighted_penalty_nats": report.weighted_penalty_nats,
            "penalised_fidelity": report.penalised_fidelity(locality.head_lambdas or locality.lambdas),
            **report.model,
            **{f"penalty_nats/layer_{n}": layer.penalty_nats for n, layer in enumerate(report.layers)},
        }
        if self.goal is not None:
            metrics["goal_rank"] = self.goal.rank({**metrics, "step": self.state.global_step})
        metrics = {f"{metric_key_prefix}_{name}": v for name, v in metrics.items() if not math.isnan(v)}
        if self.compute_metrics is not None:
            loader = self.get_eval_dataloader(dataset)
            output = self.evaluation_loop(loader, "Evaluation", None, ignore_keys, metric_key_prefix)
            metrics = {**(output.metrics or {}), **metrics}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        """As Trainer does, but an evaluation of stage 1 is never the best: its objective is not the one trained for."""
        if self.state.global_step <= self.stages.boundary(self.state.max_steps):
            return False
        return super()._determine_best_metric(metrics, trial)


def divergence(
    target: Tensor, outputs: ModelOutput, labels: Tensor, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """Return the mean Kullback-Leibler divergence of what is predicted, in nats a token, as Trainer takes a loss.

    Args:
        target: logits (B, T, V) of the model that is learned from.
        outputs: of the model that learns, with `logits`.
        labels: (B, T); where they are −100, nothing is predicted.
        num_items_in_batch: the divisor of the sum over tokens; those that are predicted by default.
    """
    predicted = labels[:, 1:] != IGNORED
    teacher, learner = (x[:, :-1][predicted].float().log_softmax(-1) for x in (target, outputs.logits))
    total = nn.functional.kl_div(learner, teacher, log_target=True, reduction="sum")
    return total / (predicted.sum() if num_items_in_batch is None else num_items_in_batch)


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """Return the decoder layer around each attention module, input to output."""
    parents = {child: module for module in model.modules() for child in module.children()}
    return [parents[attention] for attention in attention_modules(model)]


def layer_gradient_norms(layers: list[nn.Module]) -> Tensor:
    """Return the L2 norm of each layer's gradient, (L,); 0 for a layer without one."""
    norms = []
    for layer in layers:
        gradients = [p.grad for p in layer.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(()))
    return torch.stack([norm.float().cpu() for norm in norms])


def selection(training: TrainingConfig) -> str:
    """Return the name of the figure that the kept checkpoint is smallest at."""
    return "goal_rank" if training.adapts else training.select


def training_arguments(training: TrainingConfig, output_dir: str | Path, **overrides: object) -> TrainingArguments:
    """Return the TrainingArguments that a TrainingConfig stands for; ``overrides`` are given to it as they are.

    Evaluates and saves once an epoch (or `evaluations` times), keeps the best checkpoint of stage 2 by `select`, or by
    the goal that α adapts to, logs every step, and reports to no tracker (pass ``report_to`` for one).

    Raises:
        ProglocError: the precision is fp16 and there is no GPU.
    """
    on_gpu = torch.accelerator.is_available()
    if training.precision == "fp16" and not on_gpu:
        raise ProglocError("training.precision is fp16, which needs a GPU and none was found; expected bf16 or fp32")
    intervals: dict[str, object] = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    if training.evaluated is not None:
        share = min(1 / training.evaluated, math.nextafter(1, 0))  # of all steps; 1.0 would be one step
        intervals = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": share, "save_steps": share}
    settings: dict[str, object] = {
        "output_dir": str(output_dir),
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "learning_rate": training.learning_rate,
        "warmup_steps": training.warmup,  # below 1 Trainer takes it as a share
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": training.batch_size,
        "gradient_accumulation_steps": training.accumulation,
        "max_grad_norm": training.max_grad_norm,
        "bf16": training.precision == "bf16",
        "fp16": training.precision == "fp16",
        "use_cpu": not on_gpu,  # which Trainer would find out, but wants to be told before it takes bf16
        "seed": training.seed,
        "logging_steps": 1,
        **intervals,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": selection(training),
        "greater_is_better": False,
        "remove_unused_columns": False,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    return TrainingArguments(**{**settings, **overrides})
