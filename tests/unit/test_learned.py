"""λ(ℓ) that is learned: where it goes, that its mean stays, and that checkpoints hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from progloc import LocalityConfig, load, localize, measure
from progloc.schedules.budget import Budget
from progloc.training.learned import LearnedSchedule
from progloc.training.stages import Stages
from progloc.training.trainer import LocalistTrainer

BUDGET = Budget(0.3)


def after(gains: list[list[float]], *, start: list[float], budget: Budget = BUDGET) -> LearnedSchedule:
    """Return a schedule that has seen each of these falls of the penalties below ``start``, in nats."""
    learned = LearnedSchedule(budget, start, learning_rate=1.0)
    for gained in gains:
        for half in (0.25, 0.75):  # two micro-batches of a step
            learned.add(half * (torch.tensor(start) - torch.tensor(gained)))
        learned.step(lambda own: own)
    return learned


def test_lambda_goes_where_the_penalty_has_fallen_and_not_where_it_was_small() -> None:
    lambdas = after([[0.0, 0.5, 0.1]] * 40, start=[0.05, 3.0, 1.0]).lambdas
    assert lambdas[1] > 0.7 > 0.15 > lambdas[2] > lambdas[0]
    assert sum(lambdas) / 3 == pytest.approx(0.3, abs=1e-12)


def test_a_step_is_the_gradient_of_the_weighted_fall() -> None:
    falls = torch.tensor([0.0, 0.5, 0.1], dtype=torch.float64)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (Budget(0.3).lambdas(logits) @ -falls).backward()
    assert logits.grad is not None
    expected = Budget(0.3).lambdas(logits.detach() - logits.grad)
    assert after([falls.tolist()], start=[1.0, 1.0, 1.0]).lambdas == pytest.approx(expected.tolist(), abs=1e-6)


def test_equal_falls_leave_lambda_where_it_is_and_so_does_a_diverged_step() -> None:
    assert after([[0.2, 0.2]] * 5, start=[1.0, 2.0]).lambdas == pytest.approx((0.3, 0.3))
    assert after([[0.2, float("nan")]], start=[1.0, 2.0]).lambdas == pytest.approx((0.3, 0.3))


def test_a_monotone_schedule_stays_so_where_early_layers_gain_most() -> None:
    before, early = (after([[1.0, 0.2, 0.0]] * n, start=[2.0] * 3, budget=Budget(0.3, monotone=True)) for n in (0, 40))
    assert early.lambdas[0] < early.lambdas[1] < early.lambdas[2]
    assert early.lambdas[2] - early.lambdas[0] < 0.5 * (before.lambdas[2] - before.lambdas[0])  # levelling out


def test_it_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    falls = [[0.0, 0.5, 0.1]] * 3
    whole = after(falls + falls, start=[1.0, 2.0, 3.0])
    after(falls, start=[1.0, 2.0, 3.0]).save(tmp_path)
    resumed = LearnedSchedule(Budget(0.3), [9.0, 9.0, 9.0], learning_rate=1.0)
    resumed.load(tmp_path)
    for gained in falls:
        resumed.add(torch.tensor([1.0, 2.0, 3.0]) - torch.tensor(gained))
        resumed.step(lambda own: own)
    assert resumed.lambdas == pytest.approx(whole.lambdas, abs=1e-7)


@pytest.mark.slow
def test_training_learns_in_stage_two_logs_it_and_keeps_it_with_the_model(
    tiny_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(5)
    data = [{"input_ids": torch.randint(0, 101, (16,), generator=generator).tolist()} for _ in range(8)]
    model = localize(tiny_gpt2(), LocalityConfig(schedule="learnable:0.3", alpha=1.0, sink_aware=True))
    start = measure(model, data).paid_nats
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    stages = Stages(exploration=0.5, exploration_temperature=1.0)
    trainer = LocalistTrainer(model=model, args=args, train_dataset=data, stages=stages, lambda_learning_rate=2.0)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "ce" in entry]
    course = [tuple(step[f"lambda/layer_{layer}"] for layer in range(3)) for step in steps]
    assert course[:2] == [pytest.approx((0.3, 0.3, 0.3))] * 2
    penalties = [steps[2][f"penalty_nats/layer_{layer}"] for layer in range(3)]
    first = LearnedSchedule(Budget(0.3), start, learning_rate=2.0)
    first.add(torch.tensor(penalties))
    first.step(lambda own: own)
    assert course[2] == pytest.approx(first.lambdas, abs=1e-6)
    assert steps[3]["penalty_nats"] == pytest.approx(
        sum(weight * steps[3][f"penalty_nats/layer_{layer}"] for layer, weight in enumerate(course[2])), rel=1e-5
    )
    assert model.locality.lambdas == course[3] != course[2]
    model.save_pretrained(tmp_path / "model")
    assert load(tmp_path / "model").locality.lambdas == course[3]
    assert load(tmp_path / "model", LocalityConfig(schedule="linear")).locality.lambdas == (0.0, 0.5, 1.0)
