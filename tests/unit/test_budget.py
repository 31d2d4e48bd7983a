"""α as the dual variable of a budget: what it does after evaluations, and in a training."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from progloc import LocalityConfig, ProglocError
from progloc.config import RunConfig, TrainingConfig
from progloc.results import RunResult
from progloc.training.callbacks import read_events
from progloc.training.inputs import Inputs, gather
from progloc.training.run import estimate_seconds, train_run
from progloc.training.stages import FidelityGoal, PerplexityBudget, Stages

BUDGET = PerplexityBudget(0.1, budget=0.01, reference=((10, 4.2), (20, 4.0), (30, 4.1)))
CONFIG = RunConfig(
    model="scratch:nano",
    sequence_length=32,
    max_sequences=40,
    locality=LocalityConfig(schedule="linear", alpha=0.5, sink_aware=True),
    training=TrainingConfig(epochs=4, batch_size=8, accumulation=1, learning_rate=1e-2, evaluations=8, budget=0.05),
)


def evaluation(step: int, loss: float, penalty: float = 1.0, fidelity: float = 0.5) -> dict[str, float]:
    return {"step": step, "loss": loss, "weighted_penalty_nats": penalty, "penalised_fidelity": fidelity}


def test_alpha_rises_while_there_is_room_and_falls_where_there_is_none() -> None:
    at_the_reference, spent, over = (evaluation(20, 4.0 + share * math.log(1.01)) for share in (0, 1, 3))
    assert BUDGET.alpha_after([]) == pytest.approx(0.1)
    assert BUDGET.alpha_after([at_the_reference]) == pytest.approx(0.1 * math.exp(0.5))
    assert BUDGET.alpha_after([spent]) == pytest.approx(0.1)
    assert BUDGET.alpha_after([over, over]) == pytest.approx(0.1 * math.exp(-1.0))  # no more than `gain` at a time


def test_a_price_that_runs_away_is_met_before_it_is_reached() -> None:
    rising = [evaluation(20, 4.0 + share * math.log(1.01)) for share in (0.2, 0.8)]
    assert BUDGET.alpha_after(rising) < BUDGET.alpha_after(rising[:1])


def test_the_reference_is_the_best_it_had_come_to_by_that_step() -> None:
    assert BUDGET.error(evaluation(15, 4.1 + math.log(1.01))) == pytest.approx(0.0)
    assert BUDGET.error(evaluation(30, 4.0 + math.log(1.01))) == pytest.approx(0.0)  # it had been 4.0 at step 20


def test_within_the_budget_the_most_local_is_kept_and_outside_the_cheapest() -> None:
    cheap, local = evaluation(20, 4.0, penalty=2.0), evaluation(30, 4.0 + math.log(1.009), penalty=1.0)
    over, far_over = evaluation(20, 4.1, penalty=0.1), evaluation(20, 4.2, penalty=0.0)
    assert sorted([far_over, cheap, over, local], key=BUDGET.rank) == [local, cheap, over, far_over]


def test_a_goal_of_fidelity_is_reached_at_the_least_perplexity() -> None:
    goal = FidelityGoal(0.1, fidelity=0.8)
    short, there = evaluation(10, 4.0, fidelity=0.7), evaluation(20, 4.5, fidelity=0.81)
    dear, far = evaluation(20, 5.0, fidelity=0.9), evaluation(10, 3.0, fidelity=0.1)
    assert goal.alpha_after([short]) > 0.1 > goal.alpha_after([dear])
    assert sorted([far, dear, short, there], key=goal.rank) == [there, dear, short, far]


def test_only_evaluations_of_stage_two_count() -> None:
    history = [{"step": 5, "loss": 1.0}, *({"step": n, "eval_loss": 4.0, "eval_objective": 4.0} for n in (5, 6))]
    state = TrainerState(max_steps=10, log_history=history)
    assert Stages(exploration=0.5).evaluations(state) == [{"step": 6, "loss": 4.0, "objective": 4.0}]


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return gather(CONFIG)


@pytest.fixture(scope="module")
def budgeted(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("budget") / "run"
    return folder, train_run(CONFIG, folder, inputs, name="linear")


@pytest.mark.slow
def test_the_price_is_to_the_training_without_a_penalty(budgeted: tuple[Path, RunResult]) -> None:
    folder, result = budgeted
    reference = json.loads((folder / "reference" / "result.json").read_text())
    assert not any(reference["lambdas"])
    assert [e["step"] for e in reference["epochs"]] == [e["step"] for e in result.epochs]
    price = result.final["perplexity"] / reference["final"]["perplexity"] - 1
    assert result.goal == {
        "goal": "budget", "asked": 0.05, "found": pytest.approx(price, rel=1e-5), "held": price <= 0.05,
    }  # fmt: skip


@pytest.mark.slow
def test_alpha_follows_the_evaluations(budgeted: tuple[Path, RunResult]) -> None:
    folder, result = budgeted
    course = tuple((e["step"], e["loss"]) for e in json.loads((folder / "reference/result.json").read_text())["epochs"])
    stage_two = [e for e in result.epochs if e["stage"] == 2]
    goal = PerplexityBudget(0.5, budget=0.05, reference=course)
    for step in read_events(folder / "events.jsonl", "step"):
        if step["stage"] == 2:
            before = [e for e in stage_two if e["step"] < step["step"]]
            assert step["alpha"] == pytest.approx(goal.alpha_after(before))
    best = min(stage_two, key=goal.rank)
    assert result.training["kept_step"] == best["step"]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_its_alpha(
    budgeted: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path
) -> None:
    _, whole = budgeted

    def interrupt(step: int, steps: int, logs: dict[str, Any]) -> None:
        if step == 12 and logs.get("penalty_nats"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path, inputs, name="linear", heard=interrupt)
    resumed = train_run(CONFIG, tmp_path, inputs, name="linear")
    assert resumed.final == whole.final
    assert [e["goal_rank"] for e in resumed.epochs] == [e["goal_rank"] for e in whole.epochs]


@pytest.mark.slow
def test_a_goal_of_fidelity_needs_no_reference(inputs: Inputs, tmp_path: Path) -> None:
    training = dataclasses.replace(CONFIG.training, budget=None, fidelity_goal=0.2)
    result = train_run(dataclasses.replace(CONFIG, training=training), tmp_path, inputs, name="linear")
    assert not (tmp_path / "reference").exists()
    kept = next(e for e in result.epochs if e["step"] == result.training["kept_step"])
    assert result.goal["found"] == kept["penalised_fidelity"]
    assert result.goal["held"] == (kept["penalised_fidelity"] >= 0.2)


def test_there_has_to_be_something_to_adapt(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="a number > 0 to start from"):
        dataclasses.replace(CONFIG, locality=LocalityConfig(alpha=0.0))
    without = dataclasses.replace(CONFIG, locality=LocalityConfig(schedule="distributed"))
    with pytest.raises(ProglocError, match="λ = 0 everywhere"):
        train_run(without, tmp_path / "run", inputs, name="distributed")
    assert not (tmp_path / "run").exists()


def test_the_estimate_counts_the_evaluations_and_the_reference(inputs: Inputs) -> None:
    once = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, evaluations=None, budget=None))
    often = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, budget=None))
    plain, more, both = (estimate_seconds(config, inputs, forward_seconds=1.0) for config in (once, often, CONFIG))
    assert more == pytest.approx(plain + 4)  # 8 evaluations of a second each, and not one for each of 4 epochs
    assert both == pytest.approx(2 * more)


def test_one_goal_at_a_time() -> None:
    with pytest.raises(ProglocError, match="one of the two"):
        TrainingConfig(budget=0.01, fidelity_goal=0.8)
