"""Training with sources kept apart: where readers start, what is predicted, the price, and the option truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from progloc import READER, SHARED, LocalistTrainer, LocalityConfig, ProglocError, isolate, load, localize, measure
from progloc.attention.request import AttentionRequest
from progloc.config import RunConfig, TrainingConfig, from_mapping
from progloc.data import collate
from progloc.results import RunResult
from progloc.training.inputs import Inputs, gather
from progloc.training.readers import OFF, held_readers, measure_apart, with_readers
from progloc.training.run import train_run
from progloc.training.stages import PerplexityBudget, Stages
from progloc.training.truth import truth_gap
from small_models import FAMILIES, small_model

T = 24
SEES_A_PART = ("mistral", "phimoe", "gemma3_text", "olmo3", "llama4_text")
"""Families whose layers, as small as they are here, see a part of the text."""
CONFIG = RunConfig(
    model="scratch:nano",
    sequence_length=32,
    max_sequences=40,
    locality=LocalityConfig(schedule="distributed", blocks="fixed:5"),
    training=TrainingConfig(epochs=2, batch_size=8, accumulation=1, learning_rate=1e-2, isolation="sources"),
)


def items(count: int = 6, length: int = T) -> list[dict[str, Any]]:
    """Sequences of different lengths, in blocks of one to five tokens."""
    generator = torch.Generator().manual_seed(3)
    result = []
    for row in range(count):
        sizes = torch.randint(1, 6, (length,), generator=generator)
        blocks = torch.repeat_interleave(torch.arange(length), sizes)[: length - row]
        ids = torch.randint(1, 100, (length - row,), generator=generator)
        result.append({"input_ids": ids, "block_ids": blocks})
    return result


def model_of(family: str = "llama", blocks: str = "fixed:4") -> Any:
    return localize(small_model(family), LocalityConfig("distributed", blocks))


def trainer_of(model: Any, folder: Path, **settings: Any) -> LocalistTrainer:
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=3, max_steps=2, save_strategy="no", report_to="none", use_cpu=True,
        learning_rate=1e-3, logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    return LocalistTrainer(
        model=model, args=arguments, train_dataset=items(), eval_dataset=items(), stages=Stages(0), **settings
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_roles_and_labels_are_those_of_the_definition(side: Any) -> None:
    model, texts = model_of(), items()
    batch = with_readers(collate(texts, padding_side=side), model.locality, torch.tensor([0, 0.2, 0.4, 0.6, 0.8, 0.99]))
    for row, item in enumerate(texts):
        length, blocks = len(item["input_ids"]), item["block_ids"].tolist()
        real = slice(0, length) if side == "right" else slice(T - length, T)
        roles, labels = batch["source_ids"][row, real].tolist(), batch["labels"][row, real].tolist()
        start = roles.index(READER)
        assert blocks[start] != blocks[start - 1]  # at a block's beginning
        assert roles == [SHARED, *blocks[1:start], *[READER] * (length - start)]
        assert labels == [-100] * (start + 1) + item["input_ids"].tolist()[start + 1 :]
        assert any(label != -100 for label in labels)
        assert (batch["source_ids"][row][batch["attention_mask"][row] == 0] == 0).all()


def test_quantiles_reach_every_block_that_a_reader_can_start_at() -> None:
    model, (text, *_) = model_of(), items(1)
    blocks = text["block_ids"]
    possible = [place for place in range(1, T - 1) if blocks[place] != blocks[place - 1]]
    starts = set()
    for quantile in torch.linspace(0, 0.999, 200):
        roles = with_readers(collate([text]), model.locality, quantile[None])["source_ids"][0].tolist()
        starts.add(roles.index(READER))
    assert sorted(starts) == possible


def test_a_text_of_one_block_reads_as_the_plain_model_does() -> None:
    model = model_of()
    batch = with_readers(
        collate([{"input_ids": torch.arange(1, 9), "block_ids": torch.zeros(8)}]), model.locality, torch.zeros(1)
    )
    assert batch["source_ids"].tolist() == [[READER] * 8]
    assert batch["labels"].tolist() == [[-100, *range(2, 9)]]


def test_where_a_model_is_judged_readers_start_where_the_text_says(tmp_path: Path) -> None:
    model, texts = model_of(), items()
    collator = held_readers(collate, model.locality)
    together = collator(texts)
    for row, item in enumerate(texts):
        alone = collator([item])["source_ids"][0]
        assert together["source_ids"][row, : len(alone)].tolist() == alone.tolist()
    starts = {tuple(collator([item])["source_ids"][0].tolist()).index(READER) for item in items(30, 40)}
    assert len(starts) > 5


@pytest.mark.parametrize("isolation", ["sources", "sources:1", OFF])
def test_the_loss_is_that_of_what_readers_predict(isolation: str, tmp_path: Path) -> None:
    model = model_of().train()
    trainer = trainer_of(model, tmp_path, isolation=isolation)
    trainer.current_gradient_accumulation_steps = 1
    batch = with_readers(collate(items(3)), model.locality, torch.tensor([0.1, 0.5, 0.9]))
    loss = trainer.compute_loss(model, dict(batch))
    with isolate(model, batch["source_ids"], isolation):
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    picked = batch["labels"][:, 1:]
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, picked.clamp(min=0)[..., None])[..., 0]
    assert loss.item() == pytest.approx(-log_probs[picked != -100].mean().item(), rel=1e-5)


def test_isolation_off_is_the_plain_model_to_the_bit() -> None:
    model = model_of()
    batch = with_readers(collate(items(3)), model.locality, torch.tensor([0.1, 0.5, 0.9]))
    asked = {"attention_mask": batch["attention_mask"], "use_cache": False}
    with torch.no_grad():
        plain = model(batch["input_ids"], **asked).logits
        with isolate(model, None, 0):
            off = model(batch["input_ids"], source_ids=batch["source_ids"], **asked).logits
    assert torch.equal(plain, off)
    with pytest.raises(ProglocError, match="source_ids without isolation"):
        model(batch["input_ids"], source_ids=batch["source_ids"])


def test_a_step_counts_the_tokens_that_are_predicted(tmp_path: Path) -> None:
    trainer = trainer_of(model_of(), tmp_path, isolation="sources")
    samples, count = trainer.get_batch_samples(iter([collate(items(3)), collate(items(3))]), 2, torch.device("cpu"))
    assert count == sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in samples)
    assert not torch.equal(samples[0]["source_ids"], samples[1]["source_ids"])  # drawn anew for every batch


@pytest.mark.slow
def test_sampled_layers_are_drawn_in_training_and_all_in_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    trainer = trainer_of(model, tmp_path, isolation="sampled")
    drawn: list[object] = []

    def noting(model: Any, ids: Any = None, layers: Any = None) -> Any:
        drawn.append(layers)
        return isolate(model, ids, layers)

    monkeypatch.setattr("progloc.training.readers.isolate", noting)
    trainer.args.max_steps = 12
    trainer.train()
    assert set(drawn) == {f"sources:{k}" for k in range(len(model.locality.lambdas) + 1)}
    drawn.clear()
    metrics = trainer.evaluate()
    assert drawn == ["sources"]
    expected = measure_apart(model, items(), TrainingConfig(isolation="sources"))
    assert metrics["eval_perplexity"] == pytest.approx(expected.perplexity, rel=1e-6)


def test_a_measure_with_readers_is_over_what_they_predict() -> None:
    model = model_of()
    texts = items()
    report = measure_apart(model, texts, TrainingConfig(isolation="sources"))
    batch = held_readers(collate, model.locality)(texts)
    assert report.tokens == int((batch["labels"][:, 1:] != -100).sum())
    assert measure_apart(model, texts, TrainingConfig()) == measure(model, texts)


# ---- truth


def text_of_sources(model: Any) -> dict[str, Tensor]:
    """Seven blocks: a shared token, five sources, a question of two tokens and an answer of four."""
    blocks = torch.tensor([[0, 0, 2, 2, 2, 5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 9, 9, 9]])
    ids = torch.randint(1, 100, blocks.shape, generator=torch.Generator().manual_seed(5))
    return with_readers({"input_ids": ids, "block_ids": blocks}, model.locality, torch.tensor([0.8]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_is_one_less_the_correlation_of_mass_and_effect(family: str) -> None:
    model = model_of(family)
    batch = text_of_sources(model)
    ids, roles = batch["input_ids"], batch["source_ids"][0]
    start = roles.tolist().index(READER) + 2  # the answer's
    assert start == 14
    sources = sorted(set(roles[roles >= 0].tolist()))

    def log_prob(gone: int | None) -> Tensor:
        mask = (roles != gone).long()[None] if gone is not None else torch.ones_like(ids)
        with torch.no_grad(), isolate(model, roles):
            logits = model(ids, attention_mask=mask, position_ids=torch.arange(18)[None], use_cache=False).logits[0]
        return logits.double().log_softmax(-1)[start - 1 : -1].gather(-1, ids[0, start:, None]).sum()

    effects = torch.stack([log_prob(None) - log_prob(source) for source in sources])
    masses = attention_on(model, ids, roles, start, sources)
    expected = 1 - torch.corrcoef(torch.stack([masses.double(), effects]))[0, 1]
    if family in SEES_A_PART:
        with pytest.raises(ProglocError, match="within a window"):
            truth_gap(model, batch)
        return
    assert truth_gap(model, batch).item() == pytest.approx(expected.item(), abs=1e-3)


def attention_on(model: Any, ids: Tensor, roles: Tensor, start: int, sources: list[int]) -> Tensor:
    """The reader's mean attention on each source, from the whole matrices."""
    weights: list[Tensor] = []

    def keep(layer: Any) -> None:
        groups = layer.query.shape[1] // layer.key.shape[1]
        scores = layer.query @ layer.key.repeat_interleave(groups, 1).mT * layer.scale
        scores = layer.lower(scores, slice(None), ids.shape[1], False)
        weights.append(scores.masked_fill(~layer.mask, float("-inf")).softmax(-1)[0])

    with torch.no_grad(), isolate(model, roles):
        model(ids, use_cache=False, attention_request=AttentionRequest(probe=keep))
    mean = torch.stack(weights)[:, :, start - 1 : -1].mean((0, 1, 2))
    return torch.stack([mean[roles == source].sum() for source in sources])


def test_the_gap_alone_pulls_attention_towards_the_effects() -> None:
    torch.manual_seed(0)
    model = model_of().train()
    batch = text_of_sources(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = truth_gap(model, batch)
    for _ in range(20):
        optimiser.zero_grad()
        truth_gap(model, batch).backward()
        optimiser.step()
    after = truth_gap(model, batch)
    assert before > 0.3
    assert after < before / 2
    assert model.training


def test_gradient_checkpointing_leaves_the_gaps_gradient_as_it_is() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = model_of().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        truth_gap(model, text_of_sources(model)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert model.training
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())
    assert any(gradient.any() for gradient in gradients[0].values())


def test_fewer_than_three_sources_have_no_gap() -> None:
    model = model_of()
    batch = with_readers(
        {"input_ids": torch.arange(1, 9)[None], "block_ids": torch.tensor([[0, 0, 1, 1, 2, 2, 2, 2]])},
        model.locality,
        torch.tensor([0.99]),
    )
    assert truth_gap(model, batch).item() == 0


@pytest.mark.slow
def test_truth_is_in_the_loss_and_in_the_log(tmp_path: Path) -> None:
    losses = []
    for truth in (0.0, 0.5):
        torch.manual_seed(0)
        trainer = trainer_of(model_of(), tmp_path, isolation="sources", truth=truth)
        trainer.train()
        losses.append(trainer.state.log_history[0])
    assert "truth_gap" not in losses[0]
    extra = losses[1]["loss"] - losses[0]["loss"]
    assert extra == pytest.approx(0.5 * losses[1]["truth_gap"], abs=2e-4)
    assert extra > 0.01


# ---- settings and runs


@pytest.mark.parametrize("isolation", ["strict", "sources:", "sources:x", 3])
def test_an_unknown_isolation_is_refused(isolation: Any) -> None:
    with pytest.raises(ProglocError, match=r"isolation is .*; expected"):
        from_mapping(TrainingConfig, {"isolation": isolation})


@pytest.mark.parametrize("isolation", [None, "sampled", "sources:2"])
def test_truth_needs_strict_isolation(isolation: str | None, tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="truth"):
        TrainingConfig(isolation=isolation, truth=0.1)
    with pytest.raises(ProglocError, match="truth"):
        trainer_of(model_of(), tmp_path, isolation=isolation, truth=0.1)


def test_more_layers_than_the_model_has_are_refused_before_training() -> None:
    config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, isolation="sources:9"))
    with pytest.raises(ProglocError, match="expected 'sources', 'sources:K' with K from 0 to 2"):
        gather(config)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return gather(CONFIG)


@pytest.mark.slow
def test_a_run_is_measured_isolated_and_with_isolation_off(inputs: Inputs, tmp_path: Path) -> None:
    result = train_run(CONFIG, tmp_path / "run", inputs, name="distributed")
    assert RunResult.read(tmp_path / "run") == result
    assert result.isolation_off is not None
    model = load(tmp_path / "run" / "model", CONFIG.locality)
    for isolation, figures in ((None, result.final), (OFF, result.isolation_off)):
        report = measure_apart(model, inputs.validation, CONFIG.training, isolation=isolation)
        assert report.perplexity == pytest.approx(figures["perplexity"], rel=1e-4)
    assert result.final["perplexity"] != result.isolation_off["perplexity"]
    assert result.epochs[-1]["perplexity"] >= result.final["perplexity"] * 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"isolation": "sampled"}, {"isolation": "sources", "truth": 0.3}], ids=str)
def test_an_interrupted_run_draws_the_same_readers_and_layers(
    changes: dict[str, Any], inputs: Inputs, tmp_path: Path
) -> None:
    training = dataclasses.replace(CONFIG.training, evaluations=4, batch_size=4, accumulation=2, **changes)
    config = dataclasses.replace(CONFIG, training=training)
    whole = train_run(config, tmp_path / "whole", inputs, name="distributed")

    def interrupt(step: int, *_: object) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, tmp_path / "cut", inputs, name="distributed", heard=interrupt)
    seen: list[int] = []
    resumed = train_run(config, tmp_path / "cut", inputs, name="distributed", heard=lambda step, *_: seen.append(step))
    assert 1 < seen[0] <= 4  # it went on
    assert resumed.final == whole.final
    assert [e["objective"] for e in resumed.epochs] == [e["objective"] for e in whole.epochs]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [10.0, 1e-9])
def test_a_budget_names_the_layers_that_can_be_isolated(budget: float, inputs: Inputs, tmp_path: Path) -> None:
    training = dataclasses.replace(CONFIG.training, isolation="sampled", budget=budget)
    config = dataclasses.replace(CONFIG, training=training)
    result = train_run(config, tmp_path / "run", inputs, name="distributed")
    reference = RunResult.read(tmp_path / "run" / "reference")
    assert reference.config["training"]["isolation"] == OFF
    model = load(tmp_path / "run" / "model", CONFIG.locality)
    reports = [measure_apart(model, inputs.validation, training, isolation=f"sources:{k}") for k in (0, 1, 2)]
    prices = [report.perplexity / reference.measure("perplexity") - 1 for report in reports]
    layers = max((k for k, price in enumerate(prices) if price <= budget), default=0)
    assert result.goal is not None
    assert {name: result.goal[name] for name in ("goal", "layers", "held")} == {
        "goal": "layers", "layers": layers, "held": prices[layers] <= budget,
    }  # fmt: skip
    assert result.goal["found"] == pytest.approx(prices[layers], abs=1e-5)


@pytest.mark.slow
def test_a_goal_scales_truth_as_it_scales_alpha(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    goal = PerplexityBudget(0.05, budget=0.01, reference=((1, 0.0), (2, 0.0)))
    trainer = trainer_of(
        localize(tiny_gpt2(), LocalityConfig("distributed")), tmp_path, isolation="sources", truth=0.4, goal=goal
    )
    assert trainer.truth_weight(2) == pytest.approx(0.4)
    trainer.state.max_steps = 4
    trainer.state.log_history.append({"eval_objective": 9.0, "eval_loss": 9.0, "step": 1})
    assert trainer.truth_weight(2) == pytest.approx(0.4 * trainer.alpha(2) / 0.05)
    assert trainer.truth_weight(2) < 0.4


# ---- learning from the plain model


def test_the_divergence_is_that_of_the_definition(tmp_path: Path) -> None:
    model = model_of().train()
    trainer = trainer_of(model, tmp_path, isolation="sources", distil=True)
    trainer.current_gradient_accumulation_steps = 1
    batch = with_readers(collate(items(3)), model.locality, torch.tensor([0.1, 0.5, 0.9]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    loss = trainer.compute_loss(model, dict(batch))
    asked = {"attention_mask": batch["attention_mask"], "use_cache": False}
    with torch.no_grad():
        teacher = localize(small_model("llama"), LocalityConfig("distributed"))(batch["input_ids"], **asked).logits
        with isolate(model, batch["source_ids"]):
            learner = model(batch["input_ids"], **asked).logits
    p, q = (x[:, :-1].double().softmax(-1) for x in (teacher, learner))
    by_token = (p * (p.log() - q.log())).sum(-1)
    assert loss.item() == pytest.approx(by_token[batch["labels"][:, 1:] != -100].mean().item(), rel=1e-4)
    assert loss > 0


def test_what_is_learned_from_is_the_model_as_it_was_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = model_of()
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_of(model, tmp_path, isolation=OFF, distil=True)
    trainer.train()
    assert trainer.teacher is not None
    assert all(torch.equal(value, plain[name]) for name, value in trainer.teacher.state_dict().items())
    # with isolation off there is nothing to learn
    assert trainer.state.log_history[0]["ce"] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_distilling_lets_an_isolated_model_say_what_the_plain_one_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = trainer_of(model_of(), tmp_path, isolation="sources", distil=True)
    trainer.args.max_steps, trainer.args.learning_rate = 30, 3e-3
    trainer.train()
    course = [entry["ce"] for entry in trainer.state.log_history if "ce" in entry]
    assert sum(course[-5:]) < 0.7 * sum(course[:5])


def test_the_trainers_own_evaluation_is_of_the_text(tmp_path: Path) -> None:
    trainer = trainer_of(model_of(), tmp_path, distil=True, compute_metrics=lambda _: {})
    before = trainer.get_eval_dataloader()
    trainer.train()
    assert trainer.compute_loss_func is None
    output = trainer.evaluation_loop(before, "Evaluation")
    with torch.no_grad():
        expected = [
            trainer.model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
            for batch in before
        ]
    assert output.metrics["eval_loss"] == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)


def test_distil_needs_logits(tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="fused_loss"):
        TrainingConfig(distil=True, fused_loss=True)
    with pytest.raises(ProglocError, match="fused_loss"):
        trainer_of(model_of(), tmp_path, distil=True, fused_loss=True)
