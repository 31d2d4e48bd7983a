"""What is measured of attention (method.md §3): a measure is one function.

A measure is a ratio of two sums over tokens, kept per layer and head; it is given the rows of one layer and returns
what to sum above and below the line. To add one::

    @register_measure("far_mass")
    def far_mass(rows: Rows) -> Ratio:
        return Ratio((1 - rows.mass) * rows.real, rows.real)

Its chance level is the same function given the rows of uniform causal attention on the same blocks, so no measure
states its own.
"""

from __future__ import annotations

__all__ = ["Measure", "Ratio", "measures", "register_measure"]

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from progloc.measures.rows import Rows
from progloc.registry import Registry


class Ratio(NamedTuple):
    """A measure's numerator and weight for each token, (B, H, T) or broadcast to it; summed, then divided."""

    numerator: Tensor
    weight: Tensor


Measure = Callable[[Rows], Ratio]
measures: Registry[Measure] = Registry("measure", "progloc.measures")
register_measure = measures.register
"""Decorator: file a function `Rows -> Ratio` under a name; it then stands in every report, with its chance level."""


@register_measure("fidelity")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.real, rows.real)


@register_measure("fidelity_no_sink")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.log_mass_no_sink.exp() * rows.off_sink, rows.off_sink)


@register_measure("fidelity_no_first_block")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.beyond_first_block, rows.beyond_first_block)


@register_measure("entropy_bits")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.entropy * rows.real / math.log(2), rows.real)


@register_measure("entropy_bits_no_sink")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.entropy_no_sink * rows.off_sink / math.log(2), rows.off_sink)


@register_measure("penalty_nats")
def _(rows: Rows) -> Ratio:
    return Ratio(-rows.log_mass * rows.real, rows.real)


@register_measure("sink_mass")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.sink * rows.beyond_sink, rows.beyond_sink)
