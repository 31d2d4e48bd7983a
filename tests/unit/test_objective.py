"""The penalty as SPEC §4 weighs it."""

from __future__ import annotations

import pytest
import torch

from progloc.objective import locality_penalty, penalty_by_head, token_penalty


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
    penalty = token_penalty(torch.stack([log_mass, log_mass], -1), clip=1e-6)
    assert penalty[0].item() == pytest.approx(13.8155, abs=1e-4)
    penalty.sum().backward()
    assert log_mass.grad is not None
    assert log_mass.grad.tolist() == [0.0, -1.0]


def test_the_sum_over_a_step_does_not_depend_on_how_it_is_cut() -> None:
    masses = [torch.rand(4, 2, 6, 2).log() for _ in range(3)]
    whole = penalty_by_head(masses)
    parts = [penalty_by_head([m[i : i + 1] for m in masses], tokens=4 * 6) for i in range(4)]
    torch.testing.assert_close(sum(parts), whole)
