"""The layout of a scatter plot of mass against effect, one point per tested source, in a fixed size."""

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
    """A value on an axis, and its coordinate."""

    at: float
    value: float


@dataclass(frozen=True)
class Point:
    """A block and its coordinates; y grows downwards."""

    block: int
    x: float
    y: float
    mass: float
    effect: float
    named: bool


@dataclass(frozen=True)
class Scatter:
    """A scatter plot; lengths are in units of its own view box."""

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
    """Return ticks at round values that cover 0 and all `values`, at coordinates from `start` to `stop`."""
    from matplotlib.ticker import MaxNLocator  # reading ratings imports pages, and needs no matplotlib

    low, high = min(0.0, *values), max(0.0, *values)
    ticks = MaxNLocator(5).tick_values(low, high if high > low else 1.0)
    scale = (stop - start) / (ticks[-1] - ticks[0])
    return tuple(Tick(round(start + scale * (value - ticks[0]), 1), float(value)) for value in ticks)


def _coordinate(value: float, ticks: Sequence[Tick]) -> float:
    first, last = ticks[0], ticks[-1]
    return round(first.at + (last.at - first.at) * (value - first.value) / (last.value - first.value), 1)


def scatter(examined: Examination) -> Scatter:
    """Place each tested source by its mass without the sink (across) and the effect of its removal in nats (up).

    Args:
        examined: with at least one tested source.
    """
    sources = [tested for tested in examined.tested if tested.whole]
    masses = [float(examined.picture.mass_no_sink[source.block]) for source in sources]
    across = _ticks(masses, LEFT, WIDTH - RIGHT)
    up = _ticks([source.removal for source in sources], HEIGHT - BOTTOM, TOP)
    unlabelled = sorted(masses, reverse=True)[: NAMED + 1][-1] if len(masses) > NAMED else -1.0
    return Scatter(
        points=tuple(
            Point(
                source.block, _coordinate(mass, across), _coordinate(source.removal, up),
                mass, source.removal, named=mass > unlabelled,
            )
            for source, mass in zip(sources, masses, strict=True)
        ),
        across=across,
        up=up,
    )  # fmt: skip
