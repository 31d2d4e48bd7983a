"""LocalistTrainer: the loss, the stages, what is logged and what is kept (method.md §4, §6)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from progloc import LocalityConfig, ProglocError, dial, localize, log_masses, measure
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest
from progloc.config import TrainingConfig
from progloc.data import collate
from progloc.objective import locality_penalty, penalty_by_head
from progloc.training.callbacks import CompleteMarker, StageTwoEarlyStopping, whole_checkpoint
from progloc.training.stages import Stages
from progloc.training.trainer import LocalistTrainer, training_arguments

T, L = 16, 3


def sequences(count: int = 16) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(5)
    return [{"input_ids": torch.randint(0, 101, (T,), generator=generator).tolist()} for _ in range(count)]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    settings = {
        "output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return TrainingArguments(**(settings | changes))


def trained(model: Any, folder: Path, stages: Stages | None = None, **changes: Any) -> LocalistTrainer:
    trainer = LocalistTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=sequences(),
        stages=stages or Stages(exploration=0),
    )
    trainer.train()
    return trainer


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize(
    ("underneath", "attention"), [("eager", REFERENCE), (REFERENCE, REFERENCE), ("sdpa", IMPLEMENTATION)]
)
def test_without_locality_it_is_plain_fine_tuning_to_the_bit(
    family: str, underneath: str, attention: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    start = request.getfixturevalue(family)()
    plain, local = copy.deepcopy(start), copy.deepcopy(start)
    plain.set_attn_implementation(underneath)
    theirs = Trainer(model=plain, args=arguments(tmp_path), train_dataset=sequences(), data_collator=collate)
    theirs.train()
    config = LocalityConfig(schedule="distributed")
    ours = trained(localize(local, config, attn_implementation=attention), tmp_path)
    assert equal(plain, local)
    assert not equal(plain, start)
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (ours, theirs)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_penalty_makes_a_difference_and_more_local(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    models = [localize(tiny_gpt2(), LocalityConfig(schedule=s, alpha=1.0)) for s in ("distributed", "localist")]
    for model in models:
        trained(model, tmp_path, max_steps=12)
    reports = [measure(model, sequences()) for model in models]
    assert reports[1].fidelity > reports[0].fidelity + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[T] * 8, [16, 9, 12, 5, 16, 7, 10, 3]], ids=["equal", "padded"])
def test_eight_by_one_is_one_by_eight(tiny_gpt2: Callable[..., Any], tmp_path: Path, lengths: list[int]) -> None:
    data = [{"input_ids": item["input_ids"][:n]} for item, n in zip(sequences(8), lengths, strict=True)]
    gradients, logged = [], []
    for batch, accumulation in ((8, 1), (1, 8), (2, 4)):
        model = localize(tiny_gpt2().double(), LocalityConfig(schedule="linear", alpha=0.7))
        args = arguments(
            tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=1,
            optim="sgd", max_grad_norm=1e9, learning_rate=1.0, lr_scheduler_type="constant",
        )  # fmt: skip
        before = [p.detach().clone() for p in model.parameters()]
        trainer = LocalistTrainer(model=model, args=args, train_dataset=data, stages=Stages(exploration=0))
        trainer.train()
        gradients.append([b - p.detach() for b, p in zip(before, model.parameters(), strict=True)])
        logged.append({key: value for key, value in trainer.state.log_history[0].items() if key != "epoch"})
    for other, log in zip(gradients[1:], logged[1:], strict=True):
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7)
        assert log == pytest.approx(logged[0], rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("refined", [{}, {"sink_aware": True}, {"sink_aware": True, "previous_block": True}], ids=str)
def test_the_step_logged_is_the_formula(tiny_gpt2: Callable[..., Any], tmp_path: Path, refined: dict[str, Any]) -> None:
    config = LocalityConfig(schedule="linear", alpha=0.3, **refined)
    # Trainer divides by predicted tokens where it knows the loss by this name, and by all of them where it does not
    model = localize(tiny_gpt2(), config)
    model.loss_type = "ForCausalLM"
    batch = collate(sequences(4))
    outputs = model(**batch, output_attentions=True, attention_request=AttentionRequest(config.penalty.channels))
    by_head = penalty_by_head(log_masses(outputs), penalty=config.penalty)
    penalty = locality_penalty(by_head, torch.tensor([0.0, 0.5, 1.0]))
    loss = outputs.loss + 0.3 * 0.1 * penalty
    loss.backward()
    norms = [sum(p.grad.pow(2).sum() for p in block.parameters()).sqrt().item() for block in model.transformer.h]
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
    model.zero_grad()

    stages = Stages(exploration=0.5, exploration_alpha=0.1, exploration_temperature=1.0)
    args = arguments(tmp_path, max_steps=2, max_grad_norm=whole / 2)
    trainer = LocalistTrainer(model=model, args=args, train_dataset=sequences(4), stages=stages)
    trainer.train()
    first, second = trainer.state.log_history[:2]
    assert first["ce"] == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert first["penalty_nats"] == pytest.approx(penalty.item(), rel=1e-5)
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(whole, rel=1e-5)
    assert first["clipped_share"] == 1.0
    assert "penalty_nats/layer_0" not in first  # λ = 0 there, so training does not look
    for layer in range(L):
        if layer:
            assert first[f"penalty_nats/layer_{layer}"] == pytest.approx(by_head[layer].mean().item(), rel=1e-5)
        assert first[f"grad_norm/layer_{layer}"] == pytest.approx(norms[layer], rel=1e-4)
    assert (first["stage"], second["stage"]) == (1, 2)
    assert (first["alpha"], second["alpha"]) == (pytest.approx(0.03), 0.3)


def test_lambda_by_head_is_trained_for_in_the_layers_that_have_some(
    tiny_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    matrix = ((0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.5, 1.0, 0.0))
    model = localize(tiny_gpt2(), LocalityConfig(schedule=matrix, alpha=0.3))
    outputs = model(**collate(sequences(4)), output_attentions=True)
    penalty = (torch.tensor(matrix) * penalty_by_head(log_masses(outputs))).mean(-1).sum()
    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path, max_steps=1), train_dataset=sequences(4), stages=Stages(exploration=0)
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["penalty_nats"] == pytest.approx(penalty.item(), rel=1e-5)
    assert [f"penalty_nats/layer_{layer}" in log for layer in range(L)] == [False, True, True]
    assert "lambda/layer_0" not in log  # it is not learned


def test_temperature_is_warm_in_stage_one_only(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2())
    seen: list[float] = []
    model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_request"].temperature), with_kwargs=True
    )
    stages = Stages(exploration=0.5, exploration_temperature=1.7)
    trained(model, tmp_path, stages, max_steps=4, eval_strategy="no")
    assert seen == [1.7, 1.7, 1.0, 1.0]


@pytest.mark.parametrize(("share", "steps", "boundary"), [(0.25, 20, 5), (0.25, 3, 1), (0.0, 9, 0), (0.9, 1, 0)])
def test_where_stage_two_begins(share: float, steps: int, boundary: int) -> None:
    stages = Stages(exploration=share)
    assert stages.boundary(steps) == boundary
    assert [stages.stage(step, steps) for step in range(steps)] == [1] * boundary + [2] * (steps - boundary)


def run_with_objectives(
    tiny_gpt2: Callable[..., Any],
    folder: Path,
    values: list[float],
    monkeypatch: pytest.MonkeyPatch,
    patience: int = 99,
) -> LocalistTrainer:
    planned = iter(values)
    evaluate = LocalistTrainer.evaluate

    def pretend(self: LocalistTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        log = self.log
        value = next(planned)
        monkeypatch.setattr(self, "log", lambda logs, *rest: log({**logs, "eval_objective": value}, *rest))
        found = evaluate(self, *args, **kwargs)
        monkeypatch.setattr(self, "log", log)
        return {**found, "eval_objective": value}

    monkeypatch.setattr(LocalistTrainer, "evaluate", pretend)
    training = TrainingConfig(epochs=len(values), batch_size=8, accumulation=1, exploration=0.5, learning_rate=1e-2)
    stages = Stages.of(training)
    trainer = LocalistTrainer(
        model=localize(tiny_gpt2()),
        args=training_arguments(training, folder, disable_tqdm=True, use_cpu=True),
        train_dataset=sequences(8),
        eval_dataset=sequences(2),
        stages=stages,
        callbacks=[StageTwoEarlyStopping(stages, patience)],
    )
    trainer.train()
    return trainer


@pytest.mark.slow
def test_the_best_of_stage_two_is_kept(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = run_with_objectives(tiny_gpt2, tmp_path, [1.0, 2.0, 9.0, 5.0, 7.0, 8.0], monkeypatch)
    assert trainer.state.best_global_step == 4  # the best is step 1's, but that is exploration
    kept = torch.load(tmp_path / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert kept["state"]
    from progloc import load

    assert equal(load(tmp_path / "checkpoint-4"), trainer.model)


@pytest.mark.slow
def test_early_stopping_never_ends_stage_one(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 6.0, 7.0, 1.0, 1.0]
    trainer = run_with_objectives(tiny_gpt2, tmp_path, values, monkeypatch, patience=2)
    assert trainer.state.global_step == 8  # stage 2 is steps 6…10: the best at 6, then two without a better one
    assert trainer.state.best_global_step == 6


@pytest.mark.slow
def test_a_resumed_training_is_the_uninterrupted_one(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    training = TrainingConfig(epochs=4, batch_size=4, accumulation=1, learning_rate=1e-2)

    class Stop(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step >= 8

    def trainer(folder: Path, *callbacks: TrainerCallback) -> LocalistTrainer:
        return LocalistTrainer(
            model=localize(tiny_gpt2(), LocalityConfig(alpha=0.5)),
            args=training_arguments(training, folder, disable_tqdm=True, use_cpu=True),
            train_dataset=sequences(),
            eval_dataset=sequences(3),
            stages=Stages.of(training),
            callbacks=[CompleteMarker(), *callbacks],
        )

    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "cut", Stop()).train()
    half_written = tmp_path / "cut" / "checkpoint-99"
    half_written.mkdir()
    checkpoint = whole_checkpoint(tmp_path / "cut")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-8"
    resumed = trainer(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert equal(resumed.model, whole.model)
    assert resumed.state.best_global_step == whole.state.best_global_step


def test_evaluation_reports_perplexity_without_the_penalty(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(alpha=5.0))
    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path), eval_dataset={"a": sequences(3), "b": sequences(4)}
    )
    metrics = trainer.evaluate()
    report = measure(model, sequences(4))
    assert metrics["eval_b_perplexity"] == pytest.approx(report.perplexity)
    assert metrics["eval_b_objective"] == pytest.approx(report.cross_entropy + 5.0 * report.weighted_penalty_nats)
    assert metrics["eval_a_loss"] != metrics["eval_b_loss"]


def test_what_cannot_be_trained_is_refused(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="localize"):
        LocalistTrainer(model=tiny_gpt2(), args=arguments(tmp_path), train_dataset=sequences())
    reentrant = arguments(tmp_path, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ProglocError, match="use_reentrant"):
        LocalistTrainer(model=localize(tiny_gpt2()), args=reentrant, train_dataset=sequences())


def test_metrics_of_ones_own_are_added_and_logged_once(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
            seen.append(metrics)

    model = localize(tiny_gpt2())
    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path), eval_dataset={"a": sequences(3)}, callbacks=[Watch()],
        compute_metrics=lambda predictions: {"shape": float(predictions.predictions.shape[0])},
    )  # fmt: skip
    metrics = trainer.evaluate("a")
    assert metrics["eval_shape"] == 3.0
    assert metrics["eval_loss"] == pytest.approx(measure(model, sequences(3)).cross_entropy)
    assert len(seen) == 1


def test_a_diverged_training_says_so(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2())
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    trainer = LocalistTrainer(model=model, args=arguments(tmp_path), eval_dataset=sequences(2))
    with pytest.raises(ProglocError, match="training diverged: after step 0"):
        trainer.evaluate()


def test_gradient_norms_are_logged_without_clipping_too(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    trainer = trained(localize(tiny_gpt2()), tmp_path, max_steps=1, max_grad_norm=0.0)
    log = trainer.state.log_history[0]
    assert log["clipped_share"] == 0.0
    assert log["grad_norm"] > log["grad_norm/layer_0"] > 0


@pytest.mark.slow
def test_the_fused_loss_trains_the_same_without_logits(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    logs = []
    for fused in (False, True):
        trainer = LocalistTrainer(
            model=localize(tiny_gpt2(), LocalityConfig(schedule="linear", alpha=0.5)),
            args=arguments(tmp_path, gradient_accumulation_steps=2, max_steps=3),
            train_dataset=[{"input_ids": item["input_ids"][: 5 + n]} for n, item in enumerate(sequences())],
            fused_loss=fused,
        )
        trainer.train()
        logs.append(trainer.state.log_history[:3])
        outputs = trainer.compute_loss(trainer.model.train(), collate(sequences(2)), return_outputs=True)[1]
        assert outputs.logits.shape == (2, T, 0 if fused else 101)
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_fused_loss_that_logits_are_needed_beside_is_refused(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    smoothed = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ProglocError, match="leave fused_loss off"):
        LocalistTrainer(model=localize(tiny_gpt2()), args=smoothed, train_dataset=sequences(), fused_loss=True)


@pytest.mark.slow
def test_bf16_trains_nearly_the_same_and_keeps_float32_weights(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    logs = []
    for precision in ("fp32", "bf16"):
        config = TrainingConfig(max_steps=3, accumulation=2, exploration=0, evaluations=1, precision=precision)
        trainer = LocalistTrainer(
            model=localize(tiny_gpt2(), LocalityConfig(schedule="linear", alpha=0.5)),
            args=training_arguments(config, tmp_path / precision, disable_tqdm=True),
            train_dataset=sequences(),
            eval_dataset=sequences(4),
            stages=Stages.of(config),
        )
        trainer.train()
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        evaluated = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
        assert evaluated == [3]  # once
        logs.append([entry for entry in trainer.state.log_history if "ce" in entry])
    for one, other in zip(*logs, strict=True):
        assert one["ce"] == pytest.approx(other["ce"], rel=2e-2)
        assert one["penalty_nats"] == pytest.approx(other["penalty_nats"], rel=2e-2)
        assert one["ce"] != other["ce"]  # it did compute in bfloat16


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (0.15, 18), (0.5, 60)])
def test_warmup_is_a_share_of_the_steps(warmup: float, steps: int, tmp_path: Path) -> None:
    assert training_arguments(TrainingConfig(warmup=warmup), tmp_path).get_warmup_steps(120) == steps


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_fp16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match=r"fp16, which needs a GPU .* expected bf16 or fp32"):
        training_arguments(TrainingConfig(precision="fp16"), tmp_path)


@pytest.mark.slow
def test_a_dialled_training_is_on_what_the_dial_leaves(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    settings = LocalityConfig(schedule="localist", alpha=0.5)
    logs = {}
    for dialled in (None, 0.0, 0.7, "sampled"):
        trainer = LocalistTrainer(
            model=localize(tiny_gpt2(), settings),
            args=arguments(tmp_path, max_steps=2),
            train_dataset=sequences(),
            eval_dataset=sequences(4),
            stages=Stages(exploration=0),
            dial=dialled,  # type: ignore[arg-type]
        )
        trainer.train()
        logs[dialled] = trainer.state.log_history[:2], trainer.evaluate()
    assert logs[None] == logs[0.0]
    assert logs[0.7][0][0]["penalty_nats"] < logs[None][0][0]["penalty_nats"]  # the same weights, dialled
    assert logs["sampled"][0][0]["penalty_nats"] not in (logs[None][0][0]["penalty_nats"], 0.0)
    assert logs[0.7][1]["eval_fidelity"] > logs["sampled"][1]["eval_fidelity"]  # which is measured undialled


def test_a_batch_under_the_dial_has_the_loss_of_the_dialled_model(
    tiny_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(schedule="localist", alpha=0.5)).train()
    trainer = LocalistTrainer(model=model, args=arguments(tmp_path), train_dataset=sequences(), dial=0.7)
    trainer.current_gradient_accumulation_steps = 1
    batch = collate(sequences(2))
    found = trainer.compute_loss(model, dict(batch))
    with dial(model, 0.7):
        outputs = model(**batch, output_attentions=True)
    penalty = -torch.stack(log_masses(outputs))[..., 0].mean((1, 2, 3)).sum()
    assert found.item() == pytest.approx((outputs.loss + trainer.alpha(trainer.stage) * penalty).item(), rel=1e-5)


# ---- the model there is when it is used, not the one there was when the trainer was made


def expected(model: Any, batch: Any) -> tuple[float, torch.Tensor]:
    """Return Σλp and p by layer of a batch, by the formula."""
    locality = model.locality
    outputs = model(**batch, output_attentions=True)
    by_layer = -torch.stack(log_masses(outputs))[..., 0].mean((1, 2, 3))
    return float((torch.tensor(locality.lambdas) * by_layer).sum()), by_layer.detach()


def check_first_step(log: dict[str, Any], model: Any) -> None:
    """The first step of a training on one batch of four is logged as that model's."""
    penalty, by_layer = expected(model, collate(sequences(4)))
    assert log["penalty_nats"] == pytest.approx(penalty, rel=1e-5)
    assert log["alpha"] == model.locality.config.alpha
    for layer, strength in enumerate(model.locality.lambdas):
        assert (f"penalty_nats/layer_{layer}" in log) == (strength > 0)
        if strength:
            assert log[f"penalty_nats/layer_{layer}"] == pytest.approx(float(by_layer[layer]), rel=1e-5)
        assert log[f"grad_norm/layer_{layer}"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True], ids=["logits", "fused"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("distributed", "uniform:0.5"), ("uniform:0.5", "linear"), ("step:2", "localist"), ("learnable:0.4", "cubic")],
)
def test_a_model_made_anew_for_training_is_trained_with_its_own_locality(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, before: str, after: str, fused: bool
) -> None:
    made: list[Any] = []
    schedules = before, after, before

    def model_init(trial: Any) -> Any:
        config = LocalityConfig(schedule=schedules[len(made)], alpha=0.1 * (1 + len(made)))
        made.append(localize(tiny_gpt2(), config))
        return made[-1]

    trainer = LocalistTrainer(
        model_init=model_init, args=arguments(tmp_path, max_steps=1), train_dataset=sequences(4),
        stages=Stages(exploration=0), fused_loss=fused,
    )  # fmt: skip
    for schedule in schedules[1:]:
        trainer.train()
        fresh = localize(tiny_gpt2(), made[-1].locality.config)
        fresh.locality.lambdas = trainer.learned.lambdas if trainer.learned else fresh.locality.lambdas
        assert (trainer.learned is None) == (schedule != "learnable:0.4")
        if trainer.learned is None:
            check_first_step(trainer.state.log_history[0], fresh)
        assert trainer.model is made[-1]
        assert not equal(made[-1], fresh)  # it is the one that learned
    assert len(made) == 3
    assert equal(made[0], tiny_gpt2())
    if fused:
        outputs = trainer.compute_loss(trainer.model.train(), collate(sequences(2)), return_outputs=True)[1]
        assert outputs.logits.shape == (2, T, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        LocalityConfig(schedule="localist", alpha=0.4),
        LocalityConfig(schedule=(0.0, 0.3, 0.0), alpha=0.4, blocks="fixed:3"),
        LocalityConfig(schedule="linear", alpha=0.4, blocks="mixture:fixed:8+fixed:2"),
        LocalityConfig(schedule="quintic", alpha=0.4, window=6),
    ],
    ids=["schedule", "blocks", "granularity", "window"],
)
def test_a_model_localised_again_is_trained_as_it_is_now(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, config: LocalityConfig
) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(schedule="distributed"))
    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path, max_steps=1), train_dataset=sequences(4), stages=Stages(exploration=0)
    )
    localize(model, config)
    trainer.train()
    check_first_step(trainer.state.log_history[0], localize(tiny_gpt2(), config))


def test_a_model_localised_again_while_training_learns_by_its_new_schedule(
    tiny_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(schedule="distributed"))

    class Curriculum(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                localize(model, LocalityConfig(schedule="learnable:0.6", alpha=0.2))

    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path, max_steps=3), train_dataset=sequences(), stages=Stages(exploration=0),
        callbacks=[Curriculum()], lambda_learning_rate=50.0,
    )  # fmt: skip
    trainer.train()
    first, *later = trainer.state.log_history[:3]
    assert (first["penalty_nats"], "lambda/layer_0" in first) == (0.0, False)
    assert [log["alpha"] for log in later] == [0.2, 0.2]
    lambdas = [later[-1][f"lambda/layer_{layer}"] for layer in range(L)]
    assert model.locality.lambdas == tuple(lambdas) != (0.6, 0.6, 0.6)
    assert sum(lambdas) / L == pytest.approx(0.6)


@pytest.mark.slow
def test_steps_left_unlogged_by_one_training_are_not_in_the_next_ones_line(
    tiny_gpt2: Callable[..., Any], tmp_path: Path
) -> None:
    lines = []
    for repeats in (1, 2):
        trainer = LocalistTrainer(
            model_init=lambda: localize(tiny_gpt2(), LocalityConfig(schedule="localist", alpha=0.2)),
            args=arguments(tmp_path, max_steps=3, logging_steps=2), train_dataset=sequences(),
            stages=Stages(exploration=0),
        )  # fmt: skip
        for _ in range(repeats):
            trainer.train()
        lines.append({key: value for key, value in trainer.state.log_history[0].items() if key != "epoch"})
    assert lines[0] == lines[1]


def test_a_model_init_without_locality_is_refused(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    made: list[Any] = []

    def model_init() -> Any:
        made.append(tiny_gpt2() if made else localize(tiny_gpt2()))
        return made[-1]

    trainer = LocalistTrainer(model_init=model_init, args=arguments(tmp_path), train_dataset=sequences())
    with pytest.raises(ProglocError, match="localize"):
        trainer.train()


@pytest.mark.slow
def test_the_dial_turns_the_model_there_is(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    penalties = {}
    for dialled in (None, 0.7):
        model = localize(tiny_gpt2(), LocalityConfig(schedule="distributed"))
        trainer = LocalistTrainer(
            model=model, args=arguments(tmp_path, max_steps=1), train_dataset=sequences(4),
            stages=Stages(exploration=0), dial=dialled,
        )  # fmt: skip
        localize(model, LocalityConfig(schedule="localist", alpha=0.3))
        trainer.train()
        penalties[dialled] = trainer.state.log_history[0]["penalty_nats"]
    with dial(fresh := localize(tiny_gpt2(), LocalityConfig(schedule="localist")), 0.7):
        assert penalties[0.7] == pytest.approx(expected(fresh, collate(sequences(4)))[0], rel=1e-5)
    assert penalties[0.7] < penalties[None]


def test_a_fused_loss_follows_a_head_that_is_made_anew(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(tie_word_embeddings=False), LocalityConfig(schedule="linear", alpha=0.5))
    trainer = LocalistTrainer(
        model=model, args=arguments(tmp_path, max_steps=1), train_dataset=sequences(4), fused_loss=True,
        stages=Stages(exploration=0),
    )  # fmt: skip
    model.set_output_embeddings(torch.nn.Linear(32, 101, bias=False))
    head = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        plain = model(**collate(sequences(4))).loss.item()
    trainer.train()
    assert trainer.state.log_history[0]["ce"] == pytest.approx(plain * 15 / 16, rel=1e-5)
    assert not torch.equal(model.lm_head.weight, head)
