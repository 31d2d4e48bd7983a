"""Mass against effect, a point a tested source: where everything lies in a drawing of fixed size."""

from __future__ import annotations

__all__ = ["Point", "Scatter", "Tick", "scatter"]

from collections.abc import Sequence
from dataclasses import dataclass

from progloc.accounts.schema import Examination

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 14, 30
NAMED = 5
"""How many points are labelled: those with the most mass."""


@dataclass(frozen=True)
class Tick:
    """A value on an axis, and where it lies."""

    at: float
    value: float


@dataclass(frozen=True)
class Point:
    """A block, and where it lies; y grows downwards."""

    block: int
    x: float
    y: float
    mass: float
    effect: float
    named: bool


@dataclass(frozen=True)
class Scatter:
    """A drawing, in its own units."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def _ticks(values: Sequence[float], start: float, stop: float) -> tuple[Tick, ...]:
    """Round values around 0 and all of these, spread from `start` to `stop`."""
    from matplotlib.ticker import MaxNLocator  # reading ratings, which import pages, needs none

    low, high = min(0.0, *values), max(0.0, *values)
    chosen = MaxNLocator(5).tick_values(low, high if high > low else 1.0)
    scale = (stop - start) / (chosen[-1] - chosen[0])
    return tuple(Tick(round(start + scale * (value - chosen[0]), 1), float(value)) for value in chosen)


def _place(value: float, ticks: Sequence[Tick]) -> float:
    first, last = ticks[0], ticks[-1]
    return round(first.at + (last.at - first.at) * (value - first.value) / (last.value - first.value), 1)


def scatter(examined: Examination) -> Scatter:
    """Place every tested source by its mass without the sink (across) and what its removal costs in nats (up).

    Args:
        examined: with at least one tested source.
    """
    sources = [each for each in examined.tested if each.whole]
    masses = [float(examined.picture.mass_no_sink[each.block]) for each in sources]
    across = _ticks(masses, LEFT, WIDTH - RIGHT)
    up = _ticks([each.removal for each in sources], HEIGHT - BOTTOM, TOP)
    least = sorted(masses, reverse=True)[: NAMED + 1][-1] if len(masses) > NAMED else -1.0
    return Scatter(
        points=tuple(
            Point(each.block, _place(mass, across), _place(each.removal, up), mass, each.removal, mass > least)
            for each, mass in zip(sources, masses, strict=True)
        ),
        across=across,
        up=up,
    )
