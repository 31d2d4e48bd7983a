"""From a benchmark to what a person reads: `performance.md`, `performance.png`, and the page docs/performance.md."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from progloc.files import write_text
from progloc.report.table import Table, filled, to_markdown
from step_timing.figure import drawing
from step_timing.results import BENCHMARK_FILE, Benchmark, read_benchmark
from step_timing.tables import made_by, run_tables, step_tables, target_table

TABLES_FILE, FIGURE_FILE = "performance.md", "performance.png"


def write_figure(benchmark: Benchmark, path: Path) -> None:
    """Draw a benchmark to a PNG, in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as aside:
        part = Path(aside) / path.name
        part.write_bytes(drawing(benchmark))
        part.replace(path)


def write_report(folder: Path) -> Benchmark:
    """Write `performance.md` and `performance.png` beside the `benchmark.json` that is in ``folder``, and return it.

    Raises:
        ProglocError: there is no `benchmark.json`, or it is damaged.
    """
    benchmark = read_benchmark(folder / BENCHMARK_FILE)
    picture = f"![Step time and peak memory]({FIGURE_FILE})"
    write_text(
        folder / TABLES_FILE, "\n".join([*map(to_markdown, run_tables(benchmark)), made_by(benchmark), "", picture, ""])
    )
    write_figure(benchmark, folder / FIGURE_FILE)
    return benchmark


def _measured(targets: Table) -> Table:
    """Return the targets that were measured; the note counts the others."""
    measured = tuple(row for row in targets.rows if row[-1] != "not measured")
    others = len(targets.rows) - len(measured)
    note = f"{targets.note} Not measured: {others} more, listed in benchmarks/step_timing/targets.py."
    return replace(targets, rows=measured, note=note if others else targets.note)


def _without_ms(table: Table) -> Table:
    """Return a table without its note, and without the time of a step, which its tokens a second say too."""
    places = [place for place, column in enumerate(table.columns) if column.label != "ms"]
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return replace(table, note="", columns=tuple(table.columns[place] for place in places), rows=rows)


def fill(page: str, benchmarks: Mapping[str, Benchmark], pictures: Mapping[str, str]) -> str:
    """Return a page with the text between its two marks replaced by the targets and every run's tables.

    Args:
        page: markdown with one begin and one end mark.
        benchmarks: runs by name.
        pictures: where each run's figure lies, as the page links to it.

    Raises:
        ProglocError: the marks are not there.
    """
    parts = [to_markdown(_measured(target_table(list(benchmarks.values()))))]
    for name, benchmark in benchmarks.items():
        parts += [f"## Measured: {name}\n", made_by(benchmark), ""]
        # the page explains the columns once
        parts += [to_markdown(_without_ms(table)).replace("## ", "### ", 1) for table in step_tables(benchmark)]
        parts += [f"![Step time and peak memory, {name}]({pictures[name]})", ""]
    return filled(page, "benchmarks/write_performance.py", "\n".join(parts))
