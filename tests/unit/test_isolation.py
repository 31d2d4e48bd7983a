"""Isolation (method.md §14): I1–I5 on every served family, generation of every kind, and what is refused."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from generation_cases import KINDS, generated, in_a_thread, prompts
from progloc import READER, SHARED, LocalityConfig, ProglocError, delocalize, dial, isolate, localize, measure
from progloc.attention.request import AttentionRequest, LayerAttention
from progloc.isolating import odds_forbidden
from small_models import FAMILIES, small_model

NATS = 1e-5
ROLES = torch.tensor([[SHARED] * 2 + [0] * 6 + [1] * 7 + [2] * 5 + [READER] * 10])
T = ROLES.shape[1]
SOURCE = (ROLES[0] == 1).nonzero()[:, 0]
READERS = slice(20, T)


def ids(changed: bool = False) -> Tensor:
    """(1, T), with another text in source 1 where that is changed."""
    tokens = torch.randint(1, 101, (1, T), generator=torch.Generator().manual_seed(2))
    if changed:
        tokens[0, SOURCE] = tokens[0, SOURCE] % 100 + 1
    return tokens


def log_probs(model: Any, tokens: Tensor, **settings: Any) -> Tensor:
    """log p of the readers' tokens but the first, nats."""
    with torch.no_grad():
        logits = model(tokens, **settings).logits[0, READERS]
    return logits.log_softmax(-1)[:-1].gather(-1, tokens[0, READERS][1:, None])[:, 0]


def without_source() -> Tensor:
    mask = torch.ones(1, T, dtype=torch.long)
    mask[0, SOURCE] = 0
    return mask


def cutting(queries: Tensor) -> Callable[[LayerAttention], Tensor]:
    """A probe that cuts attention of some tokens (T,) to source 1, what is left renormalised."""

    def cut(layer: LayerAttention) -> Tensor:
        groups = layer.query.shape[1] // layer.key.shape[1]
        key, value = (x.repeat_interleave(groups, 1) for x in (layer.key, layer.value))
        seen = layer.mask.expand(1, -1, T, T).clone()
        seen[:, :, queries.nonzero(), SOURCE] = False
        scores = layer.lower(layer.query @ key.mT * layer.scale, slice(None), T, False)
        return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value

    return cut


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return localize(small_model(request.param), LocalityConfig("distributed", "fixed:4"))


def test_i1_no_source_moves_another(model: Any) -> None:
    def states(tokens: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack(model(tokens, output_hidden_states=True, use_cache=False).hidden_states)

    with isolate(model, ROLES):
        before, after = states(ids()), states(ids(changed=True))
    moved = (before - after).abs().amax((0, 1, 3))
    assert moved[ROLES[0] != 1][:-10].max() <= NATS  # shared tokens and other sources
    assert moved[SOURCE].min() > 1e-2
    plain = (states(ids()) - states(ids(changed=True))).abs().amax((0, 1, 3))
    assert plain[15:20].max() > 1e-2 or model.config.model_type == "llama4_text"  # whose chunks are shorter


def test_i2_cutting_readers_off_is_removal(model: Any) -> None:
    positions = torch.arange(T)[None]
    with isolate(model, ROLES):
        removed = log_probs(model, ids(), attention_mask=without_source(), position_ids=positions, use_cache=False)
        cut = AttentionRequest(probe=cutting(ROLES[0] == READER))
        torch.testing.assert_close(
            log_probs(model, ids(), attention_request=cut, use_cache=False), removed, rtol=0, atol=NATS
        )
    plain = log_probs(model, ids(), attention_request=cut, use_cache=False)
    assert not torch.allclose(plain, removed, atol=1e-2)


def test_i3_a_source_on_which_readers_put_no_mass_has_no_effect(model: Any) -> None:
    cut = AttentionRequest(probe=cutting(ROLES[0] == READER))  # by force: no mass in any layer
    with isolate(model, ROLES):
        before, after = (
            log_probs(model, ids(changed), attention_request=cut, use_cache=False) for changed in (False, True)
        )
    torch.testing.assert_close(before, after, rtol=0, atol=NATS)


def test_i4_keys_and_values_of_a_source_depend_on_it_alone(model: Any) -> None:
    caches = []
    for changed in (False, True):
        with torch.no_grad(), isolate(model, ROLES):
            caches.append(model(ids(changed), past_key_values=DynamicCache(), use_cache=True).past_key_values)
    for one, other in zip(caches[0].layers, caches[1].layers, strict=True):
        for x, y in ((one.keys, other.keys), (one.values, other.values)):
            torch.testing.assert_close(x[:, :, 15:20], y[:, :, 15:20], rtol=0, atol=NATS)
            torch.testing.assert_close(x[:, :, :8], y[:, :, :8], rtol=0, atol=NATS)


@pytest.mark.parametrize("family", FAMILIES)
def test_i5_removal_under_free_late_layers_is_cutting_every_later_token(family: str) -> None:
    model = localize(small_model(family), LocalityConfig("distributed", "fixed:4"))
    positions = torch.arange(T)[None]
    later = (torch.arange(T) > SOURCE.max()) & (ROLES[0] != 1)
    with isolate(model, ROLES, "sources:1"):
        removed = log_probs(model, ids(), attention_mask=without_source(), position_ids=positions, use_cache=False)
        cut = AttentionRequest(probe=cutting(later))
        torch.testing.assert_close(
            log_probs(model, ids(), attention_request=cut, use_cache=False), removed, rtol=0, atol=NATS
        )


def test_off_it_is_the_plain_model_to_the_bit(model: Any) -> None:
    plain = model(ids(), use_cache=False).logits
    for layers in (0, "sources:0", [0.0, 0.0]):
        with isolate(model, ROLES, layers):
            assert torch.equal(model(ids(), use_cache=False).logits, plain)
    assert torch.equal(model(ids(), use_cache=False).logits, plain)


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def tiny(request: pytest.FixtureRequest) -> Any:
    return localize(request.getfixturevalue(request.param)(), LocalityConfig("linear", "fixed:4"))


PROMPT_ROLES = torch.tensor([[SHARED] * 2 + [0] * 3 + [1] * 4 + [READER] * 2, [SHARED] * 5 + [0] * 4 + [READER] * 2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_cache_and_without_one_it_is_the_same_text(tiny: Any, kind: str) -> None:
    without = {name: value for name, value in KINDS[kind].items() if name != "cache_implementation"}
    with isolate(tiny, PROMPT_ROLES):
        text = generated(tiny, **KINDS[kind])
        assert torch.equal(text, generated(tiny, **without, use_cache=False))
    assert not torch.equal(text, generated(tiny, **without))


def test_a_prompt_read_in_parts_is_the_prompt(tiny: Any) -> None:
    tokens = ids()
    with torch.no_grad(), isolate(tiny, ROLES):
        at_once = tiny(tokens).logits
        past = DynamicCache()
        parts = [tiny(tokens[:, a:b], past_key_values=past).logits for a, b in ((0, 12), (12, 22), (22, T))]
    torch.testing.assert_close(torch.cat(parts, 1), at_once, rtol=0, atol=NATS)


def test_it_is_combined_with_the_dial(tiny: Any) -> None:
    tokens, mask = prompts()
    everywhere = [1.0] * len(tiny.locality.lambdas)
    with torch.no_grad():
        with isolate(tiny, PROMPT_ROLES), dial(tiny, everywhere):
            both = tiny(tokens, attention_mask=mask).logits
        with dial(tiny, everywhere), isolate(tiny, PROMPT_ROLES):
            torch.testing.assert_close(tiny(tokens, attention_mask=mask).logits, both)
        for alone in (isolate(tiny, PROMPT_ROLES), dial(tiny, everywhere)):
            with alone:
                assert not torch.allclose(tiny(tokens, attention_mask=mask).logits, both, atol=1e-3)


def test_calls_bring_their_own_roles(tiny: Any) -> None:
    tokens, _ = prompts()
    with isolate(tiny, PROMPT_ROLES):
        expected = tiny(tokens).logits
    with isolate(tiny):
        assert torch.equal(tiny(tokens, source_ids=PROMPT_ROLES).logits, expected)
        with pytest.raises(ProglocError, match="called without source_ids"):
            tiny(tokens)
    with pytest.raises(ProglocError, match="source_ids without isolation"):
        tiny(tokens, source_ids=PROMPT_ROLES)


def test_measuring_is_of_the_isolated_model(tiny: Any) -> None:
    rows = [{"input_ids": row.tolist()} for row in ids().repeat(3, 1)]
    plain = measure(tiny, rows)
    with isolate(tiny, ROLES):
        isolated = measure(tiny, rows)
    assert isolated.perplexity != plain.perplexity
    assert measure(tiny, rows).perplexity == plain.perplexity


def test_another_thread_is_isolated_or_refused(tiny: Any) -> None:
    plain = generated(tiny)
    with isolate(tiny, PROMPT_ROLES):
        expected = generated(tiny)
        assert "isolated in another thread and has no isolation in this one" in str(
            in_a_thread(lambda: generated(tiny))
        )
        here = contextvars.copy_context()
        assert torch.equal(in_a_thread(lambda: here.run(generated, tiny)), expected)
        for change in (localize, delocalize):
            with pytest.raises(ProglocError, match=r"leave `with isolate\(…\)` first"):
                change(tiny)
    assert torch.equal(in_a_thread(lambda: generated(tiny)), plain)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, (0, 0, 0)), ("sources", (0, 0, 0)), ("sources:0", (1, 1, 1)), ("sources:2", (0, 0, 1)),
        (0.25, (0.75, 0.75, 0.75)), ([1, 0.5, 0], (0, 0.5, 1)),
    ],
)  # fmt: skip
def test_layers(layers: Any, expected: tuple[float, ...]) -> None:
    assert odds_forbidden(layers, 3) == expected


@pytest.mark.parametrize(
    ("source_ids", "layers", "message"),
    [
        (ROLES, "sources:4", "isolation 'sources:4'; expected 'sources', 'sources:K' with K from 0 to 3"),
        (ROLES, "sentences", "isolation 'sentences'"),
        (ROLES, [1, 0], "isolation of 2 numbers; the model has 3 layers"),
        (ROLES, 1.5, "isolation of 1.5; expected"),
        (ROLES, float("nan"), "isolation of nan"),
        (ROLES, object, "isolation <class 'object'>"),
        (ROLES, ["a", 1, 1], r"isolation \['a', 1, 1\]"),
        (ROLES.float(), None, r"source_ids is torch.float32 of shape \(1, 30\); expected integers"),
        (ROLES > 0, None, "source_ids is torch.bool"),
        (ROLES[None], None, "expected integers"),
        (ROLES - 1, None, "a source id of -3; expected ≥ 0"),
        (torch.zeros(1, 0, dtype=torch.long), None, "expected integers"),
    ],
)  # fmt: skip
def test_what_is_refused(tiny_gpt2: Callable[..., Any], source_ids: Any, layers: Any, message: str) -> None:
    model = localize(tiny_gpt2())
    with pytest.raises(ProglocError, match=message) as refusal, isolate(model, source_ids, layers):
        pass
    assert "\n" not in str(refusal.value)


def test_another_batch_and_a_model_that_is_not_localised_are_refused(tiny_llama: Callable[..., Any]) -> None:
    model = localize(tiny_llama())
    with isolate(model, PROMPT_ROLES), pytest.raises(ProglocError, match="of 2 rows for a batch of 3"):
        model(prompts()[0].repeat(2, 1)[:3])
    with pytest.raises(ProglocError, match=r"run progloc.localize\(model"), isolate(tiny_llama(), PROMPT_ROLES):
        pass
