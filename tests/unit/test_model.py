"""Attaching locality to a model, saving it, loading it, and what is refused."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import progloc
from progloc import LocalityConfig, ProglocError, load, localize, log_masses

IDS = torch.randint(0, 101, (2, 17), generator=torch.Generator().manual_seed(0))


def test_save_and_load_bring_locality_back(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    config = LocalityConfig(schedule=(0.0, 0.5, 1.0), blocks="fixed:3", alpha=0.2, clip=1e-6)
    model = localize(tiny_gpt2(), config, base_model="gpt2", sequence_length=64)
    model.save_pretrained(tmp_path)
    back = load(tmp_path)
    assert back.locality.config == config
    assert back.locality.lambdas == (0.0, 0.5, 1.0)
    assert (back.locality.base_model, back.locality.sequence_length) == ("gpt2", 64)
    ours, theirs = (m(input_ids=IDS, output_attentions=True) for m in (model, back))
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.attentions[1], theirs.attentions[1])


@pytest.mark.parametrize("schedule", ["heads:0.5,linear", "learnable:0.3"])
def test_a_model_keeps_the_lambda_that_its_schedules_name_leaves_open(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, schedule: str
) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(schedule=schedule))
    locality = model.locality
    if locality.head_lambdas is None:
        locality.lambdas = (0.1, 0.2, 0.6)
    else:
        assert locality.head_lambdas == ((0, 0, 0, 0), (0.5, 0.5, 0, 0), (1, 1, 0, 0))
        locality.head_lambdas = tuple(row[::-1] for row in locality.head_lambdas)
    model.save_pretrained(tmp_path)
    back = load(tmp_path)
    assert (back.locality.lambdas, back.locality.head_lambdas) == (locality.lambdas, locality.head_lambdas)
    assert torch.equal(back.locality.weights, locality.weights)
    stored = json.loads((tmp_path / "locality.json").read_text())
    assert stored["lambdas"] == list(locality.lambdas)
    (tmp_path / "locality.json").write_text(json.dumps({**stored, "lambdas": [0.5], "head_lambdas": None}))
    with pytest.raises(ProglocError, match="1 values; the model has 3 layers"):
        load(tmp_path)
    assert load(tmp_path, LocalityConfig(schedule="linear")).locality.lambdas == (0, 0.5, 1)


def test_a_matrix_for_other_heads_is_refused(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match="gives 2 values in layer 0; the model has 4 heads"):
        localize(tiny_gpt2(), LocalityConfig(schedule=((0.0, 1.0),) * 3))


def test_a_saved_model_needs_no_progloc(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(), LocalityConfig())
    model.save_pretrained(tmp_path)
    torch.save(IDS, tmp_path / "ids.pt")
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM\n"
        f"m = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})\n"
        f"ids = torch.load({str(tmp_path / 'ids.pt')!r})\n"
        "print(m.config._attn_implementation, 'progloc' in sys.modules, float(m(input_ids=ids).logits.double().sum()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed[:2] == ["sdpa", "False"]
    expected = float(model(input_ids=IDS).logits.double().sum())
    assert float(printed[2]) == pytest.approx(expected, rel=1e-5)


def test_a_plain_folder_is_not_localised_until_somebody_asks(tiny_llama: Callable[..., Any], tmp_path: Path) -> None:
    tiny_llama().half().save_pretrained(tmp_path / "plain")
    model = load(tmp_path / "plain")
    assert not model.locality.localised
    assert model.locality.lambdas == (0.0, 0.0)
    assert (model.locality.config.schedule, model.locality.config.blocks) == ("not localised", "fixed:5")
    assert model.dtype == torch.float32  # SPEC §3: not the checkpoint's own half
    report = progloc.measure(model, [{"input_ids": IDS[0]}])
    assert (report.schedule, report.blocks, report.weighted_penalty_nats) == ("not localised", "fixed:5", 0.0)
    assert report.to_dict()["schedule"] == "not localised"
    assert 0 < report.fidelity < 1
    model.save_pretrained(tmp_path / "again")
    assert not list((tmp_path / "again").glob("locality*"))
    asked = load(tmp_path / "again", LocalityConfig(blocks="fixed:3"))
    assert asked.locality.localised
    assert (asked.locality.lambdas, asked.locality.base_model) == ((0.0, 1.0), str(tmp_path / "again"))
    asked.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").locality.localised


def test_a_model_not_localised_leaves_no_other_models_claim(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2(), LocalityConfig(blocks="recruited:16")).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "blocks.safetensors").exists()
    tiny_gpt2().save_pretrained(tmp_path / "plain")
    load(tmp_path / "plain").save_pretrained(tmp_path / "model")
    assert not load(tmp_path / "model").locality.localised
    assert not (tmp_path / "model" / "blocks.safetensors").exists()


def test_a_copy_is_local_in_its_own_right(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(blocks="fixed:5"))
    twin = localize(copy.deepcopy(model), LocalityConfig(blocks="fixed:2"))
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    assert model.locality.config.blocks == "fixed:5"
    masses = [log_masses(m(input_ids=IDS, output_attentions=True))[0][..., 0].sum() for m in (model, twin)]
    assert masses[0] > masses[1]
    twin.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "locality.json").read_text())["locality"]["blocks"] == "fixed:2"
    assert not load(tmp_path).lm_head.weight.any()


def test_a_model_without_masses_says_what_to_do(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2())
    with pytest.raises(ProglocError, match="output_attentions=True"):
        log_masses(model(input_ids=IDS))
    eager = tiny_gpt2()
    eager.set_attn_implementation("eager")
    with pytest.raises(ProglocError, match="localize"):
        log_masses(eager(input_ids=IDS, output_attentions=True))


TINY = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 11}


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: BloomForCausalLM(BloomConfig(n_layer=1, **TINY)), "AttentionInterface"),
        (
            lambda: GPTNeoForCausalLM(
                GPTNeoConfig(
                    hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]], vocab_size=11
                )
            ),
            "AttentionInterface",
        ),
        (lambda: T5ForConditionalGeneration(T5Config(d_model=16, num_layers=1, num_heads=2)), "encoder-decoder"),
        (
            lambda: Gemma2ForCausalLM(
                Gemma2Config(num_hidden_layers=1, intermediate_size=16, head_dim=8, num_key_value_heads=1, **TINY)
            ),
            "soft-capped",
        ),
    ],
)
def test_architectures_that_cannot_be_served_are_named(build: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ProglocError, match=reason) as caught:
        localize(build())
    assert "\n" not in str(caught.value)


def test_wrong_inputs_are_refused(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match=r"2 values; the model has 3 layers"):
        localize(tiny_gpt2(), LocalityConfig(schedule=(0.0, 1.0)))
    model = localize(tiny_gpt2())
    with pytest.raises(ProglocError, match=r"block_ids is .* of shape \(2, 16\)"):
        model(input_ids=IDS, block_ids=torch.zeros(2, 16, dtype=torch.long), output_attentions=True)
    with pytest.raises(ProglocError, match="unknown channel 'entropi'"):
        model(input_ids=IDS, output_attentions=True, locality_channels=["entropi"])
    with pytest.raises(ProglocError, match="no model at"):
        load("/nowhere/at/all")


def test_a_damaged_locality_file_is_named(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2()).save_pretrained(tmp_path)
    (tmp_path / "locality.json").write_text('{"schema_version": 99}')
    with pytest.raises(ProglocError, match="schema version 99"):
        load(tmp_path)
    for text, message in (("{", "not valid JSON"), ("[]", "holds list, not an object")):
        (tmp_path / "locality.json").write_text(text)
        with pytest.raises(ProglocError, match=message):
            load(tmp_path)


def test_localising_again_keeps_what_was_recorded(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2(), base_model="org/base", sequence_length=32)
    again = localize(model, LocalityConfig(schedule="linear")).locality
    assert (again.config.schedule, again.base_model, again.sequence_length) == ("linear", "org/base", 32)


def test_locality_is_read_from_the_hub_too(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    """A snapshot in the hub's cache, found by its hub name."""
    snapshot = tmp_path / "models--me--local" / "snapshots" / "abc"
    localize(tiny_gpt2(), LocalityConfig(schedule="linear", blocks="fixed:3")).save_pretrained(snapshot)
    (tmp_path / "models--me--local" / "refs").mkdir()
    (tmp_path / "models--me--local" / "refs" / "main").write_text("abc")
    found = load("me/local", cache_dir=tmp_path).locality.config
    assert (found.schedule, found.blocks) == ("linear", "fixed:3")


def test_a_damaged_model_is_named(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2()).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ProglocError, match="no model at"):
        load(tmp_path)


def test_the_public_names_are_few_and_there() -> None:
    assert len(progloc.__all__) <= 15
    assert all(hasattr(progloc, name) for name in progloc.__all__)
