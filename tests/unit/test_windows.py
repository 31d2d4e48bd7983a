"""Sparse early layers: attention within a window against its definition, in attention and in models."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from attention_cases import DOCUMENTS, HEADS, SCALING, documents_of, random_qkv
from progloc import LocalityConfig, ProglocError, dial, localize, measure
from progloc.attention.masses import log_masses
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest
from progloc.attention.windows import windowed_attention, windowed_mask
from small_models import small_model

LENGTH, WINDOW = 37, 5


def causal(documents: Tensor | None) -> Tensor:
    allowed = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(2, 1, -1, -1)
    return allowed if documents is None else allowed & (documents[:, None, :, None] == documents[:, None, None, :])


def by_hand(allowed: Tensor) -> Tensor:
    """The window of each query, key by key."""
    seen = torch.zeros_like(allowed)
    for b, _, i, j in allowed.nonzero().tolist():
        first = int(allowed[b, 0, i].nonzero()[0])
        seen[b, 0, i, j] = (i - first) // WINDOW - (j - first) // WINDOW <= 1 or j == first
    return seen


@pytest.mark.parametrize("documents", DOCUMENTS)
def test_the_mask_is_a_chunk_the_one_before_and_the_first_token(documents: str) -> None:
    allowed = causal(documents_of(documents, LENGTH))
    assert torch.equal(windowed_mask(allowed, WINDOW), by_hand(allowed))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("documents", DOCUMENTS)
def test_attention_and_its_gradients_are_those_of_the_mask(documents: str, heads: str) -> None:
    given = documents_of(documents, LENGTH)
    leaves = [x.requires_grad_() for x in random_qkv(HEADS[heads], LENGTH, torch.float64)]
    found = windowed_attention(*leaves, given, WINDOW, SCALING)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *leaves, attn_mask=by_hand(causal(given)), scale=SCALING, enable_gqa=heads == "grouped"
    )
    torch.testing.assert_close(found, expected)
    pull = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(*(torch.autograd.grad(x, leaves, pull) for x in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("documents", DOCUMENTS)
def test_what_is_seen_is_counted_as_the_mask_has_it(documents: str) -> None:
    labels = documents_of(documents, LENGTH)
    labels = torch.zeros(2, LENGTH, dtype=torch.long) if labels is None else labels
    blocks = torch.arange(LENGTH).expand(2, -1) // 7
    seen = by_hand(causal(labels))
    masses = AttentionInterface()[IMPLEMENTATION](
        SimpleNamespace(layer_idx=0), *random_qkv((4, 2), LENGTH, torch.float32), labels,
        attention_request=AttentionRequest(("keys", "block_keys", "sink_keys"), block_ids=blocks, windows=(WINDOW,)),
    )[1]  # fmt: skip
    in_block = seen & (blocks[:, None, :, None] == blocks[:, None, None, :])
    for found, keys in zip(masses[..., 2:4].unbind(-1), (seen, in_block), strict=True):
        assert torch.equal(found, keys.sum(-1).expand_as(found))
    assert (masses[..., 4] == 1).all()


def sparse(model: Any, attention: str = IMPLEMENTATION) -> Any:
    """Layers with λ = 0 have a window: the first one."""
    return localize(model, LocalityConfig("linear", "fixed:4", window=3), attn_implementation=attention)


def ids() -> Tensor:
    return torch.randint(1, 101, (2, 24), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def tiny(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("masses", [False, True], ids=["logits alone", "with masses"])
def test_a_model_is_that_of_the_definition(tiny: Callable[..., Any], masses: bool) -> None:
    mask = torch.ones_like(ids())
    mask[1, :5] = 0
    found = []
    for attention in (IMPLEMENTATION, REFERENCE):
        model = sparse(tiny(), attention)
        with torch.no_grad():
            outputs = model(ids(), attention_mask=mask, output_attentions=masses)
        found.append(outputs.logits[mask.bool()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    plain = localize(tiny(), LocalityConfig("linear", "fixed:4"))(ids(), attention_mask=mask).logits[mask.bool()]
    assert not torch.allclose(found[0], plain, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"cache_implementation": "static"}])
@pytest.mark.parametrize("delta", [0.0, 0.7])
def test_generated_token_by_token_it_is_what_one_pass_gives(
    tiny: Callable[..., Any], settings: dict[str, Any], delta: float
) -> None:
    model = sparse(tiny())
    asked = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad(), dial(model, delta):
        found = model.generate(ids(), **asked, **settings)
        again = {name: value for name, value in settings.items() if name == "num_beams"}
        assert torch.equal(found, model.generate(ids(), **asked, **again, use_cache=False))


def test_without_a_kernel_it_has_its_window_too() -> None:
    logits = []
    for attention in (IMPLEMENTATION, REFERENCE):
        with torch.no_grad():
            logits.append(sparse(small_model("deepseek_v3"), attention)(ids(), use_cache=False).logits)
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


def test_a_layer_without_a_number_and_a_request_is_plain() -> None:
    qkv = random_qkv((4, 4), LENGTH, torch.float32)
    output, masses = AttentionInterface()[IMPLEMENTATION](SimpleNamespace(is_causal=False), *qkv, None)
    assert torch.equal(output, torch.nn.functional.scaled_dot_product_attention(*qkv).transpose(1, 2))
    assert masses is None


def test_a_free_layer_has_a_window_and_no_penalty(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2(), LocalityConfig("polynomial:5", window=3))  # λ = 0, 0.03, 1
    assert model.locality.windows == (3, 3, 0)
    assert model.locality.lambdas == (0.0, 0.0, 1.0)


def test_which_layers_are_free_has_to_be_known_beforehand(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match=r"a window with the schedule 'learnable:0.5', whose λ training finds"):
        localize(tiny_gpt2(), LocalityConfig("learnable:0.5", window=3))


def test_chance_is_of_what_a_layer_sees(tiny_gpt2: Callable[..., Any]) -> None:
    data = [{"input_ids": row.tolist()} for row in ids()]
    model = sparse(tiny_gpt2())
    report = measure(model, data)
    chances = [layer.chance_fidelity for layer in report.layers]
    assert chances[0] > chances[1] == chances[2]
    with torch.no_grad():
        first = log_masses(model(ids(), output_attentions=True))[0][..., 0]
    assert report.layers[0].fidelity == pytest.approx(first.exp().mean().item(), rel=1e-5)
