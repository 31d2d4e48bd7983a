"""Every family the README names, against its own eager attention, with a padded row."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from progloc import LocalityConfig, ProglocError, localize, log_masses
from progloc.accounts.effects import WHOLE, knocked_out, read, removals
from progloc.accounts.text import read_text
from progloc.fused_loss import FusedLoss
from progloc.measures.passes import evaluating
from wired_models import words_tokenizer

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 101,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES = {
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED,
    "gemma": GROUPED,
    "phi3": GROUPED,
    "olmo": GROUPED,
    "gpt_neox": {"attention_dropout": 0.0, "hidden_dropout": 0.0},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0},
}
OTHERS: dict[str, dict[str, Any]] = {
    "ctrl": {"dff": 64},
    "gpt_bigcode": {},
    "longcat_flash": {
        "num_layers": 2,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 16,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "head_dim": 8,
        "n_routed_experts": 4,
        "zero_expert_num": 1,
        "moe_topk": 2,
        "num_key_value_heads": 4,
    },
    "afmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "stablelm": {"num_key_value_heads": 2},
    "nemotron": {"num_key_value_heads": 2},
    "inkling_text": GROUPED,
    "falcon_h1": {
        **GROUPED,
        "mamba_d_ssm": 64,
        "mamba_d_state": 8,
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 8,
        "initializer_range": 0.2,
    },
    "deepseek_v32": {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_group": 1,
        "topk_group": 1,
        "num_key_value_heads": 4,
        "index_head_dim": 8,
        "index_n_heads": 2,
    },
    "jetmoe": {"num_key_value_heads": 2, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Families that not all of what follows is asked of, or that are refused."""


def build(family: str) -> tuple[PreTrainedModel, Tensor]:
    """A small model of the family, and two sequences of tokens; the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(family, **SHAPE, **{**FAMILIES, **OTHERS}[family])
        ).eval()
        return model, torch.randint(1, 101, (2, 17))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_masses(family: str) -> None:
    eager, ids = build(family)
    local = localize(copy.deepcopy(eager))
    eager.set_attn_implementation("eager")
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        expected, found = (
            m(input_ids=ids, attention_mask=mask, output_attentions=True, use_cache=False) for m in (eager, local)
        )
    real = mask.bool()
    torch.testing.assert_close(found.logits[real], expected.logits[real])
    block = (mask.cumsum(-1) - 1).clamp(min=0) // 5
    inside = (block[:, :, None] == block[:, None]) & real[:, None]
    masses = log_masses(found)
    assert len(masses) == len(local.locality.lambdas) == 2
    for layer, weights in zip(masses, expected.attentions, strict=True):
        rows = real[:, None].expand(-1, 4, -1)
        torch.testing.assert_close(layer[..., 0].exp()[rows], (weights * inside[:, None]).sum(-1)[rows])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("stablelm", "0 of its 2 layers hand block ids on to attention and log masses back"),
        ("nemotron", "0 of its 2 layers hand block ids on to attention and log masses back"),
        ("falcon_h1", "more than attention carries a token on to other blocks"),
        ("deepseek_v32", "it fails at a few tokens"),
        ("inkling_text", "this model's attention uses position_bias"),
    ],
)
def test_what_a_family_does_not_do_is_said_at_once(family: str, reason: str) -> None:
    model, ids = build(family)
    expected = model(input_ids=ids).logits
    with pytest.raises(ProglocError, match=reason) as caught:
        localize(model)
    assert type(model).__name__ in str(caught.value)
    assert torch.equal(model(input_ids=ids).logits, expected)
    assert not hasattr(model, "locality")


@pytest.mark.parametrize("family", ["afmoe", "jetmoe", *WHOLE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_can_be_served_is(family: str, dtype: torch.dtype) -> None:
    assert localize(build(family)[0].to(dtype)).locality.lambdas[-1] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fused_loss(family: str) -> None:
    model, ids = build(family)
    expected, found = copy.deepcopy(model), model
    expected(input_ids=ids, labels=ids).loss.backward()
    with FusedLoss(found):
        found(input_ids=ids, labels=ids).loss.backward()
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *WHOLE])
def test_what_an_audit_takes_away(family: str) -> None:
    model, ids = build(family)
    local = localize(model, LocalityConfig(blocks="fixed:4"), words_tokenizer(SHAPE["vocab_size"]))
    text = read_text(local, words_tokenizer(SHAPE["vocab_size"]), ids[0].tolist(), 14, 1)
    cuts = [(block, renormalise) for block in range(3) for renormalise in (True, False)]
    with evaluating(local):
        past = read(local, text, (1,)).past
        together = knocked_out(local, text, past, (1,), cuts)
        alone = [knocked_out(local, text, past, (1,), [cut])[0] for cut in cuts]
        sets = [[1], [1, 2], [2, 3]]
        for closed in (False, True):
            found = removals(local, text, past, sets, closed=closed)
            for blocks, log_prob in zip(sets, found, strict=True):
                left = torch.where(~torch.isin(text.division, torch.tensor(blocks)))[0]
                asked = {} if closed else {"position_ids": left[None], "attention_mask": torch.ones_like(left)[None]}
                logits = local(text.ids[left][None], **asked).logits[0, -4:-1]
                chosen = logits.log_softmax(-1).gather(-1, text.answer_ids[:, None])
                assert log_prob == pytest.approx(float(chosen.sum()), abs=1e-4)
    assert together == pytest.approx(alone, abs=1e-4)
    assert len({round(each, 6) for each in together}) > 3  # each cut has an effect of its own
