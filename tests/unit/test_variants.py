"""Table 7: variants of the penalty beside the suite's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from progloc.paper.suite import Suite, load_suite
from progloc.paper.tables import suite_tables
from synthetic_suite import make_suite, titled


def dearer_without_the_sink_left_alone(run: dict[str, Any]) -> None:
    if run["name"] == "quintic-plain":
        run["final"]["perplexity"] *= 1.5


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    variants = {"plain": {"sink_aware": True}, "weak": {"alpha": 0.01}}
    return load_suite(make_suite(tmp_path, variants=variants, change=dearer_without_the_sink_left_alone))


def test_every_variant_stands_under_the_run_it_varies(suite: Suite) -> None:
    made = titled(suite, "Table 7: variants of the penalty")
    assert [row[:3] for row in made.rows] == [
        ("quintic", "as the suite's", "3"),
        ("quintic", "sink_aware: true", "3"),
        ("quintic", "alpha: 0.01", "3"),
    ]
    gaps = [float(row[3].split("×")[0]) for row in made.rows]
    assert gaps[1] == pytest.approx(1.5 * gaps[0], rel=0.01)
    assert gaps[2] < gaps[0]


@pytest.mark.slow
def test_it_is_tested_against_the_suites_own_penalty(suite: Suite) -> None:
    rows = titled(suite, "Table 7, tested: perplexity").rows
    assert [row[0] for row in rows] == ["quintic, sink_aware: true", "quintic, alpha: 0.01"]
    assert float(rows[0][2].split("×")[0]) == pytest.approx(1.5, rel=0.01)
    assert titled(suite, "Table 7, tested: F°").rows[0][2].lstrip("−").startswith("0.00")


@pytest.mark.slow
def test_variants_are_in_no_other_table(suite: Suite, tmp_path: Path) -> None:
    without = load_suite(make_suite(tmp_path / "without"))
    with_them = [table for table in suite_tables(suite) if not table.title.startswith("Table 7")]
    assert with_them == suite_tables(without)
    assert not [table for table in suite_tables(without) if table.title.startswith("Table 7")]
