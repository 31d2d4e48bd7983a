"""Every partitioner with every schedule: what each costs and how local it is (SPEC §7, `paper-v3`)."""

from __future__ import annotations

__all__ = ["table_5"]

import math
from collections.abc import Callable

import numpy as np

from progloc.suite.compared import comparison_table
from progloc.suite.comparisons import gap, measured
from progloc.suite.frontier import above_chance, beyond_chance, matched, paired_curves
from progloc.suite.rendering import ABSENT, Column, Table, interval, number, ratio
from progloc.suite.results import Figure, Run, Suite
from progloc.suite.statistics import mean_interval

_LOCAL = 0.5
"""The λ from which a layer is one that was meant to be local."""


def _lowest(run: Run) -> float:
    """Return the lowest F° of the layers with λ ≥ 0.5; NaN where there is none, or one is undefined."""
    layers = zip(run.lambdas, run.by_layer("fidelity_no_sink"), strict=True)
    local = [fidelity for weight, fidelity in layers if weight >= _LOCAL]
    return float(np.min(local)) if local else math.nan


def _lowest_above_chance(run: Run) -> float:
    """Return the lowest F° above chance of the same layers; chance is a layer's own where blocks differ by layer."""
    chance = [
        layer.get("chance_fidelity_no_sink", run.measure("chance_fidelity_no_sink")) for layer in run.final["layers"]
    ]
    layers = zip(run.lambdas, run.by_layer("fidelity_no_sink"), chance, strict=True)
    local = [beyond_chance(fidelity, level) for weight, fidelity, level in layers if weight >= _LOCAL]
    return float(np.min(local)) if local else math.nan


_FIGURES: list[tuple[str, Figure, int]] = [
    ("Perplexity", measured("perplexity"), 2),
    ("F°", measured("fidelity_no_sink"), 3),
    ("Chance F°", measured("chance_fidelity_no_sink"), 3),
    ("F° above chance", above_chance, 3),
    ("Lowest F°, λ ≥ 0.5", _lowest, 3),
    ("Lowest above chance, λ ≥ 0.5", _lowest_above_chance, 3),
    ("H° (bits)", measured("entropy_bits_no_sink"), 2),
    ("Sink mass", measured("sink_mass"), 3),
]


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

    def cost(name: str) -> str:
        return "1×" if suite.one(name).is_distributed else ratio(gap(suite, name).estimate)

    def mean(name: str, figure: Figure, digits: int) -> str:
        return interval(mean_interval(suite.values(name, figure).values()), digits)

    columns = (
        Column("Blocks", text=True), Column("Architecture", text=True), Column("Seeds"), Column("Gap"),
        *(Column(label) for label, _, _ in _FIGURES),
    )  # fmt: skip
    rows = tuple(
        (
            blocks, schedule, str(len(suite.by_name[name])), cost(name),
            *(mean(name, figure, digits) for _, figure, digits in _FIGURES),
        )
        for (blocks, schedule), name in sorted(names.items(), key=lambda item: suite.partitioners.index(item[0][0]))
    )  # fmt: skip
    return [
        matrix("Table 5: gap by blocks and schedule", "Perplexity ÷ that of the λ=0 run of the same seed.", cost),
        matrix(
            "Table 5, continued: F° by blocks and schedule",
            "Each row on its own blocks: larger ones have more by chance alone, so compare with chance below.",
            lambda name: mean(name, measured("fidelity_no_sink"), 3),
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
