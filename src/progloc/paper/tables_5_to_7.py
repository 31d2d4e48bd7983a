"""Tables 5–7, which the paper does not have: every partitioner (method.md §7), a second text, other penalties (§4)."""

from __future__ import annotations

import json
from collections.abc import Callable

from progloc.blocks import is_fixed
from progloc.paper.comparisons import comparison_table, elsewhere, gap, measured, perplexity_ratio
from progloc.paper.entries import LOCALITY, gap_entry, locality_entries, mean_entry
from progloc.paper.semantic import LOCALITIES, at_equal_locality, chance_level, control_of, size_alone
from progloc.paper.suite import Figure, Suite
from progloc.report.formats import ABSENT, number
from progloc.report.statistics import paired_difference
from progloc.report.table import Column, Table
from progloc.results import RunResult

_BLOCKS = Column("Blocks", text=True)
_ARCHITECTURE = Column("Architecture", text=True)
_PRICE_AND_LOCALITY = (Column("Seeds"), Column("Gap"), *(Column(label) for label, _, _ in LOCALITY))


def _price_and_locality(suite: Suite, name: str) -> tuple[str, ...]:
    return str(len(suite.by_name[name])), gap_entry(suite, name), *locality_entries(suite, name)


def table_5(suite: Suite) -> list[Table]:
    """Return gap and F° of {partitioner} × {schedule}, all else of each, and the tests; none with one partitioner."""
    if len(suite.partitioners) < 2:
        return []
    names = {(run.blocks, run.schedule): run.name for run in suite.compared}
    schedules = list(dict.fromkeys(schedule for _, schedule in names))

    def matrix(title: str, note: str, cell: Callable[[str], str]) -> Table:
        rows = tuple(
            (blocks, *(cell(names[blocks, s]) if (blocks, s) in names else ABSENT for s in schedules))
            for blocks in suite.partitioners
        )
        return Table(title, note, (_BLOCKS, *map(Column, schedules)), rows)

    in_order = sorted(names.items(), key=lambda item: suite.partitioners.index(item[0][0]))
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
            (_BLOCKS, _ARCHITECTURE, *_PRICE_AND_LOCALITY),
            tuple((*key, *_price_and_locality(suite, name)) for key, name in in_order),
            detail=True,
        ),
        *comparison_table(
            "Table 5, tested: gap",
            "Perplexity ÷ that of the λ=0 run of the same data, budget and seed.",
            {
                f"{schedule}, {blocks} ÷ λ=0": gap(suite, name)
                for (blocks, schedule), name in names.items()
                if not suite.one(name).is_distributed
            },
            unit="×",
        ),
        *(table for label, locality in LOCALITIES.items() for table in _at_equal_locality(suite, label, locality)),
    ]


def _at_equal_locality(suite: Suite, label: str, locality: Figure) -> list[Table]:
    """Test every semantic partitioner's gap against that of fixed blocks of its size, where both are as local."""
    semantic = [blocks for blocks in suite.partitioners if not is_fixed(blocks)]
    controls = {blocks: control for blocks in semantic if (control := control_of(suite, blocks)) is not None}
    matches = {blocks: at_equal_locality(suite, blocks, locality) for blocks in controls}
    alone = [blocks for blocks in semantic if blocks not in controls]
    apart = [blocks for blocks, match in matches.items() if match is None]
    sizes = "; ".join(
        f"{blocks} {number(chance_level(suite, blocks), 3)}, {control} {number(chance_level(suite, control), 3)}"
        for blocks, control in controls.items()
    )
    return comparison_table(
        f"Table 5, tested: gap at equal {label}, blocks of one size",
        f"Gap ÷ that of the fixed blocks whose chance F° is nearest ({sizes}), in the middle of the {label} that every "
        "seed's runs of both reach, interpolated between runs."
        + (f" No fixed blocks of the size of {', '.join(alone)}." if alone else "")
        + (f" No such {label} for {', '.join(apart)}." if apart else ""),
        {
            f"{blocks} ÷ {controls[blocks]} at {label} {number(match.level, 3)}": match.ratio
            for blocks, match in matches.items()
            if match is not None
        },
        unit="×",
    )


def table_6(suite: Suite) -> list[Table]:
    """Return gap and F° on the second text beside those on validation; none where no run has a second text."""
    names = list(dict.fromkeys(run.name for run in suite.compared if run.elsewhere is not None))
    if not names:
        return []
    rows = tuple(
        (
            suite.one(name).blocks,
            suite.one(name).schedule,
            mean_entry(suite, name, elsewhere("perplexity"), 2),
            gap_entry(suite, name, elsewhere("perplexity")),
            gap_entry(suite, name),
            mean_entry(suite, name, elsewhere("fidelity_no_sink"), 3),
            mean_entry(suite, name, measured("fidelity_no_sink"), 3),
        )
        for name in names
    )
    labels = ("Perplexity there", "Gap there", "Gap on validation", "F° there", "F° on validation")
    text = suite.one(names[0]).data["second_corpus"]
    note = f"There: {text}, which no model was trained on. Gap: perplexity ÷ that of the same seed's λ=0 run."
    return [Table("Table 6: the price on another text", note, (_BLOCKS, _ARCHITECTURE, *map(Column, labels)), rows)]


def _changes(run: RunResult, own: RunResult) -> str:
    """Return the settings of a run's penalty that are not as in the suite's own run, as YAML has them."""
    settings, suites = run.config["locality"], own.config["locality"]
    return ", ".join(f"{key}: {json.dumps(value)}" for key, value in settings.items() if suites[key] != value)


def table_7(suite: Suite) -> list[Table]:
    """Return price and locality of every variant beside the run it varies, and the tests; none without variants."""
    own_of = {suite.one(name).schedule: name for name in reversed(suite.architectures)}
    varied = {
        name: own_of[run.schedule]
        for name in suite.by_name
        if (run := suite.one(name)).role == "variant" and run.schedule in own_of
    }
    if not varied:
        return []
    changes = {name: _changes(suite.one(name), suite.one(own)) for name, own in varied.items()}
    rows = []
    for own in dict.fromkeys(varied.values()):
        rows.append((own, "as the suite's", *_price_and_locality(suite, own)))
        rows += [(own, changes[name], *_price_and_locality(suite, name)) for name in varied if varied[name] == own]
    local = measured("fidelity_no_sink")
    return [
        Table(
            "Table 7: variants of the penalty",
            "Each differs from the suite's own penalty by what is named. Lowest: of the layers with λ ≥ 0.5, in each "
            "seed; their mean over seeds.",
            (_ARCHITECTURE, Column("Penalty", text=True), *_PRICE_AND_LOCALITY),
            tuple(rows),
        ),
        *comparison_table(
            "Table 7, tested: perplexity",
            "Perplexity ÷ that of the suite's own penalty.",
            {f"{own}, {changes[name]}": perplexity_ratio(suite, name, own) for name, own in varied.items()},
            unit="×",
        ),
        *comparison_table(
            "Table 7, tested: F°",
            "Difference to the suite's own penalty.",
            {
                f"{own}, {changes[name]}": paired_difference(suite.values(name, local), suite.values(own, local))
                for name, own in varied.items()
            },
        ),
    ]
