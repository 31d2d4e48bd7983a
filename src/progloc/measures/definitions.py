"""What is measured of attention (method.md §3): a measure is one function.

A measure is a ratio of two sums over tokens, per layer and head: from the rows of one layer it returns what to sum
above and below the line. To add one::

    @register_measure("far_mass", label="mass elsewhere", symbol="far")
    def far_mass(rows: Rows) -> Ratio:
        return Ratio((1 - rows.mass) * rows.real, rows.real)

It then stands in every report, JSON, table, live line and `results.csv`, with its chance level. The chance level is the
same function given the rows of uniform causal attention on the same blocks, so no measure states its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from progloc.registry import Registry

if TYPE_CHECKING:  # reading what was measured needs no torch
    from torch import Tensor

    from progloc.measures.rows import Rows


class Ratio(NamedTuple):
    """A measure's numerator and weight for each token, (B, H, T) or broadcast to it; summed, then divided."""

    numerator: Tensor
    weight: Tensor


class Look(NamedTuple):
    """How a measure is written wherever it stands."""

    label: str
    """In a table's heading, with its unit."""
    symbol: str
    """Where there is little room."""
    digits: int = 3
    """Decimals."""
    detail: bool = False
    """Whether a terminal leaves it out."""


Measure = Callable[["Rows"], Ratio]
measures: Registry[Measure] = Registry("measure", "progloc.measures")
_LOOKS: dict[str, Look] = {}


def register_measure(
    name: str, *, label: str | None = None, symbol: str | None = None, digits: int = 3, detail: bool = False
) -> Callable[[Measure], Measure]:
    """Decorator: register a function `Rows -> Ratio` under a name, with how it is written (see `Look`).

    Args:
        name: in JSON, `results.csv` and reports (`report.NAME`); its chance level is `chance_NAME`.
        label: its heading in tables, by default the name.
        symbol: its heading where there is little room, by default the label.
        digits: decimals in tables.
        detail: whether a terminal leaves it out.
    """
    _LOOKS[name] = Look(label or name, symbol or label or name, digits, detail)
    return measures.register(name)


def look(name: str) -> Look:
    """Return how a measure is written; one that is not registered here (any more) by its name."""
    return _LOOKS.get(name) or Look(name, name)


@register_measure("fidelity", label="fidelity F", symbol="F")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.real, rows.real)


@register_measure("fidelity_no_sink", label="F without sink", symbol="F°")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.log_mass_no_sink.exp() * rows.off_sink, rows.off_sink)


@register_measure("fidelity_no_first_block", label="F beyond the first block", detail=True)
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.beyond_first_block, rows.beyond_first_block)


@register_measure("entropy_bits", label="entropy, bits", symbol="H", digits=2)
def _(rows: Rows) -> Ratio:
    return Ratio(rows.entropy * rows.real / math.log(2), rows.real)


@register_measure("entropy_bits_no_sink", label="H without sink", symbol="H°", digits=2)
def _(rows: Rows) -> Ratio:
    return Ratio(rows.entropy_no_sink * rows.off_sink / math.log(2), rows.off_sink)


@register_measure("penalty_nats", label="penalty, nats", symbol="p")
def _(rows: Rows) -> Ratio:
    return Ratio(-rows.log_mass * rows.real, rows.real)


@register_measure("sink_mass", label="sink mass", symbol="sink")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.sink * rows.beyond_sink, rows.beyond_sink)


BUILT_IN = tuple(_LOOKS)
"""The measures of progloc itself."""
