"""Measures and their chance levels in layers that see a window or chunk of the text, from the weights themselves."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from progloc import LocalityConfig, ProglocError, dial, localize, log_masses, measure
from progloc.accounts.probes import Trace
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest
from progloc.data import collate
from small_models import FAMILIES, small_model

BLOCK = 5
LENGTHS = (24, 24, 19)
ITEMS = [
    {"input_ids": torch.randint(1, 101, (n,), generator=torch.Generator().manual_seed(n + at)).tolist()}
    for at, n in enumerate(LENGTHS)
]


def ratio_sums(weights: np.ndarray) -> dict[str, tuple[Any, Any]]:
    """Numerator and weight of every measure, (H,), of weights (H, n, n): the sink is the first token (method.md §3)."""
    n = weights.shape[-1]
    blocks = np.arange(n) // BLOCK
    inside = blocks[:, None] == blocks
    mass, sink = (weights * inside).sum(-1), weights[:, 1:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = -np.where(weights > 0, weights * np.log2(weights), 0.0)
    rest = 1 - sink
    others = weights[:, 1:, 1:] / rest[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_others = -np.where(others > 0, others * np.log2(others), 0.0).sum(-1)
    of_block = (others * inside[1:, 1:]).sum(-1)
    return {
        "fidelity": (mass.sum(-1), n),
        "entropy_bits": (terms.sum((-2, -1)), n),
        "penalty_nats": (-np.log(mass).sum(-1), n),
        "sink_mass": (sink.sum(-1), n - 1),
        "fidelity_no_sink": ((of_block * rest).sum(-1), rest.sum(-1)),
        "entropy_bits_no_sink": ((of_others * rest).sum(-1), rest.sum(-1)),
    }


def by_weights(model: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measures by layer, and those of uniform attention to every key that has any weight."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    found: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []
    for item in ITEMS:
        with torch.no_grad():
            layers = model(torch.tensor([item["input_ids"]]), output_attentions=True, use_cache=False).attentions
        weights = [layer[0].double().numpy() for layer in layers]
        seen = [(layer > 0).astype(float) for layer in weights]
        uniform = [layer / layer.sum(-1, keepdims=True) for layer in seen]
        found.append(([ratio_sums(layer) for layer in weights], [ratio_sums(layer) for layer in uniform]))

    def whole(which: int) -> list[dict[str, Any]]:
        return [
            {
                name: (
                    sum(one[which][at][name][0] for one in found) / sum(one[which][at][name][1] for one in found)
                ).mean()
                for name in found[0][which][at]
            }
            for at in range(len(found[0][which]))
        ]

    return whole(0), whole(1)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("implementation", [IMPLEMENTATION, REFERENCE])
@pytest.mark.parametrize("family", ["llama", "mistral", "phimoe", "gemma3_text", "olmo3", "llama4_text"])
def test_every_measure_and_its_chance(family: str, implementation: str, side: str) -> None:
    model = small_model(family)
    expected, chance = by_weights(model)
    report = measure(
        localize(model, LocalityConfig(blocks=f"fixed:{BLOCK}"), attn_implementation=implementation),
        ITEMS, batch_size=3, collator=partial(collate, padding_side=side),
    )  # fmt: skip
    for layer, ours, uniform in zip(report.layers, expected, chance, strict=True):
        for name, value in uniform.items():
            assert layer[f"chance_{name}"] == pytest.approx(value, rel=1e-6), name
        for name, value in ours.items():
            assert layer[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    windowed = [layer.chance_fidelity for layer in report.layers]
    if family in ("gemma3_text", "olmo3", "llama4_text"):
        assert windowed[0] > windowed[1] + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("keep_sink", [False, True], ids=["sink dialled", "sink kept"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dialled_model_is_that_of_the_definition(family: str, keep_sink: bool) -> None:
    """Whether or not masses are asked for; the sink is the first token, which not all tokens see."""
    ids, padded = torch.tensor([ITEMS[0]["input_ids"], ITEMS[1]["input_ids"]]), torch.ones(2, 24, dtype=torch.long)
    padded[1, :3] = 0
    logits, masses = [], []
    for implementation, asked in ((IMPLEMENTATION, False), (IMPLEMENTATION, True), (REFERENCE, True)):
        model = localize(small_model(family), LocalityConfig("localist", "fixed:3"), attn_implementation=implementation)
        with torch.no_grad(), dial(model, 0.6, keep_sink=keep_sink):
            outputs = model(ids, attention_mask=padded, output_attentions=asked, use_cache=False)
        logits.append(outputs.logits[padded.bool()])
        if asked:
            masses.append(torch.stack(log_masses(outputs)).transpose(2, 3)[:, padded.bool()])
    for found in logits[1:]:
        torch.testing.assert_close(found, logits[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*masses, rtol=1e-4, atol=1e-4)
    hidden = masses[0][..., 1] == float("-inf")
    assert hidden.any() == (family in ("mistral", "phimoe", "gemma3_text", "olmo3", "llama4_text"))


def test_blocks_of_more_tokens_than_a_cache_holds_are_refused() -> None:
    model = localize(small_model("mistral"), LocalityConfig("localist"))
    ids = torch.tensor([ITEMS[0]["input_ids"]])
    asked = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with dial(model, 0.5):
        with pytest.raises(ProglocError, match=r"of 25 tokens .* sliding window shows; expected use_cache=False"):
            model.generate(ids, **asked)
        assert model.generate(ids, **asked, use_cache=False).shape == (1, 27)


def test_a_probe_refuses_a_layer_that_hides_part_of_the_text() -> None:
    model = localize(small_model("gemma3_text"))
    ids = torch.tensor([ITEMS[0]["input_ids"]])

    def trace(layer: int, length: int) -> Trace:
        blocks = torch.arange(length) // BLOCK
        probe = Trace((layer,), blocks, blocks, queries=4)
        model(ids[:, :length], attention_request=AttentionRequest(probe=probe))
        return probe

    assert set(trace(1, 24).traced) == {1}
    assert set(trace(0, 8).traced) == {0}  # all of the text fits the window
    with pytest.raises(ProglocError, match=r"layer 0 attends within a window of the model's own"):
        trace(0, 24)


def test_packed_documents_are_apart_with_blocks_given_too() -> None:
    model = localize(small_model("mistral"))
    ids, start = torch.tensor([ITEMS[0]["input_ids"]]), 10
    packed = torch.cat([torch.arange(start), torch.arange(24 - start)])[None]
    settings = {"output_attentions": True, "attention_request": AttentionRequest(("sink_keys",))}
    with torch.no_grad():
        whole = log_masses(model(ids, position_ids=packed, block_ids=torch.arange(24)[None] // BLOCK, **settings))
        alone = log_masses(model(ids[:, start:], block_ids=torch.arange(start, 24)[None] // BLOCK, **settings))
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one[:, :, start:], other, rtol=1e-4, atol=1e-4)
        assert one[0, 0, :, 2].tolist() == [1] * 8 + [0] * 2 + [1] * 8 + [0] * 6
