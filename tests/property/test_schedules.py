import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progloc.schedules import parse_schedule
from progloc.schedules.budget import Budget

betas = st.floats(0.05, 20)
layer_counts = st.integers(2, 200)
denominators = st.sampled_from(["L-1", "L"])


def polynomial(beta: float, denominator: str, layers: int) -> list[float]:
    return parse_schedule(f"polynomial:{beta!r}", denominator)(layers)


@given(betas, denominators, layer_counts)
def test_a_polynomial_rises_from_0_and_stays_in_0_1(beta, denominator, layers):
    values = polynomial(beta, denominator, layers)
    assert len(values) == layers
    assert values[0] == 0
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values)


@given(betas, layer_counts)
def test_the_last_layer_is_wholly_local_over_l_minus_1_and_not_over_l(beta, layers):
    assert polynomial(beta, "L-1", layers)[-1] == 1
    assert polynomial(beta, "L", layers)[-1] < 1


@given(betas, betas, denominators, layer_counts)
def test_lambda_falls_with_beta_at_every_layer(one, other, denominator, layers):
    low, high = sorted([one, other])
    pairs = zip(polynomial(low, denominator, layers), polynomial(high, denominator, layers), strict=True)
    assert all(gentle >= steep for gentle, steep in pairs)


@given(betas, layer_counts)
def test_the_literal_formula_is_never_above_the_default(beta, layers):
    pairs = zip(polynomial(beta, "L", layers), polynomial(beta, "L-1", layers), strict=True)
    assert all(literal <= default for literal, default in pairs)


@given(st.floats(0, 1), st.integers(1, 200))
def test_a_uniform_schedule_is_the_same_in_every_layer(value, layers):
    assert parse_schedule(f"uniform:{value!r}")(layers) == [value] * layers


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_list_is_itself(values):
    assert parse_schedule(values)(len(values)) == values


@given(betas, layer_counts)
def test_the_name_a_polynomial_carries_reads_back_as_the_same_schedule(beta, layers):
    schedule = parse_schedule(f"polynomial:{beta!r}")
    assert parse_schedule(schedule.name)(layers) == schedule(layers)


@given(st.floats(0, 1), st.floats(0.1, 1e6), layer_counts)
def test_a_sigmoid_rises_within_0_1(middle, steepness, layers):
    values = parse_schedule(f"sigmoid:{middle!r},{steepness!r}")(layers)
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values)


means = st.floats(0.01, 0.99)
logits = st.lists(st.floats(-30, 30), min_size=1, max_size=20)


@given(means, st.booleans(), logits)
def test_a_learned_schedule_has_its_mean_whatever_the_logits(mean, monotone, values):
    lambdas = Budget(mean, monotone).lambdas(torch.tensor(values, dtype=torch.float64))
    assert lambdas.mean().item() == pytest.approx(mean, abs=1e-12)
    assert 0 <= lambdas.min() <= lambdas.max() <= 1
    if monotone:
        assert (lambdas.diff() >= 0).all()


@given(means, st.booleans(), st.lists(st.floats(-3, 3), min_size=2, max_size=6))
def test_the_gradient_of_a_learned_schedule_knows_of_the_mean(mean, monotone, values):
    given_logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Budget(mean, monotone).lambdas, given_logits)
