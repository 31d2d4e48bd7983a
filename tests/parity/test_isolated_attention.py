"""Isolation in attention against its definition: who sees whom by role, and what is forbidden at w times its odds."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from attention_cases import DOCUMENTS, HEADS, SCALING, documents_of, mostly_slow, random_qkv
from progloc.attention.isolation import READER, SHARED, Isolation
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest

LENGTH = 29
ROLES = {
    "a prefix, sources, a reader": [[-1] * 3 + [0] * 7 + [1] * 4 + [2] * 9 + [-2] * 6],
    "two layouts": [[-1] * 3 + [0] * 12 + [4] * 8 + [-2] * 6, [0] * 5 + [1] * 5 + [-2] * 12 + [1] * 2 + [-1] + [0] * 4],
    "nothing shared": [[5] * 12 + [3] * 12 + [-2] * 5],
    "no reader": [[-1] + [0] * 14 + [1] * 14],
    "readers alone": [[-2] * LENGTH],
    "shared alone": [[-1] * LENGTH],
    "one source": [[0] * LENGTH],
    "scattered": [[(7 * place) % 5 - 2 for place in range(LENGTH)]],
}  # fmt: skip


def forbidden(roles: Tensor) -> Tensor:
    """(B, 1, T, T), token by token, as method.md §14 has it."""
    rows = [
        [[not (i == READER or j == SHARED or (i >= 0 and i == j)) for j in row] for i in row] for row in roles.tolist()
    ]
    return torch.tensor(rows)[:, None]


def by_definition(q: Tensor, k: Tensor, v: Tensor, documents: Tensor | None, roles: Tensor, outside: float) -> Tensor:
    """The output (B, T, H, D): softmax of scores with log w added wherever a role forbids a key."""
    groups = q.shape[1] // k.shape[1]
    seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()[None, None]
    if documents is not None:
        seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    scores = q @ k.repeat_interleave(groups, 1).mT * SCALING
    scores = scores + forbidden(roles).double() * (math.log(outside) if outside else -1e30)
    return (scores.masked_fill(~seen, -math.inf).softmax(-1) @ v.repeat_interleave(groups, 1)).transpose(1, 2)


@pytest.mark.parametrize("implementation", [IMPLEMENTATION, REFERENCE])
@pytest.mark.parametrize("outside", [0.0, 0.3])
@pytest.mark.parametrize("documents", mostly_slow(DOCUMENTS, "packed"))
@pytest.mark.parametrize("layout", mostly_slow(list(ROLES), "two layouts"))
def test_output_and_gradients(layout: str, documents: str, outside: float, implementation: str) -> None:
    roles, labels = torch.tensor(ROLES[layout]), documents_of(documents, LENGTH)
    module = SimpleNamespace(layer_idx=0, num_key_value_groups=1, is_causal=True, training=True)
    real = torch.ones(2, LENGTH, dtype=torch.bool) if labels is None else labels >= 0
    weights = torch.randn(2, LENGTH, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    blocks = torch.arange(LENGTH)[None] // 4
    for heads in HEADS.values():
        module.num_key_value_groups = heads[0] // heads[1]
        leaves = [x.requires_grad_() for x in random_qkv(heads, LENGTH, torch.float64)]
        expected = by_definition(*leaves, labels, roles, outside)
        for measured in ({}, {"block_ids": blocks}):
            request = AttentionRequest(isolation=Isolation(roles, (outside,)), **measured)
            output, masses = AttentionInterface()[implementation](
                module, *leaves, labels, scaling=SCALING, attention_request=request
            )
            assert (masses is None) == (not measured)
            torch.testing.assert_close(output[real], expected[real], rtol=1e-9, atol=1e-9)
            gradients, defined = (
                torch.autograd.grad((result * weights)[real].sum(), leaves, retain_graph=True)
                for result in (output, expected)
            )
            for one, other in zip(gradients, defined, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("outside", [0.0, 0.3])
def test_log_masses_are_of_isolated_attention(outside: float) -> None:
    roles, blocks = torch.tensor(ROLES["two layouts"]), torch.arange(LENGTH).expand(2, -1) // 4
    q, k, v = random_qkv((4, 4), LENGTH, torch.float64)
    module = SimpleNamespace(layer_idx=0, num_key_value_groups=1, is_causal=True, training=True)
    request = AttentionRequest(isolation=Isolation(roles, (outside,)), block_ids=blocks)
    _, masses = AttentionInterface()[IMPLEMENTATION](module, q, k, v, None, scaling=SCALING, attention_request=request)
    one_hot = torch.nn.functional.one_hot(blocks).double()[:, None].expand(-1, 4, -1, -1)  # as values: mass by block
    by_block = by_definition(q, k, one_hot, None, roles, outside).transpose(1, 2)
    expected = by_block.gather(-1, blocks[:, None, :, None].expand(-1, 4, -1, -1))[..., 0]
    torch.testing.assert_close(masses[..., 0].exp(), expected)


def test_rows_whose_tokens_are_all_of_another_document_stay_finite() -> None:
    """A source whose document has nothing shared, beside one that has."""
    roles, labels = torch.tensor([[-1, -1, *[0] * 27]]), (torch.arange(LENGTH) // 9).expand(2, -1)
    leaves = [x.requires_grad_() for x in random_qkv((4, 2), LENGTH, torch.float32)]
    module = SimpleNamespace(layer_idx=0, num_key_value_groups=2, is_causal=True, training=True)
    request = AttentionRequest(isolation=Isolation(roles, (0.0,)))
    output, _ = AttentionInterface()[IMPLEMENTATION](module, *leaves, labels, attention_request=request)
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("measured", [False, True])
def test_under_autocast_it_is_that_of_half_precision(measured: bool) -> None:
    roles, module = (
        torch.tensor(ROLES["two layouts"]),
        SimpleNamespace(layer_idx=0, num_key_value_groups=2, training=True),
    )
    q, k, v = random_qkv((4, 2), LENGTH, torch.float32)
    request = AttentionRequest(
        isolation=Isolation(roles, (0.0,)), block_ids=torch.arange(LENGTH)[None] // 4 if measured else None
    )
    attend = AttentionInterface()[IMPLEMENTATION]
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = attend(module, q, k, v, None, scaling=SCALING, attention_request=request)
    expected = by_definition(*(x.bfloat16().double() for x in (q, k, v)), None, roles, 0.0)
    torch.testing.assert_close(output.double(), expected, rtol=0.05, atol=0.05)
