"""Localised models against transformers' own attention, on GPT-2 and Llama: the definition against the eager kind, to
the bit, and the fast paths against torch's scaled dot-product attention.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, StaticCache

from margin_check import check
from progloc import LocalityConfig, ProglocError, localize, log_masses, measure
from progloc.attention import ops
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest
from progloc.objective import locality_penalty, penalty_by_head

T = 17
FAMILIES = ["tiny_gpt2", "tiny_llama"]
PLAIN = {REFERENCE: "eager", IMPLEMENTATION: "sdpa"}
"""What a localised model's own attention is compared with."""


@pytest.fixture(params=FAMILIES)
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=PLAIN)
def attention(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(build: Callable[..., Any], attention: str = IMPLEMENTATION, **config: Any) -> tuple[Any, Any]:
    plain = build()
    local = localize(copy.deepcopy(plain), LocalityConfig(**config), attn_implementation=attention)
    plain.set_attn_implementation(PLAIN[attention])
    return plain, local


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(0, 101, (rows, T), generator=torch.Generator().manual_seed(1))


def padded(side: str) -> dict[str, torch.Tensor]:
    mask = torch.ones(2, T, dtype=torch.long)
    mask[0, slice(None, 4) if side == "left" else slice(-4, None)] = 0
    return {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


@pytest.mark.parametrize("asked", [{}, {"output_attentions": True}], ids=["no masses", "masses"])
def test_outputs_and_gradients_are_equal_to_the_bit(
    build: Callable[..., Any], attention: str, asked: dict[str, Any]
) -> None:
    plain, local = pair(build, attention)
    ids = tokens()
    expected = plain(input_ids=ids, labels=ids)
    found = local(input_ids=ids, labels=ids, **asked)
    assert torch.equal(found.logits, expected.logits)
    expected.loss.backward()
    found.loss.backward()
    for ours, theirs in zip(local.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_with_padding(build: Callable[..., Any], attention: str, side: str) -> None:
    plain, local = pair(build, attention)
    inputs = padded(side)
    expected = plain(input_ids=tokens(), **inputs).logits
    found = local(input_ids=tokens(), output_attentions=True, **inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real])
    without = local(input_ids=tokens(), **inputs).logits
    if attention == IMPLEMENTATION:
        assert torch.equal(without[real], expected[real])


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_log_masses_are_those_of_the_eager_weights(build: Callable[..., Any], attention: str, side: str) -> None:
    plain, local = pair(build, attention)
    plain.set_attn_implementation("eager")
    inputs = padded(side) if side != "none" else {}
    mask = inputs.get("attention_mask", torch.ones(2, T, dtype=torch.long))
    weights = plain(input_ids=tokens(), output_attentions=True, **inputs).attentions
    outputs = local(
        input_ids=tokens(), output_attentions=True, attention_request=AttentionRequest(EXTRA_CHANNELS), **inputs
    )
    blocks = (mask.cumsum(-1) - 1).clamp(min=0) // 5
    inside = (blocks[:, :, None] == blocks[:, None, :]) & mask[:, None, :].bool()
    real = mask.bool()[:, None].expand(-1, 4, -1)
    first = mask.argmax(-1)
    for found, a in zip(log_masses(outputs), weights, strict=True):
        torch.testing.assert_close(found[..., 0].exp()[real], (a * inside[:, None]).sum(-1)[real])
        sink = torch.stack([a[row, :, :, at] for row, at in enumerate(first)])
        torch.testing.assert_close(found[..., 1].exp()[real], sink[real])
        torch.testing.assert_close(found[..., 3][real], torch.special.entr(a).sum(-1)[real], atol=1e-5, rtol=1e-4)


def test_the_penalty_alone_reaches_the_penalised_layers(build: Callable[..., Any], attention: str) -> None:
    _, local = pair(build, attention, schedule="quintic")
    outputs = local(input_ids=tokens(), output_attentions=True)
    locality_penalty(penalty_by_head(log_masses(outputs)), torch.tensor(local.locality.lambdas)).backward()
    reached = {name for name, p in local.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    last = len(local.locality.lambdas) - 1
    assert any(f".{last}." in name and ("c_attn" in name or "q_proj" in name) for name in reached)
    assert any("wte" in name or "embed_tokens" in name for name in reached)


def test_gradient_checkpointing_keeps_the_penaltys_gradient(build: Callable[..., Any], attention: str) -> None:
    _, local = pair(build, attention, schedule="localist")
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


def test_reentrant_checkpointing_is_refused_wherever_masses_are_asked(build: Callable[..., Any]) -> None:
    _, local = pair(build)
    local.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    for blocks in (None, torch.zeros(2, T, dtype=torch.long)):
        with pytest.raises(ProglocError, match="use_reentrant=True drops the penalty's gradient"):
            local(input_ids=tokens(), block_ids=blocks, output_attentions=True, use_cache=False)
    local(input_ids=tokens(), labels=tokens(), use_cache=False).loss.backward()  # without masses nothing is lost
    local.eval()(input_ids=tokens(), output_attentions=True)


@pytest.mark.slow
def test_block_ids_given_are_used(build: Callable[..., Any], attention: str) -> None:
    _, local = pair(build, attention)
    ids = tokens()
    alone = torch.arange(T).expand(2, T)
    mass = log_masses(local(input_ids=ids, block_ids=alone, output_attentions=True))[0][..., 0].exp()
    other = log_masses(local(input_ids=ids, output_attentions=True))[0][..., 0].exp()
    one_block = local(input_ids=ids, block_ids=torch.zeros_like(ids), output_attentions=True)
    assert (other >= mass - 1e-6).all()
    assert other.sum() > mass.sum()
    torch.testing.assert_close(log_masses(one_block)[0][..., 0], torch.zeros(2, 4, T), atol=1e-6, rtol=0)


def test_generation_is_the_plain_models_and_measures_on_request(build: Callable[..., Any], attention: str) -> None:
    plain, local = pair(build, attention)
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


def test_layers_that_are_not_asked_cost_nothing_and_keep_their_place(build: Callable[..., Any]) -> None:
    plain, local = pair(build)
    every = local(input_ids=tokens(), output_attentions=True)
    last = len(every.attentions) - 1
    some = local(input_ids=tokens(), output_attentions=True, attention_request=AttentionRequest(layers=(last,)))
    assert torch.equal(some.attentions[last], every.attentions[last])
    for layer in some.attentions[:last]:
        assert layer.shape == every.attentions[last].shape
        assert not layer.any()
        assert layer.untyped_storage().nbytes() == layer.element_size()
    none = local(input_ids=tokens(), output_attentions=True, attention_request=AttentionRequest(layers=()))
    assert torch.equal(none.logits, plain(input_ids=tokens()).logits)


def test_packed_documents_are_what_they_are_alone(build: Callable[..., Any], attention: str) -> None:
    _, local = pair(build, attention)
    lengths = (7, 4, 6)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    asked = {"output_attentions": True, "attention_request": AttentionRequest(EXTRA_CHANNELS), "use_cache": False}
    packed = local(input_ids=tokens(1), position_ids=positions, **asked)
    for part, ids in zip(positions.eq(0).cumsum(-1).unique(), tokens(1).split(lengths, dim=1), strict=True):
        there = positions.eq(0).cumsum(-1)[0] == part
        alone = local(input_ids=ids, **asked)
        torch.testing.assert_close(packed.logits[:, there], alone.logits)
        for one, other in zip(log_masses(packed), log_masses(alone), strict=True):
            torch.testing.assert_close(one[:, :, there], other, atol=1e-5, rtol=1e-4)


def test_packed_documents_measure_as_they_do_alone(build: Callable[..., Any]) -> None:
    _, local = pair(build)
    lengths = (7, 4, 6)
    ids = tokens(1)[0]
    alone = measure(local, [{"input_ids": part} for part in ids.split(lengths)])
    packed = {"input_ids": ids, "position_ids": torch.cat([torch.arange(length) for length in lengths])}
    together = measure(local, [packed], collator=lambda items: {name: items[0][name][None] for name in packed})
    assert together.tokens == alone.tokens
    for name, value in alone.model.items():
        assert together.model[name] == pytest.approx(value, rel=1e-4)
    for name, value in alone.chance.items():
        assert together.chance[name] == pytest.approx(value, rel=1e-6)
    assert together.perplexity == pytest.approx(alone.perplexity, rel=1e-5)


KERNELS = {
    torch.ops.progloc.segment_attention.default: ops._forward._init_fn,
    torch.ops.progloc.segment_attention_backward.default: ops._backward._init_fn,
    torch.ops.progloc.sink_scores.default: ops._sink_scores._init_fn,
    torch.ops.progloc.sink_scores_backward.default: ops._sink_scores_backward._init_fn,
}


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returns, and looks into progloc's own, which are opaque."""

    numbers = 0
    looked_into = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in KERNELS:
            self.looked_into += 1
            with self:
                return KERNELS[func](*args, **(kwargs or {}))
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return found


@pytest.mark.slow
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_nothing_grows_with_the_square_of_the_length(build: Callable[..., Any], side: str) -> None:
    _, local = pair(lambda: build(n_positions=1024, max_position_embeddings=1024), schedule="localist")
    ids = torch.randint(0, 101, (1, 1024), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if side != "none":
        mask[0, slice(None, 100) if side == "left" else slice(-100, None)] = 0
    with Largest() as largest:
        outputs = local(input_ids=ids, attention_mask=mask, labels=ids, output_attentions=True, use_cache=False)
        (outputs.loss + penalty_by_head(log_masses(outputs), mask).sum()).backward()
        measure(local, [{"input_ids": ids[0], "attention_mask": mask[0]}])
        check(local, [{"input_ids": ids[0], "attention_mask": mask[0]}])
    assert largest.looked_into > 10
    assert ids.numel() * 101 <= largest.numbers < 1024**2 / 4


@pytest.mark.slow
@pytest.mark.parametrize("side", ["none", "left", "packed"])
def test_compiled_without_a_graph_break(build: Callable[..., Any], side: str) -> None:
    _, local = pair(build, schedule="localist")
    inputs = padded(side) if side == "left" else {}
    if side == "packed":
        inputs = {"position_ids": torch.cat([torch.arange(7), torch.arange(T - 7)])[None].expand(2, -1)}
    real = inputs.get("attention_mask", torch.ones(2, T, dtype=torch.long)).bool()
    local.loss_type = "ForCausalLM"  # GPT2LMHeadModel's own, which it otherwise warns of not finding
    torch._dynamo.reset()
    results = []
    for model in (local, torch.compile(copy.deepcopy(local), backend="aot_eager", fullgraph=True)):
        outputs = model(input_ids=tokens(), labels=tokens(), output_attentions=True, use_cache=False, **inputs)
        by_head = penalty_by_head(log_masses(outputs), real)
        (outputs.loss + by_head.sum()).backward()
        results.append((outputs.logits[real], by_head, *(p.grad for p in model.parameters())))
    for compiled, eager in zip(*reversed(results), strict=True):
        torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=1e-4)


def test_dropout_is_done_right_if_not_fast(tiny_gpt2: Callable[..., Any]) -> None:
    plain, local = pair(lambda: tiny_gpt2(attn_pdrop=0.5))
    for model in (plain, local):
        model.train()
    outputs = []
    for model, asked in ((plain, {}), (local, {}), (local, {"output_attentions": True})):
        torch.manual_seed(4)
        outputs.append(model(input_ids=tokens(), **asked))
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert not torch.equal(outputs[2].logits, local.eval()(input_ids=tokens()).logits)
    masses = log_masses(local(input_ids=tokens(), output_attentions=True))
    torch.testing.assert_close(log_masses(outputs[2])[0], masses[0], atol=1e-5, rtol=1e-4)  # before dropout


def test_a_mask_given_by_position_is_the_mask(build: Callable[..., Any]) -> None:
    _, local = pair(build)
    mask = torch.ones(2, T, dtype=torch.long)
    mask[0, :3] = 0  # no multiple of a block
    names = list(inspect.signature(type(local).forward).parameters)[1:]
    given = {"input_ids": tokens(), "attention_mask": mask}
    by_position = [given.get(name) for name in names[: names.index("attention_mask") + 1]]
    expected = local(**given, output_attentions=True, use_cache=False)
    found = local(*by_position, output_attentions=True, use_cache=False)
    for one, other in zip(log_masses(found), log_masses(expected), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_measured_is_refused(build: Callable[..., Any]) -> None:
    _, local = pair(build)
    with pytest.raises(ProglocError, match="is_causal=False"):
        local(input_ids=tokens(), output_attentions=True, is_causal=False, use_cache=False)
    cache = StaticCache(local.config, max_cache_len=32)
    with pytest.raises(ProglocError, match="static cache"):
        local(
            input_ids=tokens(), output_attentions=True, past_key_values=cache, block_ids=torch.zeros(2, 32).long()
        )  # fmt: skip


def test_values_of_another_width_than_keys() -> None:
    shape = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": 101, "q_lora_rank": 16,
        "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12, "n_group": 1,
        "topk_group": 1, "first_k_dense_replace": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model("deepseek_v3", **shape)).eval()
    local = localize(copy.deepcopy(plain))
    plain.set_attn_implementation("eager")
    expected, found = (m(input_ids=tokens(), output_attentions=True, use_cache=False) for m in (plain, local))
    torch.testing.assert_close(found.logits, expected.logits)
    inside = (torch.arange(T)[:, None] // 5 == torch.arange(T) // 5).float()
    for masses, weights in zip(log_masses(found), expected.attentions, strict=True):
        torch.testing.assert_close(masses[..., 0].exp(), (weights * inside).sum(-1))
