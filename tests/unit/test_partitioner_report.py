"""A suite with several partitioners, and one with a second text: the tables and the figure that these bring."""

import math

import pytest

from progloc.paper.claims import answers
from progloc.paper.suite import load_suite
from progloc.paper.suite_report import summary, write_report
from progloc.paper.tables import suite_tables
from progloc.paper.tables_1_to_4 import table_1, table_2, table_3, table_4
from synthetic_suite import ARCHITECTURES, column, make_suite, shown, titled


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return load_suite(make_suite(tmp_path_factory.mktemp("one")))


def on_large_blocks(run):
    blocks = run["config"]["locality"]["blocks"]
    if blocks == "fixed:30":
        run["final"]["chance_fidelity_no_sink"] = 0.31
    if blocks == "sentences":
        final = run["final"]
        final["perplexity"] = 100 * (final["perplexity"] / 100) ** 0.5
        final["chance_fidelity_no_sink"] = 0.3
        for measures in (final, *final["layers"]):
            measures["fidelity_no_sink"] += 0.1


@pytest.fixture(scope="module")
def several_partitioners(tmp_path_factory):
    folder = make_suite(
        tmp_path_factory.mktemp("blocks"), partitioners=["sentences", "fixed:30"], change=on_large_blocks
    )
    write_report(folder)
    return load_suite(folder)


@pytest.mark.slow
def test_partitioners_and_schedules_make_one_table(several_partitioners):
    gaps = titled(several_partitioners, "Table 5: gap by blocks and schedule")
    assert [c.label for c in gaps.columns] == ["Blocks", *ARCHITECTURES]
    assert [row[0] for row in gaps.rows] == ["fixed:5", "sentences", "fixed:30"]
    assert column(gaps, "distributed") == dict.fromkeys(["fixed:5", "sentences", "fixed:30"], "1×")
    suite = several_partitioners
    ratios = [suite.gap(run) for run in suite.by_name["localist-sentences"].values()]
    assert column(gaps, "localist")["sentences"].startswith(f"{math.prod(ratios) ** (1 / 3):.3f}×")


@pytest.mark.slow
def test_the_summary_says_what_other_blocks_cost(several_partitioners):
    said = summary(several_partitioners, answers(several_partitioners))
    names = {"fixed:5": "localist", "sentences": "localist-sentences", "fixed:30": "localist-fixed:30"}
    suite = several_partitioners
    gaps = {on: [suite.gap(run) for run in suite.by_name[name].values()] for on, name in names.items()}
    costs = ", ".join(f"{math.prod(each) ** (1 / 3):.3f}× on {on}" for on, each in gaps.items())
    assert f"By blocks, localist costs {costs}: larger blocks cost less, whatever they are made of (C8)." in said


@pytest.mark.slow
def test_the_lowest_layer_is_of_those_meant_to_be_local(several_partitioners):
    whole = titled(several_partitioners, "Table 5, continued: every figure")
    row = next(row for row in whole.rows if row[:2] == ("sentences", "linear"))
    cells = dict(zip((c.label for c in whole.columns), row, strict=True))
    # of λ = 0, 0.2 … 1 the first that is ≥ 0.5 is 0.6: F° = 0.3 + 0.6 · 0.6 + 0.1, of which chance is 0.3
    assert cells["Lowest F°, λ ≥ 0.5"].startswith("0.76")
    assert cells["Lowest above chance, λ ≥ 0.5"].startswith("0.65")
    assert next(row for row in whole.rows if row[1] == "distributed")[8] == "—"


@pytest.mark.slow
def test_blocks_are_compared_at_equal_locality(several_partitioners):
    table = titled(several_partitioners, "Table 5, tested: gap at equal F°, blocks of one size")
    ((label, *cells),) = table.rows
    assert label == "sentences ÷ fixed:30 at F° 0.650"
    assert "(sentences 0.300, fixed:30 0.310)" in table.note
    assert float(cells[1].split("×")[0]) < 1


@pytest.mark.slow
def test_other_partitioners_leave_the_papers_tables_alone(suite, several_partitioners):
    for build in (table_1, table_2, table_3, table_4):
        assert build(several_partitioners) == build(suite)


@pytest.mark.slow
def test_tables_of_several_partitioners_fit_into_eighty_characters(several_partitioners):
    for table in suite_tables(several_partitioners):
        assert table.detail or "…" not in shown(table)


@pytest.mark.slow
def test_the_frontier_by_blocks_is_drawn(several_partitioners):
    assert (several_partitioners.folder / "figures" / "frontier-by-blocks.png").exists()


# ---- a second text


def elsewhere(run):
    price = run["final"]["perplexity"] / 100
    run["data"]["second_corpus"] = "another-text.txt"
    run["elsewhere"] = {"perplexity": 200 * price**2, "fidelity_no_sink": 0.25}


def test_the_price_on_another_text_stands_beside_the_price_here(tmp_path):
    suite = load_suite(make_suite(tmp_path, change=elsewhere))
    table = titled(suite, "Table 6: the price on another text")
    assert "another-text.txt" in table.note
    labels = [c.label for c in table.columns]
    rows = {row[1]: dict(zip(labels, row, strict=True)) for row in table.rows}
    assert list(rows) == list(ARCHITECTURES)
    here, there = (float(rows["localist"][label].split("×")[0]) for label in ("Gap on validation", "Gap there"))
    assert there == pytest.approx(here**2, rel=0.002)
    assert rows["distributed"]["Gap there"] == "1×"
    assert rows["quintic"]["F° there"].startswith("0.250")


def test_without_a_second_text_there_is_no_such_table(suite):
    assert not [table for table in suite_tables(suite) if table.title.startswith("Table 6")]
