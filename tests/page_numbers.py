"""What a page says in numbers, so that a test can compare them: words may change, a figure may not."""

from __future__ import annotations

import re
from typing import get_args

from progloc.paper.verdicts import Verdict

NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
NAME = re.compile(r"`?[A-Za-z][^\s|]*")
VERDICTS = {*get_args(Verdict), "not met", "not measured"}

Cell = str | tuple[float, ...]
Rows = list[list[Cell]]


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers in a text, in order: −0.36, 4,000 and 1e-5 are one each."""
    return tuple(float(found.replace("−", "-").replace(",", "")) for found in NUMBER.findall(text))


def _cell(text: str) -> Cell:
    """Return a name (one word) or a verdict as it stands, and the numbers of anything else."""
    return text if NAME.fullmatch(text) or text in VERDICTS else numbers(text)


def tables(page: str) -> list[Rows]:
    """Return a markdown page's tables: a row of the numbers in each column's label, then every row of figures."""
    found = re.findall(r"(?:^\|.*\|\n)+", page + "\n", re.MULTILINE)
    lines = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in found]
    return [
        [[numbers(label) for label in table[0]], *([_cell(cell.strip()) for cell in row] for row in table[2:])]
        for table in lines
    ]


def figures_of(page: str) -> list[tuple[list[float], list[Rows]]]:
    """Return the numbers of a markdown page, heading by heading: those in prose, sorted, and its tables."""
    sections = re.split(r"^#+ .*$", page, flags=re.MULTILINE)
    return [(sorted(numbers(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE))), tables(text)) for text in sections]
