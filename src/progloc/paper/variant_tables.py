"""Every variant of the penalty beside the suite's own: the ablations (method.md §4)."""

from __future__ import annotations

__all__ = ["table_7"]

import json

from progloc.paper.compared import comparison_table
from progloc.paper.comparisons import measured, perplexity_ratio
from progloc.paper.entries import LOCALITY, gap_entry, locality_entries
from progloc.paper.results import Run, Suite
from progloc.report.statistics import paired_difference
from progloc.report.table import Column, Table


def _changes(run: Run, own: Run) -> str:
    """Return the settings of a run's penalty that are not as in the suite's own run, as YAML has them."""
    ours, theirs = run.config["locality"], own.config["locality"]
    return ", ".join(f"{key}: {json.dumps(value)}" for key, value in ours.items() if theirs[key] != value)


def table_7(suite: Suite) -> list[Table]:
    """Return price and locality of every variant beside the run it varies, and the tests; none without variants."""
    varied = {
        name: own
        for name in suite.by_name
        if (run := suite.one(name)).role == "variant"
        and (own := next((each for each in suite.architectures if suite.one(each).schedule == run.schedule), None))
    }
    if not varied:
        return []
    order = [(own, name) for own in dict.fromkeys(varied.values()) for name in (own, *_of(varied, own))]
    rows = tuple(
        (
            own,
            "as the suite's" if name == own else _changes(suite.one(name), suite.one(own)),
            str(len(suite.by_name[name])),
            gap_entry(suite, name),
            *locality_entries(suite, name),
        )
        for own, name in order
    )
    columns = (
        Column("Architecture", text=True), Column("Penalty", text=True), Column("Seeds"), Column("Gap"),
        *(Column(label) for label, _, _ in LOCALITY),
    )  # fmt: skip
    local = measured("fidelity_no_sink")
    labels = {name: f"{own}, {_changes(suite.one(name), suite.one(own))}" for name, own in varied.items()}
    return [
        Table(
            "Table 7: variants of the penalty",
            "Each differs from the suite's own penalty by what is named. Lowest: of the layers with λ ≥ 0.5, in each "
            "seed; their mean over seeds.",
            columns,
            rows,
        ),
        *comparison_table(
            "Table 7, tested: perplexity",
            "Perplexity ÷ that of the suite's own penalty.",
            [(labels[name], perplexity_ratio(suite, name, own)) for name, own in varied.items()],
            3,
            "×",
        ),
        *comparison_table(
            "Table 7, tested: F°",
            "Difference to the suite's own penalty.",
            [
                (labels[name], paired_difference(suite.values(name, local), suite.values(own, local)))
                for name, own in varied.items()
            ],
            3,
        ),
    ]


def _of(varied: dict[str, str], own: str) -> list[str]:
    return [name for name, each in varied.items() if each == own]
