"""A table as data, and its three renderings' common ground: how numbers are written, markdown, and the terminal.

The page renders the same `Table` through its template.
"""

from __future__ import annotations

__all__ = ["ABSENT", "Column", "Table", "interval", "number", "percent", "ratio", "to_markdown", "to_rich"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from progloc.suite.statistics import Estimate

ABSENT = "—"


@dataclass(frozen=True)
class Column:
    """A column's label; `paper` marks figures that are the paper's and not this suite's, `text` what is no number."""

    label: str
    paper: bool = False
    text: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table of cells that are already written out: as many in each row as there are columns."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.title


def number(value: float | None, digits: int) -> str:
    """Write a number with so many decimals; very large ones in powers of ten, and what is not there as a dash."""
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}"
    # "-0.00" says nothing that "0.00" does not
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−", 1) if value < 0 else text


def interval(estimate: Estimate, digits: int) -> str:
    """Write a mean and the half-width of its interval, `1.23 ± 0.04`."""
    if estimate.high is None:
        return number(estimate.mean, digits)
    return f"{number(estimate.mean, digits)} ± {number(estimate.high - estimate.mean, digits)}"


def ratio(estimate: Estimate, digits: int = 3) -> str:
    """Write a ratio and its interval, which is not symmetric: `1.040× [1.020, 1.061]`."""
    if math.isnan(estimate.mean):
        return ABSENT
    ends = "" if estimate.low is None else f" [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"
    return f"{number(estimate.mean, digits)}×{ends}"


def percent(estimate: Estimate) -> str:
    """Write a ratio of perplexities as the improvement it is, `+84.2% [+80.1, +87.0]`."""
    if math.isnan(estimate.mean):
        return ABSENT

    def improvement(value: float) -> str:
        return f"{(1 - value) * 100:+.1f}".replace("-", "−")

    ends = ""
    if estimate.low is not None and estimate.high is not None:
        ends = f" [{improvement(estimate.high)}, {improvement(estimate.low)}]"
    return f"{improvement(estimate.mean)}%{ends}"


def to_markdown(table: Table) -> str:
    """Return the table as GitHub markdown: heading, table, note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    labels = [column.label + (" (paper)" if column.paper else "") for column in table.columns]
    rule = ["---" if column.text else "---:" for column in table.columns]
    return "\n".join([f"## {table.title}", "", *map(line, (labels, rule, *table.rows)), "", table.note, ""])


def to_rich(table: Table) -> RichTable:
    """Return the table for a terminal: this suite's columns only, for the paper's beside them are too wide there."""
    shown = RichTable(
        title=table.title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    ours = [index for index, column in enumerate(table.columns) if not column.paper]
    for index in ours:
        column = table.columns[index]
        shown.add_column(Text(column.label), justify="left" if column.text else "right", no_wrap=column.text)
    for row in table.rows:
        # an interval goes on a line of its own; Text, for in a plain string rich would read [1.0, 1.2] as markup
        shown.add_row(*(Text(row[index].replace(" ±", "\n±").replace(" [", "\n[")) for index in ours))
    return shown
