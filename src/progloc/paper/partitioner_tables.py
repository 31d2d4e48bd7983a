"""Every partitioner with every schedule: what each costs and how local it is (method.md §7, `paper-v3`)."""

from __future__ import annotations

__all__ = ["table_5"]

from collections.abc import Callable

from progloc.blocks.fixed import is_fixed
from progloc.paper.compared import comparison_table
from progloc.paper.comparisons import gap, measured
from progloc.paper.entries import LOCALITY, gap_entry, locality_entries, mean_entry
from progloc.paper.results import Figure, Suite
from progloc.paper.semantic import LOCALITIES, at_equal_locality, chance_level, control_of, size_alone
from progloc.report.formats import ABSENT, number
from progloc.report.table import Column, Table


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
            "Perplexity ÷ that of the λ=0 run of the same seed. Larger blocks are cheaper whatever they are made of: "
            f"compare with fixed blocks of the same size alone.{size_alone(suite)}",
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
        *(made for label, locality in LOCALITIES.items() for made in _at_equal_locality(suite, label, locality)),
    ]


def _at_equal_locality(suite: Suite, label: str, locality: Figure) -> list[Table]:
    """Test every semantic partitioner's gap against that of fixed blocks of its size, where both are as local."""
    controls = {blocks: control_of(suite, blocks) for blocks in suite.partitioners if not is_fixed(blocks)}
    found = {blocks: at_equal_locality(suite, blocks, locality) for blocks in controls}
    alone = [blocks for blocks, control in controls.items() if control is None]
    apart = [blocks for blocks, each in found.items() if each is None and blocks not in alone]
    sizes = "; ".join(
        f"{blocks} {number(chance_level(suite, blocks), 3)}, {control} {number(chance_level(suite, control), 3)}"
        for blocks, control in controls.items()
        if control is not None
    )
    return comparison_table(
        f"Table 5, tested: gap at equal {label}, blocks of one size",
        f"Gap ÷ that of the fixed blocks whose chance F° is nearest ({sizes}), in the middle of the {label} that every "
        "seed's runs of both reach, interpolated between runs."
        + (f" No fixed blocks of the size of {', '.join(alone)}." if alone else "")
        + (f" No such {label} for {', '.join(apart)}." if apart else ""),
        [
            (f"{blocks} ÷ {controls[blocks]} at {label} {number(each.level, 3)}", each.ratio)
            for blocks, each in found.items()
            if each is not None
        ],
        3,
        "×",
    )
