import math

import pytest

from progloc.errors import ProglocError
from progloc.schedules import NAMED_POLYNOMIALS, Schedule, parse_schedule


def test_the_five_polynomials_have_the_papers_names():
    assert NAMED_POLYNOMIALS == {"linear": 1, "quadratic": 2, "cubic": 3, "quartic": 4, "quintic": 5}


@pytest.mark.parametrize(
    ("name", "layer", "value"),
    [("linear", 6, 6 / 11), ("linear", 6, 0.545), ("quintic", 3, 0.0015), ("quintic", 9, 0.367), ("cubic", 11, 1.0)],
)
def test_values_in_12_layers_are_those_of_the_papers_formula_over_l_minus_1(name, layer, value):
    assert parse_schedule(name)(12)[layer] == pytest.approx(value, abs=5e-4)


def test_the_literal_formula_divides_by_l():
    assert parse_schedule("linear", denominator="L")(12) == [layer / 12 for layer in range(12)]


@pytest.mark.parametrize(("name", "half"), [("quartic", 0.0625), ("quintic", 0.03125)])
def test_the_middle_of_an_odd_stack(name, half):
    assert parse_schedule(name)(13)[6] == half


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("distributed", [0, 0, 0]),
        ("localist", [1, 1, 1]),
        ("uniform:0.3", [0.3, 0.3, 0.3]),
        ("polynomial:0.5", [0, math.sqrt(0.5), 1]),
        ("polynomial:2", [0, 0.25, 1]),
        (" quadratic ", [0, 0.25, 1]),
        ("sigmoid:0.5,4", [1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-2))]),
        ("sigmoid:1,5000", [0, 0, 0.5]),
        ("step:0", [1, 1, 1]),
        ("step:2", [0, 0, 1]),
        ("learnable:0.2", [0.2, 0.2, 0.2]),
        ("heads:0.5,linear", [0, 0.25, 0.5]),
        ([0.1, 0.9, 0.2], [0.1, 0.9, 0.2]),
    ],
)
def test_names_and_lists(name, values):
    assert parse_schedule(name)(3) == pytest.approx(values)


@pytest.mark.parametrize("denominator", ["L-1", "L"])
@pytest.mark.parametrize("name", [*NAMED_POLYNOMIALS, "polynomial:0.1"])
def test_a_model_of_one_layer_is_wholly_local(name, denominator):
    assert parse_schedule(name, denominator)(1) == [1.0]


def test_a_polynomial_knows_its_beta_and_others_have_none():
    assert parse_schedule("quintic").beta == parse_schedule("polynomial:5").beta == 5
    assert parse_schedule("localist").beta is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "quintik",
            r"unknown schedule 'quintik'; did you mean 'quintic'\? known: cubic, distributed, heads",
        ),
        ("", "unknown schedule ''; known: "),
        ("quintic:5", "'quintic' takes no argument"),
        ("uniform", "expected uniform:X"),
        ("uniform:1.5", "λ is 1.5"),
        ("uniform:nan", "expected uniform:X"),
        ("polynomial:0", "expected β > 0"),
        ("polynomial:inf", "expected polynomial:β"),
        ("sigmoid:0.5", "schedule 'sigmoid:0.5'; expected sigmoid:MID,STEEPNESS"),
        ("sigmoid:1.5,10", "schedule 'sigmoid:1.5,10'; expected sigmoid:MID,STEEPNESS"),
        ("sigmoid:0.5,-1", "expected sigmoid:MID,STEEPNESS"),
        ("sigmoid:0.5,1,2", "expected sigmoid:MID,STEEPNESS"),
        ("step", "expected step:ℓ with ℓ a layer"),
        ("step:-1", "schedule 'step:-1'; expected step:ℓ"),
        ("step:0.5", "expected step:ℓ with ℓ a layer"),
        ("heads:0.5", "expected heads:FRACTION,SCHEDULE"),
        ("heads:1.5,quintic", "expected heads:FRACTION,SCHEDULE"),
        ("heads:0.5,quintik", "did you mean 'quintic'"),
        ("heads:0.5,heads:0.5,linear", "expected a schedule of layers alone"),
        ("heads:0.5,learnable:0.2", "expected a schedule of layers alone"),
        ("learnable", "expected learnable:MEAN"),
        ("learnable:1", "expected learnable:MEAN"),
        ("learnable:0.2,rising", "expected learnable:MEAN or learnable:MEAN,monotone"),
        ([[0.5, 1.5]], r"λ\(0, 1\) is 1.5"),
        ([[0.5, 1], [0.5]], "gives 1 values in layer 1; the model has 2 heads"),
        ([[]], "layers without a number"),
        ([0.5, [0.5, 1]], "expected a schedule's name or a list of numbers, or of such lists"),
        ([0.5, -0.1], r"λ\(1\) is -0.1"),
        ([math.nan], r"λ\(0\) is nan"),
        ([], "at least one layer"),
        (["high"], "expected a schedule's name or a list of numbers"),
    ],
)
def test_what_is_no_schedule_is_refused(given, message):
    with pytest.raises(ProglocError, match=message):
        parse_schedule(given)


def test_a_list_has_to_have_one_number_a_layer():
    with pytest.raises(ProglocError, match="gives 2 values; the model has 12 layers"):
        parse_schedule([0.0, 1.0])(12)


def test_no_layers_at_all_are_refused():
    with pytest.raises(ProglocError, match="at least one layer"):
        parse_schedule("linear")(0)


def test_a_schedule_object_is_used_as_it_is_but_still_checked():
    mine = Schedule("mine", lambda layers: [2.0] * layers)
    assert parse_schedule(mine) is mine
    with pytest.raises(ProglocError, match=r"λ\(0\) is 2\.0 in the schedule mine"):
        mine(1)


def test_a_step_beyond_the_last_layer_is_refused():
    with pytest.raises(ProglocError, match=r"'step:3' in a model of 3 layers; expected step:ℓ, ℓ < 3"):
        parse_schedule("step:3")(3)


@pytest.mark.parametrize("name", ["sigmoid:0.75,12.5", "step:4", "heads:0.5,sigmoid:0.5,8", "learnable:0.2,monotone"])
def test_the_name_a_schedule_carries_is_the_one_it_was_given(name):
    assert parse_schedule(name).name == name


# ---- heads

LOCALITY = [[0.1, 0.4, 0.2, 0.3], [0.2, 0.2, 0.9, math.nan]]


def test_a_share_of_heads_are_the_most_local_ones_and_without_a_measurement_the_first():
    schedule = parse_schedule("heads:0.5,uniform:0.8")
    assert schedule.resolve(2, 4, LOCALITY) == ((0.4, 0.4), ((0, 0.8, 0, 0.8), (0.8, 0, 0.8, 0)))
    assert schedule.resolve(2, 4)[1] == ((0.8, 0.8, 0, 0), (0.8, 0.8, 0, 0))
    assert not schedule.settled


@pytest.mark.parametrize(("fraction", "count"), [("0", 0), ("0.01", 1), ("0.3", 2), ("0.5", 3), ("0.59", 3), ("1", 5)])
def test_a_share_is_rounded_to_whole_heads_and_at_least_one(fraction, count):
    lambdas, by_head = parse_schedule(f"heads:{fraction},localist").resolve(1, 5)
    assert sum(by_head[0]) == count
    assert lambdas == (count / 5,)


def test_a_matrix_is_itself_and_its_layers_are_means():
    schedule = parse_schedule([[0, 1], [0.5, 1]])
    assert schedule(2) == [0.5, 0.75]
    assert schedule.resolve(2, 2) == ((0.5, 0.75), ((0, 1), (0.5, 1)))
    assert schedule.settled
    with pytest.raises(ProglocError, match="gives 2 values in layer 0; the model has 4 heads"):
        schedule.resolve(2, 4)


def test_schedules_of_layers_have_no_matrix():
    assert parse_schedule("linear").resolve(3, 4) == ((0, 0.5, 1), None)
