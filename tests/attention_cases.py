"""Queries, keys, blocks and documents to hold an attention path against the definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.reference import reference_attention

B, D = 2, 8
SCALING, TEMPERATURE = 0.6, 1.3
HEADS = {"every head its keys": (4, 4), "grouped": (4, 2)}
BLOCKS = ["fixed", "one token", "whole sequence", "uneven", "scattered"]
DOCUMENTS = ["one", "left padding", "right padding", "packed"]
CHANNELS = [(), ("entropy",), ("log_mass_no_sink",), ("log_mass_with_previous",), EXTRA_CHANNELS]
CORNER = -1e-5
"""Where a mass is 1 up to rounding, the clamp's derivative is whatever rounding left."""


def mostly_slow(names: list[str], fast: str) -> list[Any]:
    """Return the values of a parameter, all but one of them for the whole run of the tests alone."""
    return [name if name == fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def blocks_of(name: str, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    token = torch.arange(length).expand(B, length)
    return {
        "fixed": token // 5,
        "one token": token,
        "whole sequence": torch.zeros_like(token),
        "uneven": (torch.rand(B, length, generator=generator) < 0.15).long().cumsum(-1),
        "scattered": torch.randint(0, 6, (B, length), generator=generator),
    }[name]


def documents_of(name: str, length: int) -> Tensor | None:
    token = torch.arange(length)
    return {
        "one": None,
        "left padding": torch.stack([token * 0, -(token < length // 3).long()]),
        "right padding": torch.stack([token * 0, -(token >= length - length // 3).long()]),
        "packed": torch.stack([token // max(1, length // 2), token // max(1, length // 3)]),
    }[name]


def random_qkv(heads: tuple[int, int], length: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(B, length, number, D) for number in (heads[0], heads[1], heads[1])]
    return [(torch.randn(shape, generator=generator, dtype=torch.float64) * 1.5).to(dtype).transpose(1, 2)
            for shape in shapes]  # fmt: skip


def by_definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: Tensor | None,
    blocks: Tensor,
    channels: Sequence[str],
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    groups, length = q.shape[1] // k.shape[1], q.shape[2]
    allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(B, 1, length, length)
    if documents is not None:
        allowed = allowed & (documents[:, None, :, None] == documents[:, None, None, :])
    output, masses = reference_attention(
        q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), allowed, blocks,
        channels=channels, **{"scaling": SCALING, "temperature": TEMPERATURE, **settings},
    )  # fmt: skip
    assert masses is not None
    return output, masses


def gradients(results: tuple[Tensor, Tensor], leaves: list[Tensor], corner: Tensor) -> list[Tensor]:
    """Of each channel alone, and of all of them with the output, as random weights of them make losses."""
    generator = torch.Generator().manual_seed(7)
    output, masses = results
    weights = torch.randn(masses.shape, generator=generator, dtype=torch.float64).masked_fill(corner, 0.0)
    losses = list((masses * weights).sum((0, 1, 2)))
    losses.append(sum(losses) + (output * torch.randn(output.shape, generator=generator, dtype=torch.float64)).sum())
    return [
        gradient
        for loss in losses
        for gradient in torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
    ]
