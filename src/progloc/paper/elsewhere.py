"""What locality costs on a second text, which no model was trained on."""

from __future__ import annotations

__all__ = ["elsewhere", "table_6"]

import math

from progloc.paper.comparisons import measured
from progloc.paper.entries import gap_entry, mean_entry
from progloc.paper.results import Figure, Run, Suite
from progloc.report.table import Column, Table


def elsewhere(name: str) -> Figure:
    """Return the figure that reads a measure on the second text; NaN where there is none."""

    def read(run: Run) -> float:
        value = None if run.elsewhere is None else run.elsewhere[name]
        return math.nan if value is None else float(value)

    return read


def table_6(suite: Suite) -> list[Table]:
    """Return gap and F° on the second text beside those on validation; none where no run has a second text."""
    names = list(dict.fromkeys(run.name for run in suite.compared if run.elsewhere is not None))
    if not names:
        return []
    text = suite.one(names[0]).data["second_corpus"]

    rows = tuple(
        (
            suite.one(name).blocks,
            suite.one(name).schedule,
            mean_entry(suite, name, elsewhere("perplexity"), 2),
            gap_entry(suite, name, elsewhere("perplexity")),
            gap_entry(suite, name, measured("perplexity")),
            mean_entry(suite, name, elsewhere("fidelity_no_sink"), 3),
            mean_entry(suite, name, measured("fidelity_no_sink"), 3),
        )
        for name in names
    )
    columns = (
        Column("Blocks", text=True), Column("Architecture", text=True), Column("Perplexity there"),
        Column("Gap there"), Column("Gap on validation"), Column("F° there"), Column("F° on validation"),
    )  # fmt: skip
    note = f"There: {text}, which no model was trained on. Gap: perplexity ÷ that of the same seed's λ=0 run."
    return [Table("Table 6: the price on another text", note, columns, rows)]
