"""Write the tables of docs/pretrained.md, from the suite in benchmarks/measured/suites/smollm2.jsonl.gz.

    python benchmarks/write_pretrained.py

The suite is kept by benchmarks/write_results.py.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from measurements import SUFFIX, SUITES, unpacked
from progloc.errors import ProglocError
from progloc.files import write_text
from progloc.paper.comparisons import elsewhere, gap, measured
from progloc.paper.suite import Suite, load_suite
from progloc.report.formats import ABSENT, interval, number, ratio
from progloc.report.statistics import UNIT, mean_interval, paired_ratio
from progloc.report.table import Column, Table, filled, to_markdown
from progloc.results import RunResult
from scripts import run_script

ROOT = Path(__file__).parents[1]
NAME, PAGE = "smollm2", Path("docs/pretrained.md")
BY = "benchmarks/write_pretrained.py"
EXCLUDED: tuple[tuple[int, ...], ...] = ((), (3,), (0, 3))
"""Seeds left out, in hindsight: those whose training without a penalty was unstable, the worst first."""
SHOWN = (0, 5, 10, 15, 20, 23, 24, 25, 26, 27, 28, 29)
"""Layers of the last table."""


def runs_table(suite: Suite) -> Table:
    """Return the figures of every run by seed, with the largest gradient norm that it met."""
    figures = (
        ("Perplexity", 2, lambda run: run.measure("perplexity")), ("Gap", 3, suite.gap),
        ("F°", 3, lambda run: run.measure("fidelity_no_sink")),
        ("Largest gradient norm", 1, lambda run: run.trained("gradient_norm_max")),
    )  # fmt: skip
    seeds = sorted({run.seed for run in suite.runs})
    rows = [
        (name, label, *(number(value(runs[seed]), digits) if seed in runs else ABSENT for seed in seeds))
        for label, digits, value in figures
        for name, runs in suite.by_name.items()
        if label != "Gap" or name != suite.distributed
    ]
    large = sum(run.trained("gradient_norm_max") > 20 for run in suite.runs)
    note = f"The norm is before clipping at 1; it exceeds 20 in {large} of {len(suite.runs)} runs."
    words = (Column("Architecture", text=True), Column("Figure", text=True))
    return Table("Every run", note, (*words, *(Column(f"Seed {seed}") for seed in seeds)), tuple(rows))


def gaps_table(suite: Suite) -> Table:
    """Return each gap over all seeds, and over those that are left when unstable ones are taken out."""

    def without(name: str, excluded: Collection[int]) -> str:
        ours, base = (suite.values(each, measured("perplexity")) for each in (name, suite.distributed or ""))
        return ratio(paired_ratio({k: v for k, v in ours.items() if k not in excluded}, base).estimate)

    rows = [
        (
            name, *(without(name, seeds) for seeds in EXCLUDED),
            ratio(gap(suite, name, perplexity=elsewhere("perplexity")).estimate),
            interval(mean_interval(suite.values(name, measured("fidelity_no_sink")).values()), 3),
        )
        for name in suite.localised
    ]  # fmt: skip
    labels = [f"Gap without seed{'s' * (len(seeds) > 1)} {' and '.join(map(str, seeds))}" for seeds in EXCLUDED[1:]]
    note = (
        "Perplexity ÷ that of the λ=0 run of the same seed, with 95% t-intervals. The first column is the result. "
        f"Seeds were taken out in the next two after they had been seen: an illustration, and no test. {UNIT}"
    )
    columns = ("Gap, all seeds", *labels, "Gap on another text, all seeds", "F°")
    return Table(
        "With and without the unstable seeds",
        note,
        (Column("Architecture", text=True), *map(Column, columns)),
        tuple(rows),
    )


def layers_table(suite: Suite) -> Table:
    """Return F° and sink mass by layer, before fine-tuning, without a penalty and under quintic."""

    def means(name: str, layer: int) -> str:
        def of(measure: str) -> float:
            return mean_interval(suite.values(name, lambda run: run.by_layer(measure)[layer]).values()).mean

        return f"{number(of('fidelity_no_sink'), 3)}, {number(of('sink_mass'), 2)}"

    some: RunResult = suite.one("quintic")
    rows, chances = [], set()
    for layer in SHOWN:
        before = some.before["layers"][layer]
        figures = f"{number(before['fidelity_no_sink'], 3)}, {number(before['sink_mass'], 2)}"
        chance = some.final["layers"][layer].get("chance_fidelity_no_sink", some.measure("chance_fidelity_no_sink"))
        chances.add(number(chance, 3))
        rows.append((
            str(layer), number(some.lambdas[layer], 3), figures, means("distributed", layer), means("quintic", layer),
        ))  # fmt: skip
    note = f"Means over seeds. F° by chance is {', '.join(sorted(chances))} in these layers."
    labels = ("Layer", "λ (quintic)", "before", "λ=0", "quintic")
    return Table("By layer: F°, then sink mass", note, tuple(map(Column, labels)), tuple(rows))


def written(root: Path) -> str:
    """Return the tables as the page has them."""
    path = root / SUITES / f"{NAME}{SUFFIX}"
    with unpacked({NAME: path}) as folder:
        suite = load_suite(folder / NAME)
    if not suite.localised or suite.distributed is None:
        raise ProglocError(f"{path} has no run with λ = 0, or none with a penalty")
    return "\n".join(to_markdown(table) for table in (gaps_table(suite), runs_table(suite), layers_table(suite)))


def main() -> None:
    """Write the page."""
    page = ROOT / PAGE
    write_text(page, filled(page.read_text(encoding="utf-8"), BY, written(ROOT)))


if __name__ == "__main__":
    run_script(main)
