"""What a user writes, for mypy alone (`test_typing.py`); nobody runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

import progloc
from progloc import (
    Audit,
    LocalistTrainer,
    LocalityConfig,
    Partitioner,
    Schedule,
    audit,
    delocalize,
    dial,
    load,
    localize,
    log_masses,
    measure,
    register_measure,
    register_partitioner,
    register_schedule,
)
from progloc.blocks import IntArray, TokenisedText
from progloc.data import Corpus, Split, load_corpus, split, tokenise, with_block_ids
from progloc.measures.definitions import Ratio
from progloc.measures.report import Report
from progloc.measures.rows import Rows
from progloc.model import LocalModel


@register_schedule("late")
def late(argument: str, denominator: str) -> Schedule:
    return Schedule("late", lambda layers: [0.0] * (layers - 1) + [1.0])


@register_partitioner("halves")
class Halves(Partitioner):
    causal = False

    def __call__(self, text: TokenisedText) -> IntArray:
        return (text.input_ids >= len(text.input_ids) / 2).astype("int64")


@register_measure("elsewhere", label="mass elsewhere")
def elsewhere(rows: Rows) -> Ratio:
    return Ratio((1 - rows.mass) * rows.real, rows.real)


def train(name: str, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(name)
    config = LocalityConfig(schedule="quintic", blocks="sentences", alpha=0.05)
    model = localize(AutoModelForCausalLM.from_pretrained(name), config, tokenizer)
    assert_type(model, LocalModel)
    assert_type(model.locality.lambdas, tuple[float, ...])
    assert_type(model.locality.config, LocalityConfig)

    corpus = load_corpus(text)
    assert_type(corpus, Corpus)
    sequences = with_block_ids(tokenise(corpus, tokenizer, sequence_length=128), model.locality.partitioner)
    parts = split(sequences, validation_fraction=0.2, seed=0)
    assert_type(parts, Split)
    trainer = LocalistTrainer(model, TrainingArguments("checkpoints"), train_dataset=parts.train)
    assert_type(trainer, LocalistTrainer)
    trainer.train()

    report = measure(model, parts.validation)
    assert_type(report, Report)
    assert_type(report.perplexity, float)
    assert_type(report.entropy_bits, float)
    assert_type(report.fidelity, float)
    assert_type(report.chance_fidelity, float)
    assert_type(report.penalty_nats, float)
    assert_type(report.sink_mass, float)
    assert_type(report.fidelity_no_sink, float)
    assert_type(report.entropy_bits_no_sink, float)
    assert_type(report.elsewhere, float)
    assert_type(report.layers[0].chance_fidelity, float)
    assert_type(report.layers[0].heads[0].fidelity, float)
    assert_type(report.to_json(), str)

    with dial(model, 0.7), dial(model, [0.0, 1.0]) as setting:
        assert_type(setting.outside, tuple[float, ...])
        model.generate(max_new_tokens=5)
        answer = audit(model, "What must the overseer see?", tokenizer=tokenizer)
    assert_type(answer, Audit)
    assert_type(answer.verdict, str)
    assert_type(answer.to_html(), str)
    model.save_pretrained("my-local-model")

    outputs = load(Path("my-local-model"))(input_ids=parts.train[0]["input_ids"][None], output_attentions=True)
    assert_type(log_masses(outputs), tuple[Tensor, ...])
    delocalize(model).save_pretrained("as-it-was")


def refused(model: LocalModel, items: list[dict[str, Any]]) -> None:
    """Each line has a mistake that mypy has to find: an ignore that is not needed is an error."""
    measure(model, items).fidelity = 1.0  # type: ignore[misc]
    measure(model)  # type: ignore[call-arg]
    LocalityConfig(alpha="much")  # type: ignore[arg-type]
    audit(model, prompt=["a", "b"])  # type: ignore[arg-type]
    progloc.localise(model)  # type: ignore[attr-defined]
