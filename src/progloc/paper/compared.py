"""What stands under a table with two seeds or more: its comparisons tested, and its trends over β.

A family is one table: Holm's correction is over its rows. What each column is: docs/statistics.md.
"""

from __future__ import annotations

__all__ = [
    "architectures_tested",
    "cells_tested",
    "comparison_table",
    "gradients_tested",
    "layers_tested",
]

from collections.abc import Sequence

from progloc.paper.comparisons import aligned, cells, gap, layer, measured, perplexity_ratio, trained
from progloc.paper.results import Figure, Suite
from progloc.report.formats import ABSENT, counted, number, p_value, span
from progloc.report.statistics import (
    BCA_FROM,
    UNIT,
    Comparison,
    Values,
    holm,
    paired_difference,
    paired_ratio,
    trend,
)
from progloc.report.table import Column, Table
from progloc.schedules import NAMED_POLYNOMIALS

_COLUMNS = (
    Column("Comparison", text=True), Column("Seeds"), Column("Mean [95%, t]"), Column("[95%, BCa]"), Column("d_z"),
    Column("p, t"), Column("Holm"), Column("p, permutation"), Column("Holm, permutation"),
)  # fmt: skip


def comparison_table(
    title: str, note: str, rows: Sequence[tuple[str, Comparison]], digits: int, unit: str = ""
) -> list[Table]:
    """Return the tests of a family of comparisons as a table of their own; none where no comparison has two seeds.

    Args:
        title: the table's.
        note: what is compared with what.
        rows: each comparison and what it is called.
        digits: decimals of means and intervals.
        unit: after a mean, such as "×".
    """
    found = [comparison for _, comparison in rows]
    seeds = max((comparison.estimate.n for comparison in found), default=0)
    if seeds < 2:
        return []
    adjusted = [holm([each.p for each in found]), holm([each.p_permutation for each in found])]
    cells_of = [
        (
            label,
            str(each.estimate.n),
            f"{number(each.estimate.mean, digits)}{unit} {span(each.estimate, digits)}".rstrip(),
            ABSENT if each.bca is None else span(each.bca, digits),
            number(each.d, 2),
            p_value(each.p), p_value(by_t), p_value(each.p_permutation), p_value(by_permutation),
        )
        for (label, each), by_t, by_permutation in zip(rows, *adjusted, strict=True)
    ]  # fmt: skip
    said = (
        f"{note} {UNIT} Paired by seed. d_z: Cohen's d of the paired differences. Holm: corrected for the "
        f"{counted(len(rows), 'comparison')} of this table. With {counted(seeds, 'seed')} the permutation test's p is "
        f"at least {number(2 ** (1 - seeds), 3)}. BCa: bootstrap, from {BCA_FROM} seeds on."
    )
    return [Table(title, said, _COLUMNS, tuple(cells_of), detail=True)]


def _to_distributed(suite: Suite, name: str, figure: Figure) -> tuple[Values, Values]:
    return suite.values(name, figure), suite.values(suite.distributed or "", figure)


def architectures_tested(suite: Suite) -> list[Table]:
    """Test what Table 1 shows: the gap and F° of every localised architecture, and trends over β."""
    names, local = suite.localised, measured("fidelity_no_sink")
    polynomials = [name for name in NAMED_POLYNOMIALS if name in names]
    figures = [
        ("Perplexity", measured("perplexity")),
        ("H (bits)", measured("entropy_bits")),
        ("H° (bits)", measured("entropy_bits_no_sink")),
        ("F", measured("fidelity")),
        ("F°", local),
        ("Gradient norm", trained("gradient_norm_mean")),
    ]
    return [
        *comparison_table(
            "Table 1, tested: gap",
            "Perplexity ÷ that of the λ=0 run of the same data, budget and seed.",
            [(f"{name} ÷ λ=0", gap(suite, name)) for name in names],
            3,
            "×",
        ),
        *comparison_table(
            "Table 1, tested: F°",
            "Difference to the λ=0 run of the same seed.",
            [(f"{name} − λ=0", paired_difference(*_to_distributed(suite, name, local))) for name in names],
            3,
        ),
        *comparison_table(
            "Trends over β",
            f"Slope a step of β, by least squares within each seed; in order: {', '.join(polynomials)}.",
            [(label, trend(aligned(suite, polynomials, figure))) for label, figure in figures if len(polynomials) > 2],
            3,
        ),
    ]


def cells_tested(suite: Suite) -> list[Table]:
    """Test what Table 2 shows: every cell's perplexity against that of the largest α and the shortest budget."""
    found = cells(suite)
    first = (max(alpha for alpha, _ in found), min(epochs for _, epochs in found))
    others = sorted((cell for cell in found if cell != first), key=lambda cell: (-cell[0], cell[1]))
    return comparison_table(
        "Table 2, tested: perplexity",
        f"Perplexity ÷ that of α={first[0]:g} for {counted(first[1], 'epoch')}.",
        [
            (f"α={alpha:g}, {counted(epochs, 'epoch')}", perplexity_ratio(suite, found[alpha, epochs], found[first]))
            for alpha, epochs in others
            if first in found
        ],
        3,
        "×",
    )


def layers_tested(suite: Suite, names: Sequence[str]) -> list[Table]:
    """Test what Table 3 shows: H and F° of every layer against the λ=0 run."""
    layers = range(len(suite.runs[0].lambdas))
    return [
        made
        for label, measure, digits in (("H (bits)", "entropy_bits", 2), ("F°", "fidelity_no_sink", 3))
        for made in comparison_table(
            f"Table 3, tested: {label} by layer",
            "Difference to the same layer of the λ=0 run of the same seed.",
            [
                (f"{name}, layer {index}", paired_difference(*_to_distributed(suite, name, layer(measure, index))))
                for name in names
                for index in layers
            ],
            digits,
        )
    ]


def gradients_tested(suite: Suite) -> list[Table]:
    """Test what Table 4 shows: every localised architecture's gradient norm against that of λ=0."""
    figure = trained("gradient_norm_mean")
    return comparison_table(
        "Table 4, tested: gradient norm",
        "Mean norm before clipping ÷ that of the λ=0 run of the same seed.",
        [(f"{name} ÷ λ=0", paired_ratio(*_to_distributed(suite, name, figure))) for name in suite.localised],
        3,
        "×",
    )
