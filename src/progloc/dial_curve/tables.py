"""A curve as tables, and what may be said of it."""

from __future__ import annotations

__all__ = ["conclusion", "curve_table", "layer_table", "layers_by_delta", "matched_table", "perplexity_at"]

import math
from collections.abc import Sequence
from itertools import pairwise

from progloc.dial_curve.curve import Agreement, Curve, Point
from progloc.report.formats import ABSENT, number
from progloc.report.statistics import gap_at
from progloc.report.table import Column, Table, escaped

_TEXT = Column("Model", text=True)


def _sink(keep_sink: bool) -> str:
    return "kept" if keep_sink else "dialled"


def curve_table(curve: Curve) -> Table:
    """Return every point of a curve."""
    rows = []
    for keep_sink in (curve.keep_sink, not curve.keep_sink):
        part = curve.part(keep_sink)
        for point in part:
            report = point.report
            rows.append((
                _sink(keep_sink), f"{point.delta:g}", number(report.perplexity, 2),
                f"{number(report.perplexity / part[0].report.perplexity, 3)}×",
                number(report.fidelity, 3), number(report.fidelity_no_sink, 3), number(report.entropy_bits, 2),
                number(report.entropy_bits_no_sink, 2), number(report.sink_mass, 3),
                number(point.agreement.kl_nats, 4), f"{number(100 * point.agreement.same_top, 1)}%",
            ))  # fmt: skip
    return Table(
        f"The dial: {curve.name}",
        "δ: out-of-block attention odds are multiplied by 1 − δ·λ(ℓ) in layer ℓ. Sink kept: the first token's odds "
        "stay as they are. Price: perplexity ÷ that at δ = 0. KL of the next-token distribution at δ = 0 from that at "
        "δ, and how often both have the same most likely token.",
        (
            Column("Sink", text=True), Column("δ"), Column("Perplexity"), Column("Price"), Column("F", detail=True),
            Column("F°"), Column("H (bits)", detail=True), Column("H° (bits)"), Column("Sink mass"),
            Column("KL (nats)"), Column("Same top-1"),
        ),
        tuple(rows),
    )  # fmt: skip


def layers_by_delta(curve: Curve) -> Table:
    """Return F° of every layer at every δ, the sink as the model's own way is."""
    part = curve.part()
    rows = tuple(
        (str(layer), *(number(point.report.layers[layer].fidelity_no_sink, 3) for point in part))
        for layer in range(len(part[0].report.layers))
    )
    return Table(
        f"F° by layer: {curve.name}",
        "Of the attention not on the sink, the share in the token's own block.",
        (Column("Layer"), *(Column(f"δ = {point.delta:g}") for point in part)),
        rows,
        detail=True,
    )


def layer_table(name: str, lambdas: Sequence[float], effects: Sequence[Agreement]) -> Table:
    """Return what it does to make one layer alone strictly local."""
    rows = tuple(
        (str(layer), number(strength, 3), number(each.kl_nats, 4), f"{number(100 * each.same_top, 1)}%")
        for layer, (strength, each) in enumerate(zip(lambdas, effects, strict=True))
    )
    return Table(
        f"One layer alone at δ = 1: {name}",
        "All other layers are as trained.",
        tuple(map(Column, ("Layer", "λ", "KL (nats)", "Same top-1"))),
        rows,
        detail=True,
    )


def perplexity_at(points: Sequence[Point], fidelity: float) -> float:
    """Return perplexity where a curve has that F°, interpolated as gaps are; NaN outside the curve's range."""
    marks = [(point.report.fidelity_no_sink, point.report.perplexity) for point in points]
    low, high = min(mark[0] for mark in marks), max(mark[0] for mark in marks)
    return gap_at(marks, fidelity) if low <= fidelity <= high and low < high else math.nan


def matched_table(first: Curve, others: Sequence[Curve]) -> Table:
    """Return the first model's perplexity at the F° that each other one has undialled and at the end of its dial."""
    rows = []
    for other in others:
        for point in (other.part()[0], other.part()[-1]):
            ours = perplexity_at(first.part(), point.report.fidelity_no_sink)
            theirs = point.report.perplexity
            rows.append((
                other.name, f"{point.delta:g}", number(point.report.fidelity_no_sink, 3), number(theirs, 2),
                ABSENT if math.isnan(ours) else number(ours, 2),
                ABSENT if math.isnan(ours) else f"{number(ours / theirs, 3)}×",
            ))  # fmt: skip
    columns = ("δ", "F°", "Its perplexity", "Ours there", "Ratio")
    return Table(
        f"At equal F°: {first.name}, dialled, and the others",
        f"Ours: of {escaped(first.name)}, interpolated between its points; a dash where its dial does not reach "
        "that F°.",
        (_TEXT, *map(Column, columns)),
        tuple(rows),
    )


def _moves(values: Sequence[float], name: str) -> str:
    steps = [later - earlier for earlier, later in pairwise(values)]
    if all(step >= 0 for step in steps):
        return f"{name} rises at every step"
    if all(step <= 0 for step in steps):
        return f"{name} falls at every step"
    return f"{name} rises at {sum(step > 0 for step in steps)} of {len(steps)} steps"


def conclusion(curves: Sequence[Curve]) -> str:
    """Say in a few sentences what the numbers are, and no more."""
    first, *others = curves
    part, other_way = first.part(), first.part(not first.keep_sink)
    start, end = part[0].report, part[-1].report
    said = [
        f"From δ = 0 to {part[-1].delta:g}, {first.name} goes from perplexity {number(start.perplexity, 2)} to "
        f"{number(end.perplexity, 2)} ({number(end.perplexity / start.perplexity, 3)}×) and from F° "
        f"{number(start.fidelity_no_sink, 3)} to {number(end.fidelity_no_sink, 3)}, the sink "
        f"{_sink(first.keep_sink)}: {_moves([p.report.fidelity_no_sink for p in part], 'F°')}, "
        f"{_moves([p.report.perplexity for p in part], 'perplexity')}.",
        f"With the sink {_sink(not first.keep_sink)} it ends at "
        f"{number(other_way[-1].report.perplexity / other_way[0].report.perplexity, 3)}×.",
    ]
    for other in others:
        theirs = other.part()
        said.append(
            f"{other.name} costs {number(theirs[-1].report.perplexity / theirs[0].report.perplexity, 3)}× over the "
            f"same dial, from {number(theirs[0].report.perplexity, 2)}."
        )
        there = theirs[0].report
        ours = perplexity_at(part, there.fidelity_no_sink)
        if not math.isnan(ours) and there.fidelity_no_sink > start.fidelity_no_sink:
            said.append(
                f"At the F° it has undialled ({number(there.fidelity_no_sink, 3)}), {first.name} dialled has "
                f"{number(ours / there.perplexity, 3)}× its perplexity."
            )
    return " ".join(said)
