"""A table as data, and how markdown and the terminal show it. Pages render the same `Table` by a template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from progloc.errors import ProglocError
from progloc.report.printing import one_line, visible, with_title

_SECOND = re.compile(r" ± | [\[(]")
"""Where a figure ends and its interval or its count follows."""
_UNIFORM = re.compile(r" \((?:[βλ]=\S+|uniform attention)\)$")
"""The part of a row's label that its name already says."""
_MARKUP = re.compile(r"[\\|$*~]|<(?=[\w/!?])|\](?=[(\[])|(?<!\w)_(?=\w)|(?<=\w)_(?!\w)")
"""Characters that are markup in markdown: `_` at the edge of a word, `<` before a tag, `]` before a link's address."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    label: str
    paper: bool = False
    """Its figures are the paper's, not this suite's."""
    text: bool = False
    """It holds words."""
    detail: bool = False
    """Left out in a terminal, where there is little room."""


@dataclass(frozen=True)
class Table:
    """A titled table of formatted cells; each row has as many as there are columns."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    detail: bool = False
    """Left out in a terminal."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.title


def escaped(text: str) -> str:
    """Return a text as one line of GitHub markdown without any markup of its own; `code` stays code."""
    return _MARKUP.sub(r"\\\g<0>", one_line(text))


def to_markdown(table: Table) -> str:
    """Return the table as GitHub markdown: heading, table, note."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(escaped, cells)) + " |"

    labels = [column.label + (" (paper)" if column.paper else "") for column in table.columns]
    rule = ["---" if column.text else "---:" for column in table.columns]
    note = [table.note, ""] if table.note else []
    return "\n".join([f"## {escaped(table.title)}", "", *map(line, (labels, rule, *table.rows)), "", *note])


def filled(page: str, script: str, text: str) -> str:
    """Return a markdown page with the text between a script's marks replaced.

    Args:
        page: with one `<!-- begin: written by SCRIPT -->` and an `<!-- end -->` after it.
        script: SCRIPT, as the mark names it.
        text: the new text.

    Raises:
        ProglocError: the marks are not there, or more than once.
    """
    begin, end = f"<!-- begin: written by {script} -->", "<!-- end -->"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    new_page, count = marked.subn(lambda _: f"{begin}\n\n{text}\n{end}", page)
    if count != 1:
        raise ProglocError(f"the page has {count} marked places; expected one '{begin}' … '{end}'")
    return new_page


def brief(table: Table) -> Table:
    """Return the table without details and without the paper's columns; a table that is the paper's own stays whole."""
    columns = [i for i, column in enumerate(table.columns) if not (column.paper or column.detail)]
    if not columns:
        return table
    rows = tuple(tuple(row[i] for i in columns) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in columns), rows=rows)


def to_rich(table: Table) -> Group:
    """Return the table for a terminal of 80 characters: means only, and `brief`."""
    shown = brief(table)
    rich_table = RichTable(box=box.SIMPLE_HEAD, padding=0)
    for column in shown.columns:
        # a word a line; and Text, for in a plain string rich would read [brackets] as markup
        heading = Text(visible(column.label).replace(" ", "\n"))
        rich_table.add_column(heading, justify="left" if column.text else "right")
    for row in shown.rows:
        cells = zip(row, shown.columns, strict=True)
        means = ((_UNIFORM if column.text else _SECOND).split(cell)[0] for cell, column in cells)
        rich_table.add_row(*(Text(visible(mean)) for mean in means))
    return with_title(table.title, rich_table, *(["More of it: tables.md."] if shown != table else []))


def to_terminal(tables: Iterable[Table]) -> Group:
    """Return tables for a terminal, as `to_rich` shows each, without those that are detail."""
    return Group(*(to_rich(table) for table in tables if not table.detail))
