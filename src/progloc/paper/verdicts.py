"""What an answer to a claim is, and the few steps that every decision rule is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from progloc.report.formats import counted, number
from progloc.report.statistics import LEVEL, Values, mean_interval

Verdict = Literal["supported", "not supported", "cannot tell from this run"]

SIGNIFICANT = 1 - LEVEL
"""The p below which a difference is taken as resolved."""


@dataclass(frozen=True)
class Finding:
    """What a claim's rule found: the verdict, the deciding figure in words, their interval, and why, in a sentence."""

    verdict: Verdict
    figure: str
    interval: str
    reason: str


@dataclass(frozen=True)
class Answer:
    """A claim, asked and answered; see `Finding`."""

    id: str
    question: str
    verdict: Verdict
    figure: str
    interval: str
    reason: str


def decide(parts: Iterable[bool | None]) -> Verdict:
    """Return "supported" if all parts hold, "not supported" if any fails, otherwise that it cannot be told."""
    held = list(parts)
    return "not supported" if False in held else "supported" if all(held) else "cannot tell from this run"


def without(*names: str) -> Finding:
    """Return the finding for a suite that lacks runs the claim needs."""
    needed = f"It needs finished runs with a seed in common: {', '.join(names)}."
    return Finding("cannot tell from this run", "—", "—", needed)


def means(rows: Sequence[Values]) -> list[float]:
    """Return the mean over seeds of each."""
    return [mean_interval(row.values()).mean for row in rows]


def listed(names: Sequence[str], rows: Sequence[Values], digits: int) -> str:
    """Write names with their means, in the order given."""
    return ", ".join(f"{name} {number(mean, digits)}" for name, mean in zip(names, means(rows), strict=True))


def seeds_text(n: int) -> str:
    """Write how many seeds a finding rests on."""
    return "one seed, so no interval" if n == 1 else f"{counted(n, 'seed')} of one base model"
