"""The Triton kernels against segment attention written out in double precision, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":  # read when transformers imports triton
    pytest.skip("needs CUDA, or TRITON_INTERPRET=1 in the environment", allow_module_level=True)

from progloc.attention.triton_segments import segment_backward, segment_forward

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, H, KEY_HEADS = 2, 4, 2
SCALING = 0.4
CLOSE = {torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""The largest error allowed, relative to the largest entry; for halves it is the rounding of what is stored."""


def labels(kind: str, T: int) -> Tensor:
    """The segment of each token, (B, T); no two sequences are divided alike."""
    generator = torch.Generator().manual_seed(T)
    if kind == "one token":
        return torch.arange(T).expand(B, T)
    if kind == "whole":
        return torch.zeros(B, T, dtype=torch.long)
    if kind == "unequal":
        return (torch.rand(B, T, generator=generator) < 0.08).cumsum(-1)
    return torch.randint(0, max(2, T // 12), (B, T), generator=generator)  # scattered


def places(segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """order, start and end of a partition."""
    by_segment, order = segments.sort(dim=-1, stable=True)
    start = torch.searchsorted(by_segment, by_segment)
    end = torch.searchsorted(by_segment, by_segment, right=True)
    return order.int().to(DEVICE), start.int().to(DEVICE), end.int().to(DEVICE)


def heads(count: int, T: int, D: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Random (B, count, T, D) as models hand it over: a part of a wider projection, seen transposed."""
    generator = torch.Generator().manual_seed(seed)
    projected = torch.randn(B, T, 2 * count * D, generator=generator).to(DEVICE, dtype)
    return projected[..., : count * D].unflatten(-1, (count, D)).transpose(1, 2)


def by_definition(query: Tensor, key: Tensor, value: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp with every score in memory."""
    key, value = (x.repeat_interleave(H // KEY_HEADS, dim=1) for x in (key, value))
    same = segments[:, None, :, None] == segments[:, None, None, :]
    scores = (query @ key.transpose(-1, -2) * SCALING).masked_fill(~same.to(DEVICE), float("-inf"))
    scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def assert_close(found: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    assert found is not None
    assert found.shape == expected.shape
    assert torch.isfinite(found).all()
    assert (found.double() - expected).abs().max() <= CLOSE[dtype] * expected.abs().max().clamp(min=1.0)


def check(segments: Tensor, D: int, dtype: torch.dtype, with_output: bool, with_lse: bool) -> None:
    """Forward and backward against the definition and autograd, from the same inputs in double precision."""
    T = segments.shape[1]
    query, key, value = (heads(count, T, D, dtype, seed) for seed, count in enumerate((H, KEY_HEADS, KEY_HEADS)))
    leaves = [x.double().requires_grad_() for x in (query, key, value)]
    output, lse = by_definition(*leaves, segments)
    order, start, end = places(segments)
    values = value if with_output else None
    found_output, found_lse = segment_forward(query, key, values, order, start, scaling=SCALING)
    assert_close(found_lse, lse.detach(), dtype)
    if with_output:
        assert_close(found_output, output.detach(), dtype)
    else:
        assert found_output is None

    grad_output = heads(H, T, D, dtype, seed=3) if with_output else None
    grad_lse = torch.randn(B, H, T, generator=torch.Generator().manual_seed(4)).to(DEVICE) if with_lse else None
    expected = torch.autograd.grad(
        [x for x, grad in ((output, grad_output), (lse, grad_lse)) if grad is not None],
        leaves if with_output else leaves[:2],
        [grad.double() for grad in (grad_output, grad_lse) if grad is not None],
    )
    found = segment_backward(
        grad_output, grad_lse, query, key, values, found_output, found_lse, order, start, end, scaling=SCALING
    )
    for ours, written_out in zip(found, expected, strict=False):
        assert_close(ours, written_out, dtype)
        assert written_out.abs().max() > 1e-2  # so that a gradient of zeros would be seen
    assert (found[2] is None) == (not with_output)


KINDS = ["one token", "whole", "unequal", "scattered"]
HALVES = [
    torch.float16,
    pytest.param(
        torch.bfloat16, marks=pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter cannot multiply bfloat16")
    ),
]


@pytest.mark.parametrize("T", [1, 7, 67])
@pytest.mark.parametrize("kind", KINDS)
def test_log_sum_exp_alone(kind: str, T: int) -> None:
    check(labels(kind, T), 16, torch.float32, with_output=False, with_lse=True)


@pytest.mark.parametrize(("kind", "T"), [("one token", 1), ("whole", 7), ("unequal", 67), ("scattered", 67)])
def test_with_values(kind: str, T: int) -> None:
    check(labels(kind, T), 16, torch.float32, with_output=True, with_lse=True)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_log_sum_exp_alone_in_half_precision(kind: str, dtype: torch.dtype) -> None:
    check(labels(kind, 130), 16, dtype, with_output=False, with_lse=True)


@pytest.mark.parametrize("dtype", HALVES)
def test_with_values_in_half_precision(dtype: torch.dtype) -> None:
    check(labels("unequal", 130), 80, dtype, with_output=True, with_lse=True)


@pytest.mark.parametrize("with_output", [False, True])
def test_head_width_that_is_no_power_of_two(with_output: bool) -> None:
    check(labels("scattered", 33), 80, torch.float32, with_output, with_lse=True)


def test_gradient_of_the_output_alone() -> None:
    check(labels("unequal", 33), 16, torch.float32, with_output=True, with_lse=False)
