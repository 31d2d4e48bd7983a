"""Measure how often a 95% interval holds the true mean, and write the tables of docs/statistics.md.

    python benchmarks/interval_coverage.py [--samples N]

Draws N samples (default 4000) of each size from a distribution whose mean is known, and counts the intervals of
progloc.report.statistics that hold it: over seeds, and (a quarter of N) over seeds × passages. The samples are the same
on every call. Takes some minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from progloc.files import write_text
from progloc.report.statistics import Estimate, bca_interval, crossed, mean_interval
from progloc.report.table import Column, Table, filled, to_markdown
from scripts import script_parser

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
SIZES = (2, 3, 5, 8, 10, 15, 20, 30)
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda generator, n: generator.standard_normal(n),
    "exponential": lambda generator, n: generator.exponential(size=n) - 1,
}
"""Both with mean 0; the second is skewed."""
INTERVALS: dict[str, Callable[[list[float]], Estimate]] = {"t": mean_interval, "BCa": bca_interval}


def coverage(distribution: str, n: int, samples: int) -> dict[str, float]:
    """Return the share, in [0, 1], of samples of ``n`` values whose interval holds the mean, for each interval."""
    generator = np.random.default_rng([n, *distribution.encode()])
    drawn = [DISTRIBUTIONS[distribution](generator, n).tolist() for _ in range(samples)]
    return {
        name: float(np.mean([interval(sample).above(0.0) is None for sample in drawn]))
        for name, interval in INTERVALS.items()
    }


CROSSINGS = ((3, 100), (5, 30), (5, 100))
"""Seeds × passages."""
PARTS = {
    "passages": (0.02, 0.3, 0.1),
    "seeds": (0.3, 0.02, 0.1),
    "both alike": (0.1, 0.3, 0.3),
    "neither, each cell": (0.0, 0.0, 0.3),
}
"""What varies: standard deviations of a seed, a passage and a cell."""
CROSSED: dict[str, Callable[[np.ndarray], Estimate]] = {
    "crossed": lambda drawn: crossed(drawn).estimate,
    "seeds alone": lambda drawn: mean_interval(drawn.mean(1)),
    "passages alone": lambda drawn: mean_interval(drawn.mean(0)),
}


def crossed_coverage(what: str, seeds: int, passages: int, samples: int) -> dict[str, float]:
    """Return the share, in [0, 1], of two-way samples whose interval holds the mean, for each interval."""
    generator = np.random.default_rng([seeds, passages, *what.encode()])
    of_seed, of_passage, of_cell = PARTS[what]
    drawn = [
        of_seed * generator.standard_normal((seeds, 1))
        + of_passage * generator.standard_normal((1, passages))
        + of_cell * generator.standard_normal((seeds, passages))
        for _ in range(samples)
    ]
    return {
        name: float(np.mean([interval(sample).above(0.0) is None for sample in drawn]))
        for name, interval in CROSSED.items()
    }


def crossed_table(samples: int) -> Table:
    """Return the coverage of each interval over seeds × passages, in percent."""
    rows = [
        (f"{seeds} × {passages}", what, *(f"{100 * share:.1f}" for share in found.values()))
        for seeds, passages in CROSSINGS
        for what in PARTS
        for found in [crossed_coverage(what, seeds, passages, samples)]
    ]
    note = (
        "Crossed: what a faithfulness study uses. Seeds alone: a t-interval of the seeds' means over passages; "
        f"passages alone, of the passages' over seeds. {samples} samples a row."
    )
    columns = (
        Column("Seeds × passages"),
        Column("What varies", text=True),
        *(Column(f"{name} (%)") for name in CROSSED),
    )
    return Table("Coverage over seeds × passages", note, columns, tuple(rows))


def table(samples: int) -> Table:
    """Return the coverage of each interval, in percent, a row a number of seeds."""
    columns = [f"{interval}, {distribution} (%)" for distribution in DISTRIBUTIONS for interval in INTERVALS]
    rows = []
    for n in SIZES:
        shares = [share for distribution in DISTRIBUTIONS for share in coverage(distribution, n, samples).values()]
        rows.append((str(n), *(f"{100 * share:.1f}" for share in shares)))
    worst = 100 * 1.96 * 0.5 / samples**0.5
    note = f"{samples} samples a row and distribution: a figure is good to about ±{worst:.1f} at worst."
    return Table("Coverage of 95% intervals", note, (Column("Seeds"), *map(Column, columns)), tuple(rows))


def main() -> None:
    """Measure, and write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("--samples", metavar="N", type=int, default=4000)
    samples = parser.parse_args().samples
    script = "benchmarks/interval_coverage.py"
    tables = [table(samples), crossed_table(samples // 4)]
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), script, "\n".join(map(to_markdown, tables))))


if __name__ == "__main__":
    main()
