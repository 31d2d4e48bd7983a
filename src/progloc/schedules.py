"""λ(ℓ): how local each layer has to be (SPEC §5).

A schedule is a function of depth. To add one, write a factory that takes the text after the colon in its name and
register it::

    @register_schedule("cosine")
    def cosine(argument: str, denominator: str) -> Schedule:
        return Schedule("cosine", lambda n: [0.5 - 0.5 * math.cos(math.pi * l / max(n - 1, 1)) for l in range(n)])
"""

from __future__ import annotations

__all__ = ["NAMED_POLYNOMIALS", "Schedule", "listed_values", "parse_schedule", "register_schedule"]

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from progloc.errors import ProglocError
from progloc.registry import Registry

NAMED_POLYNOMIALS = {"linear": 1.0, "quadratic": 2.0, "cubic": 3.0, "quartic": 4.0, "quintic": 5.0}


@dataclass(frozen=True)
class Schedule:
    """A named λ(ℓ). Calling it with the number of layers L returns L numbers in [0, 1], input to output.

    Raises:
        ProglocError: on a call, where a value is outside [0, 1] or there is not one a layer.
    """

    name: str
    function: Callable[[int], Sequence[float]] = field(repr=False)
    beta: float | None = None
    """The exponent β, for polynomials."""

    def __call__(self, layers: int) -> list[float]:
        """Return λ(0) … λ(L-1)."""
        if layers < 1:
            raise ProglocError(f"a schedule needs at least one layer; given {layers}")
        values = [float(value) for value in self.function(layers)]
        if len(values) != layers:
            raise ProglocError(f"the schedule {self.name} gives {len(values)} values; the model has {layers} layers")
        for layer, value in enumerate(values):
            if not 0 <= value <= 1:
                raise ProglocError(f"λ({layer}) is {value} in the schedule {self.name}; expected a number in [0, 1]")
        return values


Factory = Callable[[str, str], Schedule]
_registry: Registry[Factory] = Registry("schedule", "progloc.schedules")
register_schedule = _registry.register
"""Decorator: file a factory ``(argument, denominator) -> Schedule`` under a name; `name:argument` then finds it."""


def _number(schedule: str, argument: str, expected: str) -> float:
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProglocError(f"schedule '{schedule}:{argument}'; expected {expected}")
    return value


def _uniform(value: float) -> Callable[[int], list[float]]:
    if not 0 <= value <= 1:
        raise ProglocError(f"schedule 'uniform:{value:g}': λ is {value:g}; expected a number in [0, 1]")
    return lambda layers: [value] * layers


def _polynomial(beta: float, denominator: str) -> Callable[[int], list[float]]:
    """λ(ℓ) = (ℓ/(L-1))^β, or ℓ/L for the paper's literal formula (SPEC §5). With one layer, λ = 1."""

    def values(layers: int) -> list[float]:
        if layers == 1:
            return [1.0]
        last = layers if denominator == "L" else layers - 1
        return [(layer / last) ** beta for layer in range(layers)]

    return values


@register_schedule("uniform")
def _(argument: str, denominator: str) -> Schedule:
    value = _number("uniform", argument, "uniform:X with X in [0, 1]")
    return Schedule(f"uniform:{value}".removesuffix(".0"), _uniform(value))


@register_schedule("polynomial")
def _(argument: str, denominator: str) -> Schedule:
    beta = _number("polynomial", argument, "polynomial:β with β > 0")
    if beta <= 0:
        raise ProglocError(f"schedule 'polynomial:{argument}'; expected β > 0 (for a constant λ use uniform:X)")
    return Schedule(f"polynomial:{beta}".removesuffix(".0"), _polynomial(beta, denominator), beta)


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


def listed_values(schedule: Iterable[float]) -> tuple[float, ...]:
    """Return an explicit schedule as numbers; raises ProglocError where it is not a list of them."""
    try:
        return tuple(float(value) for value in schedule)
    except (TypeError, ValueError) as error:
        raise ProglocError(f"schedule is {schedule!r}; expected a schedule's name or a list of numbers") from error


def parse_schedule(schedule: str | Sequence[float] | Schedule, denominator: str = "L-1") -> Schedule:
    """Return the schedule that a name (`quintic`, `polynomial:2.5`, `uniform:0.3`) or a list of numbers stands for.

    Args:
        schedule: a name, one number in [0, 1] a layer, or a Schedule (returned as it is).
        denominator: "L-1", or "L" for the paper's literal polynomial.

    Raises:
        ProglocError: an unknown name (the known ones are listed), a bad argument, or a λ that is no number in [0, 1].
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        name, _, argument = schedule.strip().partition(":")
        return _registry[name](argument, denominator)
    values = listed_values(schedule)
    explicit = Schedule("explicit", lambda layers: values)
    explicit(len(values))
    return explicit
