"""What a schedule is, and how names and lists become one.

To add one, write a factory that takes the text after the colon in its name and register it::

    @register_schedule("cosine")
    def cosine(argument: str, denominator: str) -> Schedule:
        return Schedule("cosine", lambda n: [0.5 - 0.5 * math.cos(math.pi * l / max(n - 1, 1)) for l in range(n)])
"""

from __future__ import annotations

__all__ = [
    "NOT_LOCALISED",
    "Factory",
    "Matrix",
    "Schedule",
    "listed_values",
    "number",
    "parse_schedule",
    "register_schedule",
    "short",
]

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from progloc.errors import ProglocError
from progloc.registry import Registry

if TYPE_CHECKING:
    from progloc.schedules.budget import Budget

NOT_LOCALISED = "not localised"
"""The schedule of a model that nobody localised: λ = 0 in every layer, and no name that claims otherwise."""
Matrix = tuple[tuple[float, ...], ...]
"""A number for each of L layers and H heads: L rows, input to output."""
ByHead = Callable[[int, int, Sequence[Sequence[float]] | None], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Schedule:
    """A named λ(ℓ). Calling it with the number of layers L returns L numbers in [0, 1], input to output.

    Raises:
        ProglocError: on a call, where a value is outside [0, 1] or there is not one a layer.
    """

    name: str
    function: Callable[[int], Sequence[float]] = field(repr=False)
    """λ(ℓ) for L layers; where heads differ, their mean (of a share of heads: as if it were whole heads in any layer);
    where λ is learned, what it begins with."""
    beta: float | None = None
    """The exponent β, for polynomials."""
    by_head: ByHead | None = field(repr=False, default=None)
    """Where a layer's heads differ: λ(ℓ, h) for L layers of H heads, given how local each head is, or None."""
    budget: Budget | None = None
    """Where λ(ℓ) is learned: within what."""
    settled: bool = True
    """Whether the name alone says every λ. Where it does not (heads are chosen by what is measured of them, or λ is
    learned) a model keeps its λ beside the name."""

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
        self, layers: int, heads: int, locality: Sequence[Sequence[float]] | None = None
    ) -> tuple[tuple[float, ...], Matrix | None]:
        """Return λ(ℓ) of a model, (L,), and λ(ℓ, h), (L, H), where a layer's heads differ; λ(ℓ) is then their mean.

        Args:
            layers: L.
            heads: H.
            locality: how local each head is, (L, H), where it was measured: schedules may choose heads by it.

        Raises:
            ProglocError: a value outside [0, 1], or not one a layer or head.
        """
        if self.by_head is None:
            return tuple(self(layers)), None
        self(layers)
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


Factory = Callable[[str, str], Schedule]
_registry: Registry[Factory] = Registry("schedule", "progloc.schedules")
register_schedule = _registry.register
"""Decorator: file a factory ``(argument, denominator) -> Schedule`` under a name; `name:argument` then finds it."""


def number(schedule: str, text: str, expected: str) -> float:
    """Return a number in a schedule's name; raises ProglocError, which says what is expected, where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ProglocError(f"schedule '{schedule}'; expected {expected}")
    return value


def short(value: float) -> str:
    """Return a number as names have it: all its digits, and none after a whole one's point."""
    return str(value).removesuffix(".0")


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
    rows = [row for row in values if isinstance(row, tuple)]
    if not rows:
        flat = [value for value in values if not isinstance(value, tuple)]
        found = Schedule("explicit", lambda layers: flat)
        found(len(flat))
        return found
    heads = len(rows[0])
    if not heads:
        raise ProglocError("schedule has layers without a number; expected one for each head")
    means = [fmean(row) if row else 0.0 for row in rows]
    found = Schedule("explicit", lambda layers: means, by_head=lambda layers, heads, locality: rows)
    found.resolve(len(rows), heads)
    return found


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
