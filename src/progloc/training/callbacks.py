"""Callbacks of a training: its log of steps and evaluations, its checkpoints that are whole, and when it stops."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from progloc.files import JsonObject, write_text
from progloc.training.stages import Stages

MARKER = "complete"

Logs = dict[str, float]
"""What Trainer logs at a step or an evaluation."""


class CompleteMarker(TrainerCallback):
    """Marks a checkpoint once all of it is written; Trainer writes in place and marks nothing."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Mark the checkpoint just written."""
        write_text(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / MARKER, "")


def whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint in ``folder`` that was written whole and still is, or None."""
    marked = [path.parent for path in folder.glob(f"checkpoint-*/{MARKER}")]
    complete = [path for path in marked if (path / TRAINER_STATE_NAME).exists() and any(path.glob("*.safetensors"))]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def read_events(path: Path, kind: str) -> list[JsonObject]:
    """Return the events of one kind ("step", "evaluation") from an events.jsonl; a line cut short is left out."""
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and event.get("event") == kind:
            events.append(event)
    return events


def _layers(logs: Logs, name: str) -> list[float | None]:
    """Return a figure by layer; None for a layer without it (training measures no penalty where λ = 0)."""
    values = {int(key.rpartition("_")[2]): value for key, value in logs.items() if key.startswith(f"{name}/layer_")}
    return [values.get(layer) for layer in range(max(values, default=-1) + 1)]


class EventLog(TrainerCallback):
    """Appends one JSON line a step and an evaluation to events.jsonl.

    On resuming, what was logged after the checkpoint is dropped, so that every step stands there once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds = 0.0
        self._started = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep what happened up to the step resumed from."""
        events = [e for kind in ("step", "evaluation") for e in read_events(self.path, kind)]
        events = [event for event in events if event["step"] <= state.global_step]
        events.sort(key=lambda event: event["step"])  # of one step, the evaluation stays last
        write_text(self.path, "".join(json.dumps(event) + "\n" for event in events))
        self._seconds = events[-1]["seconds"] if events else 0.0
        self._started = time.monotonic()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Logs, **kwargs: object
    ) -> None:
        """Write a training step's or an evaluation's line."""
        event: JsonObject
        if "ce" in logs:
            event = {
                "event": "step",
                "step": state.global_step,
                "epoch": logs.get("epoch"),
                "stage": logs["stage"],
                "alpha": logs["alpha"],
                "ce": logs["ce"],
                "penalty": logs["penalty_nats"],
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "gradient_norm": logs["grad_norm"],
                "clipped": bool(logs["clipped_share"]),
                "penalty_by_layer": _layers(logs, "penalty_nats"),
                "gradient_norm_by_layer": _layers(logs, "grad_norm"),
            }
            if "lambda/layer_0" in logs:
                event["lambdas"] = _layers(logs, "lambda")
        elif "eval_perplexity" in logs:
            figures = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
            event = {
                "event": "evaluation",
                "step": state.global_step,
                "epoch": logs.get("epoch"),
                **{name: value for name, value in figures.items() if "/" not in name},
                "penalty_nats_by_layer": _layers(figures, "penalty_nats"),
            }
        else:
            return
        event["seconds"] = round(self._seconds + time.monotonic() - self._started, 3)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(event) + "\n")


class Listener(TrainerCallback):
    """Tells a function how far training is: ``heard(step, steps, what)`` after each step and evaluation."""

    def __init__(self, heard: Callable[[int, int, Logs], None]) -> None:
        self.heard = heard

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Logs, **kwargs: object
    ) -> None:
        """Pass the log line on."""
        self.heard(state.global_step, state.max_steps, logs)


class StageTwoEarlyStopping(TrainerCallback):
    """Stops after `patience` evaluations of stage 2 without a better one (method.md §6).

    It keeps no count of its own but reads the logged evaluations, so a resumed run stops where it would have.
    """

    def __init__(self, stages: Stages, patience: int) -> None:
        self.stages = stages
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Stop if it is time."""
        control.should_training_stop |= self.is_over(state, str(args.metric_for_best_model))

    def is_over(self, state: TrainerState, metric: str) -> bool:
        """Return whether a training in this ``state`` stops there."""
        metric = metric.removeprefix("eval_")
        values = [evaluation[metric] for evaluation in self.stages.evaluations(state, metric)]
        return bool(values) and len(values) - 1 - values.index(min(values)) >= self.patience
