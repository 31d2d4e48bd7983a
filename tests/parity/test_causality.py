"""No output and no mass of a token depends on a later token: on every path, dialled, isolated, measured or not."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, StaticCache

from progloc import LocalityConfig, dial, isolate, localize, log_masses
from progloc.accounts.probes import Knockout, Trace
from progloc.attention.dial import Dial
from progloc.attention.isolation import Isolation
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest
from small_models import FAMILIES, small_model

K = 23
ROLES = torch.tensor([[-1, -1, *[0] * 6, *[1] * 5, -1, *[2] * 4, *[-2] * 6]])
"""(1, 24): shared tokens, three sources and, last, a reader."""
SHAPES = {  # query heads, key heads, key width, value width
    "values as wide as keys": (4, 2, 8, 8),
    "narrower values": (4, 2, 8, 6),
    "heads too wide for a kernel": (2, 2, 264, 264),
}
DIALS: list[dict[str, Any]] = [
    {},
    *({"dials": (Dial(outside, keep_sink),)} for outside, keep_sink in itertools.product((0.4, 0.0), (False, True))),
]


def documents(name: str) -> Tensor:
    token = torch.arange(K)
    return {
        "one": torch.zeros(2, K, dtype=torch.long),
        "left padding": torch.stack([token * 0, -(token < 6).long()]),
        "right padding": torch.stack([token * 0, -(token >= 17).long()]),
        "packed": torch.stack([token // 11, token // 9]),
    }[name]


def boolean(labels: Tensor, within: int = K) -> Tensor:
    """(B, 1, K, K): the earlier tokens of a document, the last so many of them."""
    token = torch.arange(K)
    near = (token[:, None] >= token) & (token[:, None] - token < within)
    return near & (labels[:, None, :, None] == labels[:, None, None, :]) & (labels >= 0)[:, None, None]


LAYOUTS: dict[str, tuple[int, int, Tensor | None]] = {  # the first query's place, tokens so far, and what is seen
    "no mask": (0, K, None),
    "one token after a past": (K - 1, K, None),
    "several tokens after a past": (K - 7, K, documents("one")),
    "several tokens after a padded past": (K - 7, K, documents("left padding")),
    "beginning of a static cache": (0, 15, None),
    "middle of a static cache": (9, 15, boolean(documents("one"))[:, :, 9:15]),
    **{name: (0, K, documents(name)) for name in ("left padding", "right padding", "packed")},
    **{f"{name}, whole mask": (0, K, boolean(documents(name))) for name in ("one", "left padding", "packed")},
    "a window of the model's own": (0, K, boolean(documents("one"), within=6)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("window", "dropout"), [(0, 0.0), (4, 0.0), (0, 0.3)], ids=["", "window", "dropout"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("implementation", [IMPLEMENTATION, REFERENCE])
def test_attention(implementation: str, shape: str, layout: str, window: int, dropout: float) -> None:
    heads, key_heads, width, value_width = SHAPES[shape]
    first, so_far, seen = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(2, *shape, generator=generator)
        for shape in ((heads, so_far - first, width), (key_heads, K, width), (key_heads, K, value_width))
    )
    module = SimpleNamespace(layer_idx=0, num_key_value_groups=heads // key_heads, is_causal=True, training=True)
    real = torch.ones(2, so_far, dtype=torch.bool)
    if seen is not None:
        real = (seen >= 0) if seen.ndim == 2 else seen.diagonal(first, -2, -1)[:, 0]
    real = real[:, -query.shape[2] :]
    blocks = (torch.arange(so_far) // 5).expand(2, -1)
    attend = AttentionInterface()[implementation]
    whole = first == 0 and so_far == K
    channels = EXTRA_CHANNELS if whole else [name for name in EXTRA_CHANNELS if "with_previous" not in name]
    asked: list[dict[str, Any]] = [
        {"block_ids": blocks, "channels": channels},
        *([{"block_ids": blocks, "layers": ()}, {}] if implementation == IMPLEMENTATION else [{}]),
    ]

    def results(changed: int | None, settings: dict[str, Any]) -> list[Tensor]:
        q, k, v = query.clone(), key.clone(), value.clone()
        if changed is not None:
            k[:, :, changed] += 3.0
            v[:, :, changed] -= 5.0
            q[:, :, changed - first : changed - first + 1 if changed >= first else 0] += 2.0
        torch.manual_seed(2)
        request = AttentionRequest(windows=(window,), **settings)
        output, masses = attend(module, q, k, v, seen, scaling=0.4, dropout=dropout, attention_request=request)
        return [output] if masses is None else [output, masses.transpose(1, 2)]  # (B, T, H, …)

    for request in asked:
        isolations = [{"isolation": Isolation(ROLES[:, :so_far], (outside,))} for outside in (0.4, 0.0)]
        for setting in [*isolations, *(DIALS if "block_ids" in request else [{}])]:
            before = results(None, {**request, **setting})
            for changed in {K - 1, so_far - 1, so_far - 4, 9}:
                after = results(changed, {**request, **setting})
                earlier = real & (torch.arange(first, so_far) < changed)
                for one, other in zip(before, after, strict=True):
                    assert torch.equal(one[earlier], other[earlier])


CHANGED = (23, 13)
"""Tokens of 24 that are changed, one at a time."""


def ids() -> Tensor:
    return torch.randint(1, 101, (2, 24), generator=torch.Generator().manual_seed(4))


def changed(at: int) -> Tensor:
    other = ids()
    other[:, at] = other[:, at] % 100 + 1
    return other


def assert_causal(run: Callable[[Tensor], list[Tensor]], real: Tensor | None = None) -> None:
    """Of logits and further results (B, T, …), those of real tokens before a changed one stay."""
    before = run(ids())
    for at in CHANGED:
        earlier = (torch.arange(24) < at).expand(2, -1)
        earlier = earlier if real is None else earlier & real
        after = run(changed(at))
        for one, other in zip(before, after, strict=True):
            torch.testing.assert_close(one[earlier], other[earlier], rtol=0, atol=1e-6)
        assert not torch.equal(before[0][:, at:], after[0][:, at:])


def dials(model: Any) -> list[Any]:
    everywhere = [1.0] * len(model.locality.lambdas)
    return [
        contextlib.nullcontext(),
        dial(model, [0.5] * len(everywhere)),
        dial(model, everywhere),
        dial(model, everywhere, keep_sink=True),
        isolate(model, ROLES),
        isolate(model, ROLES.flip(-1), "sources:1"),
        isolate(model, ROLES, 0.5),
    ]


def results(model: Any, tokens: Tensor, masses: bool, **settings: Any) -> list[Tensor]:
    with torch.no_grad():
        torch.manual_seed(0)
        outputs = model(tokens, output_attentions=masses, **settings)
    return [outputs.logits, *([layer.transpose(1, 2) for layer in log_masses(outputs)] if masses else [])]


@pytest.mark.slow
@pytest.mark.parametrize("masses", [False, True], ids=["logits alone", "with masses"])
@pytest.mark.parametrize("implementation", [IMPLEMENTATION, REFERENCE])
@pytest.mark.parametrize("family", FAMILIES)
def test_model(family: str, implementation: str, masses: bool) -> None:
    model = localize(small_model(family), LocalityConfig("linear"), attn_implementation=implementation)
    left = torch.ones(2, 24, dtype=torch.long)
    left[1, :5] = 0
    for dialled in dials(model)[:: 2 if masses else 1]:
        with dialled:
            assert_causal(lambda tokens: results(model, tokens, masses, use_cache=False))
            if not masses:
                assert_causal(lambda tokens: results(model, tokens, masses, attention_mask=left), left.bool())


@pytest.mark.parametrize("family", ["gpt2", "llama", "deepseek_v3"])
def test_model_in_training_with_dropout(family: str) -> None:
    model = localize(small_model(family, **{"attn_pdrop" if family == "gpt2" else "attention_dropout": 0.2})).train()
    for dialled in dials(model):
        with dialled:
            for masses in (False, True):
                assert_causal(lambda tokens: results(model, tokens, masses, use_cache=False))  # noqa: B023


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "minicpm3"])
def test_model_with_windows_and_packed_documents(family: str) -> None:
    positions = torch.cat([torch.arange(10), torch.arange(14)]).expand(2, -1)
    for settings in ({"window": 3}, {}):
        model = localize(small_model(family), LocalityConfig("linear", **settings))
        for dialled in dials(model):
            with dialled:
                for masses in (False, True):
                    for packed in ({}, {"position_ids": positions}):
                        assert_causal(lambda tokens: results(model, tokens, masses, use_cache=False, **packed))  # noqa: B023


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DynamicCache, StaticCache])
@pytest.mark.parametrize("family", ["llama", "deepseek_v2", "minicpm3"])
def test_model_after_a_past(family: str, kind: Any) -> None:
    model = localize(small_model(family))
    blocks = (torch.arange(24) // 5).expand(2, -1)

    def in_two_parts(tokens: Tensor) -> list[Tensor]:
        cache = kind() if kind is DynamicCache else kind(config=model.config, max_cache_len=32)
        parts = [
            results(
                model, tokens[:, start:end], masses=False, past_key_values=cache, use_cache=True,
                block_ids=blocks[:, :end], position_ids=torch.arange(start, end)[None],
            )[0]
            for start, end in ((0, 9), (9, 24))
        ]  # fmt: skip
        return [torch.cat(parts, 1)]

    for dialled in dials(model):
        with dialled:
            assert_causal(in_two_parts)
            torch.testing.assert_close(
                in_two_parts(ids())[0], results(model, ids(), False, use_cache=False)[0], rtol=1e-4, atol=1e-4
            )


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "deepseek_v3"])
def test_compiled(family: str) -> None:
    model = localize(small_model(family))
    compiled = torch.compile(model, backend="eager")
    for dialled in dials(model):
        with dialled:
            assert_causal(lambda tokens: results(compiled, tokens, False, use_cache=False))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "minicpm3", "gemma"])
def test_probes(family: str) -> None:
    model = localize(small_model(family))
    layers = range(len(model.locality.lambdas))
    cut = torch.zeros(2, 4, dtype=torch.bool)
    cut[1, 2:] = True
    cut_off = AttentionRequest(probe=Knockout(layers, cut, torch.tensor([True, False])))

    def traced(tokens: Tensor) -> list[Tensor]:
        trace = Trace(layers, torch.arange(24) // 5, torch.arange(24) // 5, queries=20)
        results(model, tokens[:1], False, attention_request=AttentionRequest(probe=trace), use_cache=False)
        return [
            part.movedim(1, 0)[None] for layer in layers for part in vars(trace.traced[layer]).values()
        ]  # of tokens 3 … 22

    for dialled in dials(model):
        with dialled:
            assert_causal(lambda tokens: results(model, tokens, False, attention_request=cut_off, use_cache=False))
            before = traced(ids())
            for one, other in zip(before, traced(changed(13)), strict=True):
                torch.testing.assert_close(one[:, : 13 - 3], other[:, : 13 - 3], rtol=0, atol=1e-6)
            for one, other in zip(before, traced(changed(23)), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
