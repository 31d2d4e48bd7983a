"""One training run, from its configuration to a finished folder that is never made twice."""

from __future__ import annotations

__all__ = ["estimate_seconds", "train_run", "without_penalty"]

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from progloc.config import RunConfig, TrainingConfig
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import require_space, write_json
from progloc.measures.measuring import measure
from progloc.model import Locality
from progloc.results import GoalOutcome, RunResult, TrainingSummary
from progloc.run_folder import (
    EVENTS_FILE,
    MODEL_FOLDER,
    REFERENCE_FOLDER,
    RUN_FILE,
    claimed,
    describe_run,
    finished,
)
from progloc.schedules import parse_schedule
from progloc.training.callbacks import (
    CompleteMarker,
    EventLog,
    Listener,
    StageTwoEarlyStopping,
    read_events,
    whole_checkpoint,
)
from progloc.training.inputs import Inputs, open_model
from progloc.training.stages import FidelityGoal, Goal, PerplexityBudget, Stages
from progloc.training.trainer import LocalistTrainer, selection, training_arguments

TRAINING_COST = 2.5
"""A training step against measuring the same tokens: a backward of two forwards more, but fewer channels."""

COURSE_POINTS = 200
"""Steps at which `result.json` has a learned λ(ℓ), at most; `events.jsonl` has every one."""


def estimate_seconds(config: RunConfig, inputs: Inputs, forward_seconds: float) -> float:
    """Return how long a run should take, from the seconds that measuring the validation sequences once took."""
    a_sequence = forward_seconds / len(inputs.validation)
    training = config.training
    trained, epochs = training.epochs * len(inputs.train), float(training.epochs)
    if training.max_steps is not None:
        trained = min(trained, training.max_steps * training.batch_size * training.accumulation)
        epochs = min(epochs, math.ceil(trained / len(inputs.train)))
    evaluations = epochs if training.evaluated is None else training.evaluated
    seconds = a_sequence * (TRAINING_COST * trained + (evaluations + 1) * len(inputs.validation))
    return seconds if training.budget is None else 2 * seconds  # the reference is trained as well


def _training_summary(
    steps: list[dict[str, Any]], evaluations: list[dict[str, Any]], kept: dict[str, Any], planned: int
) -> TrainingSummary:
    """Summarise the training.

    Penalties without λ are those of the evaluations, which look into every layer; training does not at λ = 0.
    """
    by_layer = [evaluation["penalty_nats_by_layer"] for evaluation in evaluations]
    unweighted = [sum(layers) for layers in by_layer]
    weighted = [step["penalty"] for step in steps]
    norms = [step["gradient_norm"] for step in steps]
    return {
        "steps": len(steps),
        "planned_steps": planned,
        "stopped_early": len(steps) < planned,
        "seconds": evaluations[-1]["seconds"],
        "kept_step": kept["step"],
        "kept_epoch": kept["epoch"],
        "mean_penalty_nats": fmean(weighted),
        "max_penalty_nats": max(weighted),
        "mean_penalty_nats_unweighted": fmean(unweighted),
        "max_penalty_nats_unweighted": max(unweighted),
        "penalty_nats_by_layer": [fmean(layer) for layer in zip(*by_layer, strict=True)],
        "gradient_norm_mean": fmean(norms),
        "gradient_norm_max": max(norms),
        "clipped_share": fmean(step["clipped"] for step in steps),
    }


def _save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def without_penalty(config: RunConfig) -> RunConfig:
    """Return the same training with λ = 0, evaluated as often."""
    locality = dataclasses.replace(config.locality, schedule="distributed")
    training = dataclasses.replace(config.training, evaluations=config.training.evaluated, budget=None)
    return dataclasses.replace(config, locality=locality, training=training)


def _goal(config: RunConfig, reference: RunResult | None) -> Goal | None:
    """Return what α adapts to, if to anything."""
    alpha, training = config.locality.alpha, config.training
    if training.fidelity_goal is not None:
        return FidelityGoal(alpha, fidelity=training.fidelity_goal)
    if training.budget is None or reference is None:
        return None
    course = tuple((e["step"], e["loss"]) for e in reference.epochs if e["stage"] == 2)
    return PerplexityBudget(alpha, budget=training.budget, reference=course)


def _outcome(training: TrainingConfig, kept: dict[str, Any], reference: RunResult | None) -> GoalOutcome | None:
    """Return what α adapted to, what the kept checkpoint came to, and whether that holds."""
    if training.fidelity_goal is not None:
        asked, found = training.fidelity_goal, kept["penalised_fidelity"]
        return {"goal": "fidelity", "asked": asked, "found": found, "held": found >= asked}
    if training.budget is not None and reference is not None:
        asked, found = training.budget, kept["perplexity"] / reference.measure("perplexity") - 1
        return {"goal": "budget", "asked": asked, "found": found, "held": found <= asked}
    return None


def _choose_heads(locality: Locality, before: Mapping[str, Any]) -> None:
    """Give λ to the heads that the untrained model has most local (F°), where the schedule leaves the choice open."""
    schedule = parse_schedule(locality.config.schedule, locality.config.denominator)
    if schedule.by_head is None:
        return

    def figure(value: float | None) -> float:
        return math.nan if value is None else value

    measured = [[figure(head["fidelity_no_sink"]) for head in layer["heads"]] for layer in before["layers"]]
    locality.lambdas, locality.head_lambdas = schedule.resolve(len(measured), len(measured[0]), measured)


def _course(steps: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return a learned λ(ℓ) at some of the steps, the last among them; nothing where λ was not learned."""
    learned = [{"step": step["step"], "lambdas": step["lambdas"]} for step in steps if "lambdas" in step]
    every = math.ceil(len(learned) / COURSE_POINTS)
    return tuple(learned[::-1][::every][::-1]) if learned else ()


def train_run(
    config: RunConfig,
    folder: Path,
    inputs: Inputs,
    *,
    name: str,
    role: str = "architecture",
    before: dict[str, Any] | None = None,
    reference: RunResult | None = None,
    heard: Callable[[int, int, dict[str, Any]], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    **arguments: Any,
) -> RunResult:
    """Train one model and return its result; a finished run is only read, an interrupted one goes on.

    Args:
        config: the run.
        folder: where `run.json`, `events.jsonl`, `model/` and, last of all, `result.json` go.
        inputs: from `gather`, for this config.
        name: what the run is called in tables.
        role: "architecture" (a row of Table 1), or "optimisation" (another cell of Table 2).
        before: the measures of the untrained model, where they are known already.
        reference: where `budget` is set, the result of the same training without a penalty, if there is one already;
            otherwise that is trained first, into the folder `reference` within this one.
        heard: told of each step and evaluation: ``heard(step, steps, logs)``.
        say: told, where ``before`` had to be measured, how long the rest should take.
        arguments: for `TrainingArguments`, such as ``report_to``.

    Raises:
        ProglocError: the folder holds another configuration's run, another process writes it, or the disk is too full.
    """
    description = {**describe_run(config, name, role), "data": inputs.summary()}
    with claimed(folder, RUN_FILE, description):
        if finished(folder):
            return RunResult.read(folder)
        return _train(config, folder, inputs, description, before, reference, heard, say, arguments)


def _train(
    config: RunConfig,
    folder: Path,
    inputs: Inputs,
    description: dict[str, Any],
    before: dict[str, Any] | None,
    reference: RunResult | None,
    heard: Callable[[int, int, dict[str, Any]], None] | None,
    say: Callable[[str], None],
    arguments: dict[str, Any],
) -> RunResult:
    """Do what `train_run` does, in a folder that is this run's alone and not finished."""
    model = open_model(inputs, config)
    if config.training.adapts and not any(model.locality.lambdas):
        raise ProglocError(
            f"a goal for α with the schedule '{config.locality.schedule}', which is λ = 0 everywhere; "
            "expected one with some λ > 0, such as quintic"
        )
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    require_space(folder, parameters * (3 * 3 + 1))  # three checkpoints of weights and two moments, and the model
    write_json(folder / RUN_FILE, description)
    if before is None:
        started = time.monotonic()
        before = measure(model, inputs.validation, batch_size=config.training.batch_size).to_dict()
        seconds = estimate_seconds(config, inputs, time.monotonic() - started)
        say(f"about {max(seconds / 60, 0.1):.1f} min of training and measuring, into {folder}")

    _choose_heads(model.locality, before)

    training, checkpoints = config.training, folder / "checkpoints"
    if training.budget is not None and reference is None:
        say("first the same training without a penalty, which the budget is relative to")
        reference = train_run(
            without_penalty(config), folder / REFERENCE_FOLDER, inputs, name="distributed", role="reference",
            before=before, heard=heard, say=say, **arguments,
        )  # fmt: skip
    goal = _goal(config, reference)
    stages = Stages.of(training)
    trainer = LocalistTrainer(
        model=model,
        args=training_arguments(training, checkpoints, disable_tqdm=True, log_level="error", **arguments),
        train_dataset=inputs.train,
        eval_dataset=inputs.validation,
        stages=stages,
        goal=goal,
        fused_loss=training.fused_loss,
        dial=training.dial,
        lambda_learning_rate=training.lambda_learning_rate,
        callbacks=[EventLog(folder / EVENTS_FILE), CompleteMarker()],
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    if heard is not None:
        trainer.add_callback(Listener(heard))
    # while α adapts, an evaluation that is no better says little about the next
    patience = None if training.adapts else training.patience
    stopping = None if patience is None else StageTwoEarlyStopping(stages, patience)
    if stopping is not None:
        trainer.add_callback(stopping)
    checkpoint = whole_checkpoint(checkpoints)
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)) if checkpoint else None
    if state is not None and stopping is not None and stopping.is_over(state, selection(training)):
        # it had stopped early, and was interrupted before its result was written: another step would be one too many
        trainer.state = state
        state.best_model_checkpoint = str(checkpoints / f"checkpoint-{state.best_global_step}")
        trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    steps = read_events(folder / EVENTS_FILE, "step")
    evaluations = read_events(folder / EVENTS_FILE, "evaluation")
    planned, kept_step = trainer.state.max_steps, trainer.state.best_global_step
    kept = next(evaluation for evaluation in evaluations if evaluation["step"] == kept_step)
    for evaluation in evaluations:
        evaluation["stage"] = 1 if evaluation["step"] <= stages.boundary(planned) else 2
    with trainer._dialled(sampled=False):
        final = measure(model, inputs.validation, batch_size=training.batch_size).to_dict()
        elsewhere = None
        if inputs.elsewhere is not None:
            elsewhere = measure(model, inputs.elsewhere, batch_size=training.batch_size).to_dict()
    _save_model(model, inputs.tokenizer, folder / MODEL_FOLDER)
    heads = model.locality.head_lambdas
    result = RunResult(
        name=description["name"],
        role=description["role"],
        config=description["config"],
        data=description["data"],
        seed=training.seed,
        beta=parse_schedule(config.locality.schedule, config.locality.denominator).beta,
        lambdas=tuple(model.locality.lambdas),
        head_lambdas=heads and tuple(map(tuple, heads)),
        lambdas_course=_course(steps),
        environment=describe_environment(),
        before=before,
        final=final,
        elsewhere=elsewhere,
        epochs=tuple(evaluations),
        training=_training_summary(steps, evaluations, kept, planned),
        goal=_outcome(training, kept, reference),
    )
    result.write(folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result
