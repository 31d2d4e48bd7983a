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
        ([0.1, 0.9, 0.2], [0.1, 0.9, 0.2]),
    ],
)
def test_names_and_lists(name, values):
    assert parse_schedule(name)(3) == values


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
            r"unknown schedule 'quintik'; did you mean 'quintic'\? known: cubic, distributed, linear",
        ),
        ("", "unknown schedule ''; known: "),
        ("quintic:5", "'quintic' takes no argument"),
        ("uniform", "expected uniform:X"),
        ("uniform:1.5", "λ is 1.5"),
        ("uniform:nan", "expected uniform:X"),
        ("polynomial:0", "expected β > 0"),
        ("polynomial:inf", "expected polynomial:β"),
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
