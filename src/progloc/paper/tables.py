"""Every table of a suite's report. A table is one function `Suite -> list[Table]`, empty without the runs it needs."""

from __future__ import annotations

from collections.abc import Callable

from progloc.paper.provenance import made_by
from progloc.paper.suite import Suite
from progloc.paper.tables_1_to_4 import table_1, table_2, table_3, table_4
from progloc.paper.tables_5_to_7 import table_5, table_6, table_7
from progloc.report.statistics import UNIT
from progloc.report.table import Table, escaped, to_markdown

Builder = Callable[[Suite], list[Table]]

_BUILDERS: list[Builder] = [table_1, table_2, table_3, table_4, table_5, table_6, table_7]
"""What every report shows, in order."""

_SELECT = {
    "objective": "the best validation objective (CE + α·Σλp) of stage 2",
    "perplexity": "the best validation perplexity of stage 2",
}


def table(build: Builder) -> Builder:
    """Decorator: add a function to what every report shows, after progloc's own tables."""
    _BUILDERS.append(build)
    return build


def suite_tables(suite: Suite) -> list[Table]:
    """Return every registered table that the finished runs allow."""
    return [made for build in _BUILDERS for made in build(suite)]


def reading(suite: Suite) -> str:
    """Return what holds for every table: which checkpoint was kept, how many seeds there are, what the interval is."""
    select = suite.plan.get("select")
    rule = f"Checkpoint kept: {_SELECT.get(str(select), f'select: {select}')}, the same rule for every run."
    if select == "objective":
        rule += (
            " At λ=0 the objective is the cross-entropy alone, so those runs keep their best perplexity, while "
            "localised runs tend to keep a late epoch; the gap at the last epoch is free of that choice."
        )
    seeds = len({run.seed for run in suite.runs})
    if seeds == 1:
        return f"{rule} One seed: no interval, and no comparison is more than this one run's."
    return f"{rule} Means over the seeds ({seeds} at most), with 95% t-intervals over seeds. {UNIT}"


def tables_markdown(suite: Suite) -> str:
    """Return `tables.md`: what made it, which runs are missing, then every table."""
    made = [f"- {label}: `{value}`" for label, value in made_by(suite)]
    if suite.missing:
        made.append(f"- **missing runs**: {escaped(', '.join(run.folder for run in suite.missing))}")
    title = f"# Results of the suite {escaped(suite.plan.get('suite', ''))}".rstrip()
    head = [title, "", *made, "", f"For every table: {reading(suite)}", ""]
    return "\n".join([*head, *map(to_markdown, suite_tables(suite))])
