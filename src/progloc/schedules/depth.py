"""Schedules that are a function of depth: uniform, polynomials, sigmoid and step."""

from __future__ import annotations

__all__ = ["NAMED_POLYNOMIALS"]

from collections.abc import Callable

import scipy  # its parts are loaded when they are first used

from progloc.errors import ProglocError
from progloc.schedules.base import Schedule, number, register_schedule, short

NAMED_POLYNOMIALS = {"linear": 1.0, "quadratic": 2.0, "cubic": 3.0, "quartic": 4.0, "quintic": 5.0}


def _depths(layers: int, denominator: str) -> list[float]:
    """Return ℓ/(L-1), or ℓ/L for the paper's literal formula (method.md §5); the one layer of a model is its last."""
    if layers == 1:
        return [1.0]
    last = layers if denominator == "L" else layers - 1
    return [layer / last for layer in range(layers)]


def _uniform(value: float) -> Callable[[int], list[float]]:
    if not 0 <= value <= 1:
        raise ProglocError(f"schedule 'uniform:{value:g}': λ is {value:g}; expected a number in [0, 1]")
    return lambda layers: [value] * layers


def _polynomial(beta: float, denominator: str) -> Callable[[int], list[float]]:
    return lambda layers: [depth**beta for depth in _depths(layers, denominator)]


@register_schedule("uniform")
def _(argument: str, denominator: str) -> Schedule:
    value = number(f"uniform:{argument}", argument, "uniform:X with X in [0, 1]")
    return Schedule(f"uniform:{short(value)}", _uniform(value))


@register_schedule("polynomial")
def _(argument: str, denominator: str) -> Schedule:
    beta = number(f"polynomial:{argument}", argument, "polynomial:β with β > 0")
    if beta <= 0:
        raise ProglocError(f"schedule 'polynomial:{argument}'; expected β > 0 (for a constant λ use uniform:X)")
    return Schedule(f"polynomial:{short(beta)}", _polynomial(beta, denominator), beta)


@register_schedule("sigmoid")
def _(argument: str, denominator: str) -> Schedule:
    """λ(ℓ) = 1 / (1 + exp(-STEEPNESS · (depth - MID)))."""
    name = f"sigmoid:{argument}"
    expected = "sigmoid:MID,STEEPNESS with MID in [0, 1], a relative depth, and STEEPNESS > 0"
    first, _, second = argument.partition(",")
    middle, steepness = (number(name, part, expected) for part in (first, second))
    if not 0 <= middle <= 1 or steepness <= 0:
        raise ProglocError(f"schedule '{name}'; expected {expected}")

    def values(layers: int) -> list[float]:
        return [float(scipy.special.expit(steepness * (depth - middle))) for depth in _depths(layers, denominator)]

    return Schedule(f"sigmoid:{short(middle)},{short(steepness)}", values)


@register_schedule("step")
def _(argument: str, denominator: str) -> Schedule:
    """λ = 0 before a layer, and 1 from it on."""
    if not argument.isdecimal():
        raise ProglocError(f"schedule 'step:{argument}'; expected step:ℓ with ℓ a layer, counted from 0")
    first = int(argument)

    def values(layers: int) -> list[float]:
        if first >= layers:
            raise ProglocError(f"schedule 'step:{first}' in a model of {layers} layers; expected step:ℓ, ℓ < {layers}")
        return [float(layer >= first) for layer in range(layers)]

    return Schedule(f"step:{first}", values)


def _register_names() -> None:
    def named(name: str, build: Callable[[str], Schedule]) -> None:
        @register_schedule(name)
        def factory(argument: str, denominator: str) -> Schedule:
            if argument:
                raise ProglocError(f"schedule '{name}:{argument}'; '{name}' takes no argument")
            return build(denominator)

    named("distributed", lambda denominator: Schedule("distributed", _uniform(0.0)))
    named("localist", lambda denominator: Schedule("localist", _uniform(1.0)))
    for name, beta in NAMED_POLYNOMIALS.items():
        named(name, lambda denominator, n=name, b=beta: Schedule(n, _polynomial(b, denominator), b))  # type: ignore[misc]


_register_names()
