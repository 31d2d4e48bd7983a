"""What is compared with what, paired by seed over the runs that are finished, and how the tests are tabulated.

A family of comparisons is one table: Holm's correction is over its rows. What each column is: docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from progloc.paper.suite import Figure, Suite
from progloc.report.formats import ABSENT, counted, number, p_value, span
from progloc.report.statistics import BCA_FROM, LEVEL, UNIT, Comparison, Values, common_seeds, holm, paired_ratio
from progloc.report.table import Column, Table


def measured(name: str) -> Figure:
    """Return the figure that reads a measure of the kept checkpoint."""
    return lambda run: run.measure(name)


def elsewhere(name: str) -> Figure:
    """Return the figure that reads a measure on the second text; NaN where there is none."""
    return lambda run: run.measure_elsewhere(name)


def at_the_end(name: str) -> Figure:
    """Return the figure that reads a measure of the last evaluation, whichever checkpoint was kept."""
    return lambda run: run.at_the_end(name)


def trained(name: str) -> Figure:
    """Return the figure that reads something of the training itself."""
    return lambda run: run.trained(name)


def layer(name: str, index: int) -> Figure:
    """Return the figure that reads a measure of one layer; of the last with index −1."""
    return lambda run: run.by_layer(name)[index]


def depth(index: int, layers: int) -> float:
    """Return a layer's relative depth, ℓ/(L-1), in [0, 1]."""
    return index / (layers - 1) if layers > 1 else 1.0


def aligned(suite: Suite, names: Iterable[str], figure: Figure) -> list[dict[int, float]]:
    """Return the figure of each run by seed, for the seeds that all of them have."""
    by_name = [suite.values(name, figure) for name in names]
    seeds = common_seeds(*by_name)
    return [{seed: values[seed] for seed in seeds} for values in by_name]


def to_distributed(suite: Suite, name: str, figure: Figure) -> tuple[Values, Values]:
    """Return a figure by seed, of the runs of that name and of those with λ = 0."""
    return suite.values(name, figure), suite.values(suite.distributed or "", figure)


def gap(suite: Suite, name: str, level: float = LEVEL, perplexity: Figure | None = None) -> Comparison:
    """Return perplexity ÷ that of the λ=0 run of the same data, budget and seed (method.md §3), where there is one.

    Of the kept checkpoints on validation, unless ``perplexity`` reads another one.
    """
    perplexity = perplexity or measured("perplexity")
    runs = suite.by_name.get(name, {})
    baselines = {seed: baseline for seed, run in runs.items() if (baseline := suite.baseline(run)) is not None}
    return paired_ratio(
        {seed: perplexity(runs[seed]) for seed in baselines},
        {seed: perplexity(baseline) for seed, baseline in baselines.items()},
        level,
    )


def perplexity_ratio(suite: Suite, name: str, other: str, level: float = LEVEL) -> Comparison:
    """Return the perplexity of one name ÷ that of another, over the seeds both have (perhaps none)."""
    perplexity = measured("perplexity")
    return paired_ratio(suite.values(name, perplexity), suite.values(other, perplexity), level)


def cells(suite: Suite) -> dict[tuple[float, int], str]:
    """Return the names of the cubic runs by (α, epochs): the cells of Table 2 that have a finished run.

    Of the suite's first partitioner alone; the others have the architectures and no such cells.
    """
    runs = {name: suite.one(name) for name in suite.by_name if suite.one(name).role in ("architecture", "optimisation")}
    return {(run.alpha, run.budget): name for name, run in runs.items() if run.schedule == "cubic"}


_COLUMNS = (
    Column("Comparison", text=True), Column("Seeds"), Column("Mean [95%, t]"), Column("[95%, BCa]"), Column("d_z"),
    Column("p, t"), Column("Holm"), Column("p, permutation"), Column("Holm, permutation"),
)  # fmt: skip


def comparison_table(
    title: str, note: str, comparisons: Mapping[str, Comparison], digits: int = 3, unit: str = ""
) -> list[Table]:
    """Return the tests of a family of comparisons as a table of their own; none where no comparison has two seeds.

    Args:
        title: the table's.
        note: what is compared with what.
        comparisons: by what each is called.
        digits: decimals of means and intervals.
        unit: after a mean, such as "×".
    """
    seeds = max((comparison.estimate.n for comparison in comparisons.values()), default=0)
    if seeds < 2:
        return []
    by_t = holm([comparison.p for comparison in comparisons.values()])
    by_permutation = holm([comparison.p_permutation for comparison in comparisons.values()])
    rows = tuple(
        (
            label,
            str(comparison.estimate.n),
            f"{number(comparison.estimate.mean, digits)}{unit} {span(comparison.estimate, digits)}".rstrip(),
            ABSENT if comparison.bca is None else span(comparison.bca, digits),
            number(comparison.d, 2),
            *map(p_value, (comparison.p, adjusted, comparison.p_permutation, adjusted_permutation)),
        )
        for (label, comparison), adjusted, adjusted_permutation in zip(
            comparisons.items(), by_t, by_permutation, strict=True
        )
    )
    explained = (
        f"{note} {UNIT} Paired by seed. d_z: Cohen's d of the paired differences. Holm: corrected for the "
        f"{counted(len(rows), 'comparison')} of this table. With {counted(seeds, 'seed')} the permutation test's p is "
        f"at least {number(2 ** (1 - seeds), 3)}. BCa: bootstrap, from {BCA_FROM} seeds on."
    )
    return [Table(title, explained, _COLUMNS, rows, detail=True)]
