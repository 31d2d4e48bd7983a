"""One training run, from its configuration to a finished folder that is never made twice."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from progloc.config import RunConfig, TrainingConfig
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import JsonObject, require_space, write_json
from progloc.isolating import SOURCES
from progloc.loading import load
from progloc.measures.report import Report
from progloc.model import Locality
from progloc.report.progress import print_note
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
from progloc.training.callbacks import (
    CompleteMarker,
    EventLog,
    Listener,
    Logs,
    StageTwoEarlyStopping,
    read_events,
    whole_checkpoint,
)
from progloc.training.inputs import Inputs, open_model
from progloc.training.readers import OFF, measure_apart
from progloc.training.stages import FidelityGoal, Goal, PerplexityBudget, Stages
from progloc.training.trainer import LocalistTrainer, training_arguments

TRAINING_COST = 2.5
"""A training step against measuring the same tokens: a backward of two forwards more, but fewer channels."""

COURSE_POINTS = 200
"""Steps at which `result.json` has a learned λ(ℓ), at most; `events.jsonl` has every one."""


def estimate_seconds(config: RunConfig, inputs: Inputs, forward_seconds: float) -> float:
    """Return how long a run should take, from the seconds that measuring the validation sequences once took."""
    seconds_per_sequence = forward_seconds / len(inputs.validation)
    training = config.training
    trained, epochs = training.epochs * len(inputs.train), float(training.epochs)
    if training.max_steps is not None:
        trained = min(trained, training.max_steps * training.batch_size * training.accumulation)
        epochs = min(epochs, math.ceil(trained / len(inputs.train)))
    evaluations = epochs if training.evaluated is None else training.evaluated
    seconds = seconds_per_sequence * (TRAINING_COST * trained + (evaluations + 1) * len(inputs.validation))
    return seconds if training.budget is None else 2 * seconds  # the reference is trained as well


def _training_summary(
    steps: list[JsonObject], evaluations: list[JsonObject], best: JsonObject, planned: int
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
        "kept_step": best["step"],
        "kept_epoch": best["epoch"],
        "mean_penalty_nats": fmean(weighted),
        "max_penalty_nats": max(weighted),
        "mean_penalty_nats_unweighted": fmean(unweighted),
        "max_penalty_nats_unweighted": max(unweighted),
        "penalty_nats_by_layer": [fmean(layer) for layer in zip(*by_layer, strict=True)],
        "gradient_norm_mean": fmean(norms),
        "gradient_norm_max": max(norms),
        "clipped_share": fmean(step["clipped"] for step in steps),
    }


def _save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def without_penalty(config: RunConfig) -> RunConfig:
    """Return the same training with λ = 0, evaluated as often."""
    locality = dataclasses.replace(config.locality, schedule="distributed")
    isolation = None if config.training.isolation is None else OFF
    training = dataclasses.replace(
        config.training, evaluations=config.training.evaluated, budget=None, isolation=isolation, truth=0.0
    )
    return dataclasses.replace(config, locality=locality, training=training)


def _goal(config: RunConfig, reference: RunResult | None) -> Goal | None:
    """Return what α adapts to, if to anything."""
    alpha, training = config.locality.alpha, config.training
    if training.fidelity_goal is not None:
        return FidelityGoal(alpha, fidelity=training.fidelity_goal)
    if training.budget is None or reference is None or not training.adapts:
        return None
    course = tuple((e["step"], e["loss"]) for e in reference.epochs if e["stage"] == 2)
    return PerplexityBudget(alpha, budget=training.budget, reference=course)


def _outcome(
    training: TrainingConfig, best: JsonObject, reference: RunResult | None, perplexity_apart: Callable[[int], float]
) -> GoalOutcome | None:
    """Return what α adapted to, what the best checkpoint came to, and whether that holds.

    Args:
        training: its settings.
        best: the evaluation of the kept checkpoint.
        reference: what a budget is relative to.
        perplexity_apart: gives the perplexity with sources kept apart in the first K layers.
    """
    if training.fidelity_goal is not None:
        goal, reached = training.fidelity_goal, best["penalised_fidelity"]
        return {"goal": "fidelity", "asked": goal, "found": reached, "held": reached >= goal}
    if training.budget is not None and reference is not None:
        goal, plain = training.budget, reference.measure("perplexity")
        if not training.adapts:
            for layers in range(len(reference.lambdas), -1, -1):
                price = perplexity_apart(layers) / plain - 1
                if price <= goal or not layers:
                    return {
                        "goal": "layers", "asked": goal, "found": price, "held": price <= goal, "layers": layers
                    }  # fmt: skip
        reached = best["perplexity"] / plain - 1
        return {"goal": "budget", "asked": goal, "found": reached, "held": reached <= goal}
    return None


def _choose_heads(locality: Locality, before: JsonObject) -> None:
    """Give λ to the heads that are most local (F°) in the untrained model, where the schedule leaves that open."""
    schedule = locality.config.parsed_schedule
    if schedule.by_head is not None:
        by_head = [[head["fidelity_no_sink"] for head in layer["heads"]] for layer in before["layers"]]
        fidelity = np.array(by_head, dtype=float)  # (L, H), with NaN for None
        locality.lambdas, locality.head_lambdas = schedule.resolve(len(fidelity), fidelity.shape[1], fidelity.tolist())


def _course(steps: Sequence[JsonObject]) -> tuple[JsonObject, ...]:
    """Return a learned λ(ℓ) at some of the steps, the last among them; nothing where λ was not learned."""
    learned = [{"step": step["step"], "lambdas": step["lambdas"]} for step in steps if "lambdas" in step]
    every = math.ceil(len(learned) / COURSE_POINTS)
    return tuple(learned[::-1][::every][::-1]) if learned else ()


def _final_measures(model: PreTrainedModel, config: RunConfig, inputs: Inputs) -> tuple[JsonObject, JsonObject | None]:
    """Return the entries `final` and `elsewhere` of a result."""
    final = measure_apart(model, inputs.validation, config.training).to_dict()
    if inputs.elsewhere is None:
        return final, None
    return final, measure_apart(model, inputs.elsewhere, config.training).to_dict()


def train_run(
    config: RunConfig,
    folder: Path,
    inputs: Inputs,
    *,
    name: str,
    role: str = "architecture",
    before: JsonObject | None = None,
    reference: RunResult | None = None,
    heard: Callable[[int, int, Logs], None] | None = None,
    console: Console | None = None,
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
        heard: called after each step and evaluation: ``heard(step, steps, logs)``.
        console: where notes are shown, such as how long it should take.
        arguments: for `TrainingArguments`, such as ``report_to``.

    Raises:
        ProglocError: the folder holds another configuration's run, another process writes it, or the disk is too full.
    """
    description = {**describe_run(config, name, role), "data": inputs.summary()}
    with claimed(folder, RUN_FILE, description):
        if finished(folder):
            return RunResult.read(folder)
        training, stages = config.training, Stages.of(config.training)
        model = open_model(inputs, config)
        if training.adapts and not (any(model.locality.lambdas) or training.truth):
            raise ProglocError(
                f"a goal for α with the schedule '{config.locality.schedule}', which is λ = 0 everywhere; "
                "expected one with some λ > 0, such as quintic, truth > 0, or isolation: sampled, whose layers it names"
            )
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        require_space(folder, weights * (3 * 3 + 1))  # three checkpoints of weights and two moments, and the model
        write_json(folder / RUN_FILE, description)
        if before is None:
            started = time.monotonic()
            before = measure_apart(model, inputs.validation, training).to_dict()
            seconds = estimate_seconds(config, inputs, time.monotonic() - started)
            print_note(console, f"about {max(seconds / 60, 0.1):.1f} min of training and measuring, into {folder}")

        _choose_heads(model.locality, before)
        if training.budget is not None and reference is None:
            print_note(console, "first the same training without a penalty, which the budget is relative to")
            reference = train_run(
                without_penalty(config), folder / REFERENCE_FOLDER, inputs, name="distributed", role="reference",
                before=before, heard=heard, console=console, **arguments,
            )  # fmt: skip
        # while α adapts, an evaluation that is no better says little about the next
        patience = None if training.adapts else training.patience
        stopping = None if patience is None else StageTwoEarlyStopping(stages, patience)
        callbacks = [EventLog(folder / EVENTS_FILE), CompleteMarker(), heard and Listener(heard), stopping]
        checkpoints = folder / "checkpoints"
        trainer = LocalistTrainer(
            model=model,
            args=training_arguments(training, checkpoints, disable_tqdm=True, log_level="error", **arguments),
            train_dataset=inputs.train,
            eval_dataset=inputs.validation,
            stages=stages,
            goal=_goal(config, reference),
            fused_loss=training.fused_loss,
            dial=training.dial,
            isolation=training.isolation,
            truth=training.truth,
            distil=training.distil,
            lambda_learning_rate=training.lambda_learning_rate,
            callbacks=[callback for callback in callbacks if callback is not None],
        )
        _train(trainer, checkpoints, stopping)

        steps, evaluations = (read_events(folder / EVENTS_FILE, kind) for kind in ("step", "evaluation"))
        planned, best_step = trainer.state.max_steps, trainer.state.best_global_step
        best = next(evaluation for evaluation in evaluations if evaluation["step"] == best_step)
        for evaluation in evaluations:
            evaluation["stage"] = 1 if evaluation["step"] <= stages.boundary(planned) else 2
        with trainer._dialled(sampled=False):
            final, elsewhere = _final_measures(model, config, inputs)

        def apart_in(isolation: str) -> Report:
            return measure_apart(model, inputs.validation, training, isolation=isolation)

        isolation_off = None if training.isolation is None else apart_in(OFF).to_dict()
        outcome = _outcome(training, best, reference, lambda layers: apart_in(f"{SOURCES}:{layers}").perplexity)
        _save_model(model, inputs.tokenizer, folder / MODEL_FOLDER)
        result = RunResult(
            name=name,
            role=role,
            config=description["config"],
            data=description["data"],
            seed=training.seed,
            beta=config.locality.parsed_schedule.beta,
            lambdas=model.locality.lambdas,
            head_lambdas=model.locality.head_lambdas,
            lambdas_course=_course(steps),
            environment=describe_environment(),
            before=before,
            final=final,
            elsewhere=elsewhere,
            epochs=tuple(evaluations),
            training=_training_summary(steps, evaluations, best, planned),
            isolation_off=isolation_off,
            goal=outcome,
        )
        result.write(folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return result


def _train(trainer: LocalistTrainer, checkpoints: Path, stopping: StageTwoEarlyStopping | None) -> None:
    """Train to the end, from the newest whole checkpoint where there is one."""
    trainer.remove_callback(PrinterCallback)
    checkpoint = whole_checkpoint(checkpoints)
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)) if checkpoint else None
    if state is not None and stopping is not None and stopping.is_over(state, trainer.args.metric_for_best_model):
        # it had stopped early, and was interrupted before its result was written: another step would be one too many
        trainer.state = state
        state.best_model_checkpoint = str(checkpoints / f"checkpoint-{state.best_global_step}")
        trainer._load_best_model()
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def remeasure_run(
    config: RunConfig, folder: Path, inputs: Inputs, *, name: str, role: str, before: JsonObject, trained: Path
) -> RunResult:
    """Measure the model of a finished run with λ = 0 on this config's blocks, and return that as a result of its own.

    The result is the other's with its own `name`, `config`, `before`, `final` and `elsewhere`; `measured_from` names
    the other. What the other measured while training was of its own blocks, and is null here.

    Args:
        config: that of the other run, but for `locality.blocks`.
        folder: where `run.json` and `result.json` go; there is no model of its own.
        inputs: from `gather`, for this config.
        name: what the run is called in tables.
        role: see `PlannedRun`.
        before: the measures of the untrained model on these blocks.
        trained: the other run's folder.

    Raises:
        ProglocError: the folder holds another configuration's run, another process writes it, or the other run is not
            finished or has some λ > 0.
    """
    description = {**describe_run(config, name, role), "data": inputs.summary()}
    with claimed(folder, RUN_FILE, description):
        if finished(folder):
            return RunResult.read(folder)
        if not finished(trained):
            raise ProglocError(f"{trained} is not finished; expected the λ=0 run to measure: run the suite again")
        source = RunResult.read(trained)
        if not source.is_distributed:
            raise ProglocError(
                f"{trained} was trained with a penalty; only a run with λ = 0 is the same on other blocks"
            )
        inputs.check_blocks(config)
        write_json(folder / RUN_FILE, description)
        started = time.monotonic()
        model = load(trained / MODEL_FOLDER, config.locality)
        final, elsewhere = _final_measures(model, config, inputs)
        training: TrainingSummary = {
            **source.training,
            "mean_penalty_nats_unweighted": None,
            "max_penalty_nats_unweighted": None,
            "penalty_nats_by_layer": None,
            "seconds": time.monotonic() - started,
        }
        of_epoch = ("epoch", "step", "stage", "perplexity")  # the figures that do not depend on blocks
        result = dataclasses.replace(
            source,
            name=name,
            role=role,
            config=description["config"],
            data=description["data"],
            environment=describe_environment(),
            before=before,
            final=final,
            elsewhere=elsewhere,
            epochs=tuple(
                {**{figure: epoch[figure] for figure in of_epoch}, "fidelity": None, "fidelity_no_sink": None}
                for epoch in source.epochs
            ),
            training=training,
            measured_from=trained.name,
        )
        result.write(folder)
        return result
