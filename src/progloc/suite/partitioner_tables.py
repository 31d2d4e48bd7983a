"""Every partitioner with every schedule: what each costs and how local it is (SPEC §7, `paper-v3`)."""

from __future__ import annotations

__all__ = ["table_5"]

from collections.abc import Callable

from progloc.suite.compared import comparison_table
from progloc.suite.comparisons import gap, measured
from progloc.suite.entries import LOCALITY, gap_entry, locality_entries, mean_entry
from progloc.suite.frontier import above_chance, matched, paired_curves
from progloc.suite.rendering import ABSENT, Column, Table, number
from progloc.suite.results import Figure, Suite


def table_5(suite: Suite) -> list[Table]:
    """Return gap and F° of {partitioner} × {schedule}, all else of each, and the tests; none with one partitioner."""
    if len(suite.partitioners) < 2:
        return []
    names = {(run.blocks, run.schedule): run.name for run in suite.compared}
    schedules = list(dict.fromkeys(schedule for _, schedule in names))

    def matrix(title: str, note: str, cell: Callable[[str], str]) -> Table:
        rows = tuple(
            (blocks, *(cell(names[blocks, each]) if (blocks, each) in names else ABSENT for each in schedules))
            for blocks in suite.partitioners
        )
        return Table(title, note, (Column("Blocks", text=True), *map(Column, schedules)), rows)

    columns = (
        Column("Blocks", text=True), Column("Architecture", text=True), Column("Seeds"), Column("Gap"),
        *(Column(label) for label, _, _ in LOCALITY),
    )  # fmt: skip
    rows = tuple(
        (
            blocks, schedule, str(len(suite.by_name[name])), gap_entry(suite, name), *locality_entries(suite, name),
        )
        for (blocks, schedule), name in sorted(names.items(), key=lambda item: suite.partitioners.index(item[0][0]))
    )  # fmt: skip
    return [
        matrix(
            "Table 5: gap by blocks and schedule",
            "Perplexity ÷ that of the λ=0 run of the same seed.",
            lambda name: gap_entry(suite, name),
        ),
        matrix(
            "Table 5, continued: F° by blocks and schedule",
            "Each row on its own blocks: larger ones have more by chance alone, so compare with chance below.",
            lambda name: mean_entry(suite, name, measured("fidelity_no_sink"), 3),
        ),
        Table(
            "Table 5, continued: every figure",
            "F° above chance: (F° − chance)/(1 − chance). Lowest: of the layers with λ ≥ 0.5, in each seed; their mean "
            "over seeds. Without a penalty blocks change nothing but what is measured: the λ=0 runs of a seed are one "
            "model.",
            columns,
            rows,
            detail=True,
        ),
        *comparison_table(
            "Table 5, tested: gap",
            "Perplexity ÷ that of the λ=0 run of the same data, budget and seed.",
            [
                (f"{schedule}, {blocks} ÷ λ=0", gap(suite, name))
                for (blocks, schedule), name in names.items()
                if not suite.one(name).is_distributed
            ],
            3,
            "×",
        ),
        *_at_equal_locality(suite, "F°", measured("fidelity_no_sink")),
        *_at_equal_locality(suite, "F° above chance", above_chance),
    ]


def _at_equal_locality(suite: Suite, label: str, locality: Figure) -> list[Table]:
    """Test every partitioner's gap against the first one's, in the middle of the locality that both reach."""
    first, *others = suite.partitioners
    found = {blocks: matched(*paired_curves(suite, blocks, first, locality)) for blocks in others}
    apart = [blocks for blocks, each in found.items() if each is None]
    return comparison_table(
        f"Table 5, tested: gap at equal {label}",
        f"Gap ÷ that of {first}, in the middle of the {label} that every seed's runs of both reach, interpolated "
        "between runs." + (f" No such {label} for {', '.join(apart)}." if apart else ""),
        [
            (f"{blocks} ÷ {first} at {label} {number(each.level, 3)}", each.ratio)
            for blocks, each in found.items()
            if each is not None
        ],
        3,
        "×",
    )
