"""Localised models against transformers' own eager attention, on GPT-2 and Llama."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from progloc import LocalityConfig, ProglocError, localize, log_masses
from progloc.attention import EXTRA_CHANNELS, REFERENCE
from progloc.objective import locality_penalty, penalty_by_head

T = 17
FAMILIES = ["tiny_gpt2", "tiny_llama"]


@pytest.fixture(params=FAMILIES)
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue(request.param)


def pair(build: Callable[..., Any], **config: Any) -> tuple[Any, Any]:
    plain = build()
    local = localize(copy.deepcopy(plain), LocalityConfig(**config), attn_implementation=REFERENCE)
    plain.set_attn_implementation("eager")
    return plain, local


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 101, (rows, T), generator=torch.Generator().manual_seed(1))


def padded(side: str) -> dict[str, torch.Tensor]:
    mask = torch.ones(2, T, dtype=torch.long)
    mask[0, slice(None, 4) if side == "left" else slice(-4, None)] = 0
    return {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def test_outputs_and_gradients_are_equal_to_the_bit(build: Callable[..., Any]) -> None:
    plain, local = pair(build)
    ids = tokens()
    expected = plain(input_ids=ids, labels=ids)
    found = local(input_ids=ids, labels=ids, output_attentions=True)
    assert torch.equal(found.logits, expected.logits)
    expected.loss.backward()
    found.loss.backward()
    for ours, theirs in zip(local.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_with_padding(build: Callable[..., Any], side: str) -> None:
    plain, local = pair(build)
    inputs = padded(side)
    expected = plain(input_ids=tokens(), **inputs).logits
    found = local(input_ids=tokens(), output_attentions=True, **inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real])


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_log_masses_are_those_of_the_eager_weights(build: Callable[..., Any], side: str) -> None:
    plain, local = pair(build)
    inputs = padded(side) if side != "none" else {}
    mask = inputs.get("attention_mask", torch.ones(2, T, dtype=torch.long))
    weights = plain(input_ids=tokens(), output_attentions=True, **inputs).attentions
    outputs = local(input_ids=tokens(), output_attentions=True, locality_channels=EXTRA_CHANNELS, **inputs)
    blocks = (mask.cumsum(-1) - 1).clamp(min=0) // 5
    inside = (blocks[:, :, None] == blocks[:, None, :]) & mask[:, None, :].bool()
    real = mask.bool()[:, None].expand(-1, 4, -1)
    first = mask.argmax(-1)
    for found, a in zip(log_masses(outputs), weights, strict=True):
        torch.testing.assert_close(found[..., 0].exp()[real], (a * inside[:, None]).sum(-1)[real])
        sink = torch.stack([a[row, :, :, at] for row, at in enumerate(first)])
        torch.testing.assert_close(found[..., 1].exp()[real], sink[real])
        torch.testing.assert_close(found[..., 3][real], torch.special.entr(a).sum(-1)[real], atol=1e-5, rtol=1e-4)


def test_the_penalty_alone_reaches_the_penalised_layers(build: Callable[..., Any]) -> None:
    _, local = pair(build, schedule="quintic")
    outputs = local(input_ids=tokens(), output_attentions=True)
    locality_penalty(penalty_by_head(log_masses(outputs)), torch.tensor(local.locality.lambdas)).backward()
    reached = {name for name, p in local.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    last = len(local.locality.lambdas) - 1
    assert any(f".{last}." in name and ("c_attn" in name or "q_proj" in name) for name in reached)
    assert any("wte" in name or "embed_tokens" in name for name in reached)


def test_gradient_checkpointing_keeps_the_penaltys_gradient(build: Callable[..., Any]) -> None:
    _, local = pair(build, schedule="localist")
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(local).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        outputs = model(input_ids=tokens(), labels=tokens(), output_attentions=True, use_cache=False)
        assert len(outputs.attentions) == len(model.locality.lambdas)
        (outputs.loss + penalty_by_head(log_masses(outputs)).sum()).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_block_ids_given_are_used(build: Callable[..., Any]) -> None:
    _, local = pair(build)
    ids = tokens()
    alone = torch.arange(T).expand(2, T)
    mass = log_masses(local(input_ids=ids, block_ids=alone, output_attentions=True))[0][..., 0].exp()
    other = log_masses(local(input_ids=ids, output_attentions=True))[0][..., 0].exp()
    one_block = local(input_ids=ids, block_ids=torch.zeros_like(ids), output_attentions=True)
    assert (other >= mass - 1e-6).all()
    assert other.sum() > mass.sum()
    torch.testing.assert_close(log_masses(one_block)[0][..., 0], torch.zeros(2, 4, T), atol=1e-6, rtol=0)


def test_generation_is_the_plain_models_and_measures_on_request(build: Callable[..., Any]) -> None:
    plain, local = pair(build)
    prompt = {"input_ids": tokens()[:, :6], "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(local.generate(**prompt, **settings), plain.generate(**prompt, **settings))
    static = {**settings, "cache_implementation": "static"}
    assert torch.equal(local.generate(**prompt, **static), plain.generate(**prompt, **static))
    with pytest.raises(ProglocError, match="static cache"):
        local.generate(**prompt, **static, output_attentions=True, return_dict_in_generate=True)
    asked = local.generate(**prompt, **settings, output_attentions=True, return_dict_in_generate=True)
    step_by_step = torch.cat([step[-1] for step in asked.attentions], dim=2)  # the last layer's rows, token by token
    at_once = local(input_ids=asked.sequences[:, :-1], output_attentions=True).attentions[-1]
    torch.testing.assert_close(step_by_step, at_once, atol=1e-5, rtol=1e-4)
