from hypothesis import given
from hypothesis import strategies as st

from progloc.schedules import parse_schedule

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
