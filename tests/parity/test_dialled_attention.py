"""The dial in attention against its definition: every key outside the block at w times its odds (method.md §9)."""

from __future__ import annotations

import math

import pytest
import torch

from attention_cases import (
    BLOCKS,
    CHANNELS,
    CORNER,
    DOCUMENTS,
    HEADS,
    SCALING,
    blocks_of,
    by_definition,
    documents_of,
    gradients,
    mostly_slow,
    random_qkv,
)
from progloc.attention.fast import fast_attention

LENGTH = 23


@pytest.mark.slow
@pytest.mark.parametrize("keep_sink", [False, True], ids=["sink dialled", "sink kept"])
@pytest.mark.parametrize("outside", [0.0, 0.3])
@pytest.mark.parametrize("documents", mostly_slow(DOCUMENTS, "packed"))
@pytest.mark.parametrize("blocks", mostly_slow(BLOCKS, "uneven"))
def test_output_channels_and_gradients(blocks: str, documents: str, outside: float, keep_sink: bool) -> None:
    dial = {"outside": outside, "keep_sink": keep_sink}
    given = documents_of(documents, LENGTH), blocks_of(blocks, LENGTH)
    for heads in HEADS.values():
        for channels in CHANNELS:
            leaves = [x.requires_grad_() for x in random_qkv(heads, LENGTH, torch.float64)]
            found = fast_attention(*leaves, *given, scaling=SCALING, channels=channels, **dial)
            expected = by_definition(*leaves, *given, channels, temperature=1.0, **dial)
            for ours, defined in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, defined, rtol=1e-9, atol=1e-9)
            corner = (expected[1].detach() > CORNER) | ~expected[1].isfinite()
            corner[..., [name == "entropy" for name in ("log_mass", "log_sink", *channels)]] = False
            of_ours, of_definition = (
                gradients((output, masses.masked_fill(corner, 0.0)), leaves, corner)
                for output, masses in (found, expected)
            )
            for one, other in zip(of_ours, of_definition, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_the_formula_of_the_specification() -> None:
    """O_δ = [f·O_B + w·(O − f·O_B)] ÷ [f + w·(1 − f)], from two plain attentions."""
    w, given = 0.25, (None, blocks_of("uneven", LENGTH))
    q, k, v = random_qkv((4, 4), LENGTH, torch.float64)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    inside = causal & (given[1][:, None, :, None] == given[1][:, None, None, :])
    scores = (q @ k.transpose(-1, -2)) * SCALING
    whole, block = (scores.masked_fill(~keys, -math.inf) for keys in (causal, inside))
    f = (block.logsumexp(-1) - whole.logsumexp(-1)).exp()[..., None]
    of_all, of_block = whole.softmax(-1) @ v, block.softmax(-1) @ v
    output, masses = fast_attention(q, k, v, *given, scaling=SCALING, outside=w)
    torch.testing.assert_close(output, (f * of_block + w * (of_all - f * of_block)) / (f + w * (1 - f)))
    torch.testing.assert_close(masses[..., 0].exp(), (f / (f + w * (1 - f)))[..., 0])


@pytest.mark.parametrize("keep_sink", [False, True])
def test_at_the_end_of_the_dial_nothing_outside_is_seen(keep_sink: bool) -> None:
    """Changing every key and value outside a token's block (and sink) changes nothing for it."""
    blocks = torch.arange(LENGTH).expand(2, -1) // 5
    q, k, v = random_qkv((4, 2), LENGTH, torch.float64)
    changed = [x.clone() for x in (k, v)]
    for x in changed:
        x[:, :, int(keep_sink) : 15] += 100.0
    outputs = [
        fast_attention(q, *kv, None, blocks, scaling=SCALING, outside=0.0, keep_sink=keep_sink)[0]
        for kv in ((k, v), changed)
    ]
    torch.testing.assert_close(outputs[0][:, :, 15:], outputs[1][:, :, 15:])
    assert not torch.allclose(outputs[0][:, :, :15], outputs[1][:, :, :15])
