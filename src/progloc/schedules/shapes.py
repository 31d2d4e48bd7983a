"""What a schedule is, how names and lists become one, and the schedules there are (method.md §5).

To add one, write a factory that takes the text after the colon in its name and register it::

    @register_schedule("cosine")
    def cosine(argument: str, denominator: str) -> Schedule:
        return Schedule("cosine", lambda n: [0.5 - 0.5 * math.cos(math.pi * l / max(n - 1, 1)) for l in range(n)])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import scipy  # its parts are loaded when they are first used

from progloc.errors import ProglocError
from progloc.registry import Registry

if TYPE_CHECKING:
    from progloc.schedules.budget import Budget

NAMED_POLYNOMIALS = {"linear": 1.0, "quadratic": 2.0, "cubic": 3.0, "quartic": 4.0, "quintic": 5.0}
NOT_LOCALISED = "not localised"
"""The schedule of a model that nobody localised: λ = 0 in every layer, and no name that claims otherwise."""
Matrix = tuple[tuple[float, ...], ...]
"""A number for each of L layers and H heads: L rows, input to output."""
Locality = Sequence[Sequence[float]]
"""How local each head was measured to be, (L, H); NaN where nothing was measured."""


@dataclass(frozen=True)
class Schedule:
    """A named λ(ℓ). Calling it with the number of layers L returns L numbers in [0, 1], input to output.

    Raises:
        ProglocError: on a call, where a value is outside [0, 1] or there is not one a layer.
    """

    name: str
    function: Callable[[int], Sequence[float]] = field(repr=False)
    """λ(ℓ) for L layers; where heads differ, their mean (of a share of heads: as if it were whole heads in any layer);
    where λ is learned, its initial values."""
    beta: float | None = None
    """The exponent β, for polynomials."""
    by_head: Callable[[int, int, Locality | None], Sequence[Sequence[float]]] | None = field(repr=False, default=None)
    """Where a layer's heads differ: λ(ℓ, h) for L layers of H heads, given how local each head is, or None."""
    budget: Budget | None = None
    """Where λ(ℓ) is learned: under which budget."""
    settled: bool = True
    """Whether the name alone determines every λ. Where it does not (heads are chosen by a measurement, or λ is learned)
    a model keeps its λ beside the name."""

    def __call__(self, layers: int) -> list[float]:
        """Return λ(0) … λ(L-1)."""
        if layers < 1:
            raise ProglocError(f"a schedule needs at least one layer; given {layers}")
        values = [float(value) for value in self.function(layers)]
        if len(values) != layers:
            raise ProglocError(f"the schedule {self.name} gives {len(values)} values; the model has {layers} layers")
        for layer, value in enumerate(values):
            self._check(value, str(layer))
        return values

    def resolve(
        self, layers: int, heads: int, locality: Locality | None = None
    ) -> tuple[tuple[float, ...], Matrix | None]:
        """Return λ(ℓ) of a model, (L,), and λ(ℓ, h), (L, H), where a layer's heads differ; λ(ℓ) is then their mean.

        Args:
            layers: L.
            heads: H.
            locality: how local each head is, (L, H), where it was measured: schedules may choose heads by it.

        Raises:
            ProglocError: a value outside [0, 1], or not one a layer or head.
        """
        lambdas = tuple(self(layers))
        if self.by_head is None:
            return lambdas, None
        matrix = tuple(tuple(float(value) for value in row) for row in self.by_head(layers, heads, locality))
        for layer, row in enumerate(matrix):
            if len(row) != heads:
                raise ProglocError(
                    f"the schedule {self.name} gives {len(row)} values in layer {layer}; the model has {heads} heads"
                )
            for head, value in enumerate(row):
                self._check(value, f"{layer}, {head}")
        return tuple(fmean(row) for row in matrix), matrix

    def _check(self, value: float, where: str) -> None:
        if not 0 <= value <= 1:
            raise ProglocError(f"λ({where}) is {value} in the schedule {self.name}; expected a number in [0, 1]")


_registry: Registry[Callable[[str, str], Schedule]] = Registry("schedule", "progloc.schedules")
register_schedule = _registry.register
"""Decorator: file a factory ``(argument, denominator) -> Schedule`` under a name; `name:argument` then finds it."""


def parse_schedule(
    schedule: str | Sequence[float] | Sequence[Sequence[float]] | Schedule, denominator: str = "L-1"
) -> Schedule:
    """Return the schedule that a name (`quintic`, `sigmoid:0.8,12`, `heads:0.5,quintic`) or a list stands for.

    Args:
        schedule: a name; one number in [0, 1] a layer, or such a list, one a head; or a Schedule (returned as it is).
        denominator: "L-1", or "L" for the paper's literal polynomial.

    Raises:
        ProglocError: an unknown name (the known ones are listed), a bad argument, or a λ that is no number in [0, 1].
    """
    if isinstance(schedule, Schedule):
        return schedule
    if schedule == NOT_LOCALISED:  # not registered: nobody is offered it as a shape of λ
        return Schedule(NOT_LOCALISED, lambda layers: [0.0] * layers)
    if isinstance(schedule, str):
        name, _, argument = schedule.strip().partition(":")
        return _registry[name](argument, denominator)
    return _explicit(listed_values(schedule))


def listed_values(schedule: Iterable[float] | Iterable[Iterable[float]]) -> tuple[float, ...] | Matrix:
    """Return an explicit schedule as numbers, or as rows of them; raises ProglocError where it is neither."""
    try:
        values: tuple[Any, ...] = tuple(schedule)
        if values and all(isinstance(row, list | tuple) for row in values):
            return tuple(tuple(float(value) for value in row) for row in values)
        return tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ProglocError(
            f"schedule is {schedule!r}; expected a schedule's name or a list of numbers, or of such lists: one a layer"
        ) from error


def _explicit(values: tuple[float, ...] | Matrix) -> Schedule:
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    if rows and not rows[0]:
        raise ProglocError("schedule has layers without a number; expected one for each head")
    means = [fmean(row) if row else 0.0 for row in rows]
    schedule = Schedule("explicit", lambda layers: means)
    if any(isinstance(value, tuple) for value in values):
        schedule = replace(schedule, by_head=lambda layers, heads, locality: rows)
    schedule.resolve(len(rows), len(rows[0]) if rows else 1)
    return schedule


def _number(schedule: str, text: str, expected: str) -> float:
    """Return a number in a schedule's name; raises ProglocError, with what is expected, where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProglocError(f"schedule '{schedule}'; expected {expected}")
    return value


def _short(value: float) -> str:
    """Return a number as in a schedule's name: all its digits, but no ".0"."""
    return str(value).removesuffix(".0")


def _depths(layers: int, denominator: str) -> list[float]:
    """Return ℓ/(L-1), or ℓ/L for the paper's literal formula; the only layer of a model counts as its last."""
    if layers == 1:
        return [1.0]
    last = layers if denominator == "L" else layers - 1
    return [layer / last for layer in range(layers)]


@register_schedule("uniform")
def _uniform(argument: str, denominator: str) -> Schedule:
    value = _number(f"uniform:{argument}", argument, "uniform:X with X in [0, 1]")
    if not 0 <= value <= 1:
        raise ProglocError(f"schedule 'uniform:{value:g}': λ is {value:g}; expected a number in [0, 1]")
    return Schedule(f"uniform:{_short(value)}", lambda layers: [value] * layers)


@register_schedule("polynomial")
def _polynomial(argument: str, denominator: str) -> Schedule:
    beta = _number(f"polynomial:{argument}", argument, "polynomial:β with β > 0")
    if beta <= 0:
        raise ProglocError(f"schedule 'polynomial:{argument}'; expected β > 0 (for a constant λ use uniform:X)")
    return Schedule(
        f"polynomial:{_short(beta)}", lambda layers: [depth**beta for depth in _depths(layers, denominator)], beta
    )


@register_schedule("sigmoid")
def _sigmoid(argument: str, denominator: str) -> Schedule:
    """λ(ℓ) = 1 / (1 + exp(-STEEPNESS · (depth - MID)))."""
    name = f"sigmoid:{argument}"
    expected = "sigmoid:MID,STEEPNESS with MID in [0, 1], a relative depth, and STEEPNESS > 0"
    first, _, second = argument.partition(",")
    middle, steepness = (_number(name, part, expected) for part in (first, second))
    if not 0 <= middle <= 1 or steepness <= 0:
        raise ProglocError(f"schedule '{name}'; expected {expected}")

    def values(layers: int) -> list[float]:
        return [float(scipy.special.expit(steepness * (depth - middle))) for depth in _depths(layers, denominator)]

    return Schedule(f"sigmoid:{_short(middle)},{_short(steepness)}", values)


@register_schedule("step")
def _step(argument: str, denominator: str) -> Schedule:
    """λ = 0 before a layer, and 1 from it on."""
    if not argument.isdecimal():
        raise ProglocError(f"schedule 'step:{argument}'; expected step:ℓ with ℓ a layer, counted from 0")
    first = int(argument)

    def values(layers: int) -> list[float]:
        if first >= layers:
            raise ProglocError(f"schedule 'step:{first}' in a model of {layers} layers; expected step:ℓ, ℓ < {layers}")
        return [float(layer >= first) for layer in range(layers)]

    return Schedule(f"step:{first}", values)


@register_schedule("heads")
def _share_of_heads(argument: str, denominator: str) -> Schedule:
    """`heads:FRACTION,SCHEDULE`: λ(ℓ) in a share of each layer's heads, 0 in the others.

    The share is the most local heads where that was measured, else the first ones.
    """
    expected = "heads:FRACTION,SCHEDULE with FRACTION in [0, 1], as in heads:0.5,quintic"
    first, _, of_depth = argument.partition(",")
    fraction = _number(f"heads:{argument}", first, expected)
    if not 0 <= fraction <= 1 or not of_depth:
        raise ProglocError(f"schedule 'heads:{argument}'; expected {expected}")
    inner = parse_schedule(of_depth, denominator)
    if inner.by_head is not None or inner.budget is not None:
        raise ProglocError(f"schedule 'heads:{argument}'; expected a schedule of layers alone after the comma")

    def by_head(layers: int, heads: int, locality: Locality | None) -> list[list[float]]:
        count = max(1, math.floor(fraction * heads + 0.5)) if fraction else 0
        rows = []
        for layer, value in enumerate(inner(layers)):
            measured = [0.0] * heads if locality is None else locality[layer]
            chosen = sorted(range(heads), key=lambda h: math.inf if math.isnan(measured[h]) else -measured[h])[:count]
            rows.append([value if head in chosen else 0.0 for head in range(heads)])
        return rows

    return Schedule(
        f"heads:{_short(fraction)},{inner.name}",
        lambda layers: [fraction * value for value in inner(layers)],
        by_head=by_head,
        settled=False,
    )


@register_schedule("learnable")
def _learnable(argument: str, denominator: str) -> Schedule:
    """`learnable:MEAN` or `learnable:MEAN,monotone`: λ(ℓ) learned in training, with that mean over layers."""
    expected = "learnable:MEAN or learnable:MEAN,monotone with MEAN, of λ over layers, between 0 and 1"
    first, comma, second = argument.partition(",")
    mean = _number(f"learnable:{argument}", first, expected)
    if not 0 < mean < 1 or (comma and second != "monotone"):
        raise ProglocError(f"schedule 'learnable:{argument}'; expected {expected}")
    from progloc.schedules.budget import Budget  # it loads torch, which other schedules do not need

    budget = Budget(mean, monotone=bool(comma))
    return Schedule(
        f"learnable:{_short(mean)}{comma}{second}",
        lambda layers: budget.lambdas(budget.start(layers)).tolist(),
        budget=budget,
        settled=False,
    )


def _register_alias(name: str, meaning: str) -> None:
    @register_schedule(name)
    def alias(argument: str, denominator: str) -> Schedule:
        if argument:
            raise ProglocError(f"schedule '{name}:{argument}'; '{name}' takes no argument")
        return replace(parse_schedule(meaning, denominator), name=name)


_register_alias("distributed", "uniform:0")
_register_alias("localist", "uniform:1")
for _name, _beta in NAMED_POLYNOMIALS.items():
    _register_alias(_name, f"polynomial:{_beta}")
