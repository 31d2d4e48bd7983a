"""The penalty as method.md §4 weighs it."""

from __future__ import annotations

import math

import pytest
import torch

from progloc.attention.fast import fast_attention
from progloc.objective import Penalty, locality_penalty, penalty_by_head


def test_weighted_sum_and_mean_over_layers() -> None:
    by_head = torch.tensor([[1.0, 3.0], [2.0, 6.0], [0.5, 0.5]])
    lambdas = torch.tensor([0.0, 0.25, 1.0])
    assert locality_penalty(by_head, lambdas).item() == pytest.approx(0.25 * 4.0 + 0.5)
    assert locality_penalty(by_head, lambdas, "mean").item() == pytest.approx((0.25 * 4.0 + 0.5) / 3)


def test_a_lambda_for_each_head_weighs_the_mean_over_heads() -> None:
    by_head = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    lambdas = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert locality_penalty(by_head, lambdas).item() == pytest.approx((1.0 + 0.0) / 2 + (1.0 + 3.0) / 2)


def test_a_clip_bounds_the_penalty_and_leaves_a_dead_zone() -> None:
    log_mass = torch.tensor([-20.0, -1.0], requires_grad=True)
    penalty = Penalty(clip=1e-6)(log_mass)
    assert penalty[0].item() == pytest.approx(13.8155, abs=1e-4)
    penalty.sum().backward()
    assert log_mass.grad is not None
    assert log_mass.grad.tolist() == [0.0, -1.0]


def test_the_sum_over_a_step_does_not_depend_on_how_it_is_cut() -> None:
    masses = [torch.rand(4, 2, 6, 2).log() for _ in range(3)]
    whole = penalty_by_head(masses)
    parts = [penalty_by_head([m[i : i + 1] for m in masses], tokens=4 * 6) for i in range(4)]
    torch.testing.assert_close(sum(parts), whole)


def test_above_its_target_a_token_pays_nothing() -> None:
    log_mass = torch.tensor([0.9, 0.5, 0.1]).log().requires_grad_()
    penalty = Penalty(fidelity_target=0.5)(log_mass)
    assert penalty.tolist() == pytest.approx([0.0, 0.0, math.log(5)])
    penalty.sum().backward()
    assert log_mass.grad is not None
    assert log_mass.grad.tolist() == [0.0, 0.0, -1.0]


def test_the_sink_aware_penalty_neither_sees_nor_moves_the_sink() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 12, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    k.requires_grad_()
    penalty = Penalty(sink_aware=True)
    _, masses = fast_attention(q, k, v, None, torch.arange(12)[None] // 4, scaling=0.5, channels=penalty.channels)
    paid = penalty(masses[..., 2])
    paid.sum().backward()
    assert k.grad is not None
    assert (k.grad[:, :, 0] == 0).all()
    assert (k.grad[:, :, 1:] != 0).any(-1).all()
    others = (q @ k.detach().mT * 0.5)[0, :, 9, 1:10]  # token 9's scores with tokens 1 … 9
    torch.testing.assert_close(
        paid[0, :, 9], others.logsumexp(-1) - others[:, 7:].logsumexp(-1)
    )  # block 2: tokens 8, 9
    torch.testing.assert_close(paid[:, :, 0], torch.zeros_like(paid[:, :, 0]))
