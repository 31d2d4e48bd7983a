"""A suite's tables, CSV and page, against the numbers in its result files."""

import csv
import dataclasses
import json
import math
import re

import numpy as np
import pytest
from scipy import stats

from progloc.errors import ProglocError
from progloc.paper import published
from progloc.paper.figures import learned_schedules, style
from progloc.paper.suite import CSV_COLUMNS, load_suite
from progloc.paper.suite_report import write_report
from progloc.paper.tables import reading, suite_tables, tables_markdown
from progloc.paper.tables_1_to_4 import table_1, table_2, table_3, table_4
from progloc.report.table import Column, Table, to_markdown
from synthetic_suite import ARCHITECTURES, column, make_suite, shown, titled

pytestmark = pytest.mark.slow

PROMISED = [
    "run", "schedule", "beta", "blocks", "seed", "perplexity", "gap", "entropy_bits", "fidelity", "chance_fidelity",
    "penalty_nats", "sink_mass", "fidelity_no_sink", "entropy_bits_no_sink", "last_layer_fidelity",
    "last_layer_fidelity_no_sink", "last_layer_entropy_bits", "steps", "seconds",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole suite, reported."""
    made = make_suite(tmp_path_factory.mktemp("suite"), corpus='<script>alert("x")</script>')
    write_report(made)
    return made


@pytest.fixture(scope="module")
def suite(folder):
    return load_suite(folder)


def raw(folder, name, seed):
    return json.loads((folder / "runs" / f"{name}-seed{seed}" / "result.json").read_text())


def perplexities(folder, name):
    return [raw(folder, name, seed)["final"]["perplexity"] for seed in range(3)]


def half_width(values):
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return stats.t.ppf(0.975, len(values) - 1) * math.sqrt(variance / len(values))


# ---- results.csv


def test_csv_has_the_promised_columns_first_and_a_row_a_run(folder):
    with (folder / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0])[:19] == PROMISED
    assert list(rows[0])[19:] == ["alpha", "epochs", "chance_fidelity_no_sink", "weighted_penalty_nats", "kept_epoch"]
    assert len(rows) == 3 * 11
    row = next(row for row in rows if (row["run"], row["seed"]) == ("quintic", "1"))
    final = raw(folder, "quintic", 1)["final"]
    assert float(row["last_layer_fidelity_no_sink"]) == final["layers"][-1]["fidelity_no_sink"]
    assert float(row["gap"]) == pytest.approx(
        final["perplexity"] / raw(folder, "distributed", 1)["final"]["perplexity"]
    )


def test_gap_is_to_the_same_budget(folder, suite):
    run = suite.by_name["cubic-alpha0.5-epochs5"][2]
    short = raw(folder, "distributed-epochs5", 2)["final"]["perplexity"]
    assert suite.gap(run) == pytest.approx(run.measure("perplexity") / short)


@pytest.mark.parametrize("key", ["split_sha256", "corpus_sha256"])
def test_no_gap_to_another_text(tmp_path, key):
    def other_text(run):
        if run["name"] == "linear":
            run["data"][key] = "0"

    suite = load_suite(make_suite(tmp_path, seeds=(0,), change=other_text))
    assert suite.gap(suite.one("linear")) is None
    assert suite.gap(suite.one("cubic")) is not None


# ---- tables


def test_table_1_holds_means_and_intervals_over_seeds(folder, suite):
    table, *_ = table_1(suite)
    ppl = perplexities(folder, "cubic")
    assert column(table, "Perplexity")["cubic"] == f"{sum(ppl) / 3:.2f} ± {half_width(ppl):.2f}"
    logs = [math.log(a / b) for a, b in zip(ppl, perplexities(folder, "distributed"), strict=True)]
    mean, half = sum(logs) / 3, half_width(logs)
    expected = f"{math.exp(mean):.3f}× [{math.exp(mean - half):.3f}, {math.exp(mean + half):.3f}]"
    assert column(table, "vs baseline (gap)")["cubic"] == expected
    penalty = [
        sum(w * layer["penalty_nats"] for w, layer in zip(run["lambdas"], run["final"]["layers"], strict=True))
        for run in (raw(folder, "cubic", seed) for seed in range(3))
    ]
    assert column(table, "Final penalty Σλp (nats)")["cubic"].startswith(f"{sum(penalty) / 3:.3f} ±")
    assert [row[0].split(" ")[0] for row in table.rows[:7]] == list(ARCHITECTURES)


def test_table_1_shows_chance_and_the_paper_in_columns_of_its_own(suite):
    table, *_ = table_1(suite)
    assert column(table, "F°")["chance"] == "0.100"
    assert column(table, "Fidelity F")["chance"] == "0.110"
    assert column(table, "Perplexity", theirs=True)["localist"] == "68.26"
    assert column(table, "Perplexity")["localist"] != "68.26"


def test_table_2_separates_the_two_changes(folder, suite):
    table, *_ = table_2(suite)
    assert [row[:2] for row in table.rows] == [("0.5", "5"), ("0.5", "20"), ("0.05", "5"), ("0.05", "20")]
    names = ("cubic-alpha0.5-epochs20", "cubic-alpha0.05-epochs5", "cubic")
    previous = perplexities(folder, "cubic-alpha0.5-epochs5")
    for row, name in zip(table.rows[1:], names, strict=True):
        logs = [math.log(a / b) for a, b in zip(perplexities(folder, name), previous, strict=True)]
        assert row[4].startswith(f"{100 * (1 - math.exp(sum(logs) / 3)):+.1f}% [")
    assert [row[-2] for row in table.rows] == ["130.58", "—", "—", "20.66"]


def test_table_3_has_every_layer_and_its_difference_to_no_penalty(folder, suite):
    entropy, fidelity, theirs, *_ = table_3(suite)
    assert [row[0] for row in entropy.rows] == [str(layer) for layer in range(6)]
    for table, measure, label, digits in ((entropy, "entropy_bits", "H", 2), (fidelity, "fidelity_no_sink", "F°", 3)):
        both = [[raw(folder, n, s)["final"]["layers"][4][measure] for s in range(3)] for n in ("linear", "distributed")]
        differences = [a - b for a, b in zip(*both, strict=True)]
        expected = f"{sum(differences) / 3:.{digits}f} ± {half_width(differences):.{digits}f}".replace("-", "−")
        assert column(table, f"Δ{label} to λ=0 (linear)")["4"] == expected
    assert all(c.paper for c in theirs.columns)
    assert theirs.rows[3] == ("9", "0.82", "0.185", "0.818", "1.94", "0.89")


def test_table_4_shows_the_norm_before_clipping(suite):
    table, *_ = table_4(suite)
    assert column(table, "Steps clipped (%)")["linear"] == "25.0 ± 0.0"
    assert column(table, "Mean penalty (nats)", theirs=True)["linear"] == "12.34"
    assert column(table, "Mean Σλp (nats)")["linear"].startswith("3.000")  # 6 · mean λ, which is ½


def test_how_to_read_the_tables_is_said_once(suite):
    said = reading(suite)
    assert "Checkpoint kept: the best validation objective" in said
    assert "Means over the seeds (3 at most), with 95% t-intervals" in said
    assert tables_markdown(suite).count(said) == 1


def test_the_gap_at_the_last_epoch_is_free_of_the_checkpoint_kept(suite):
    table = table_1(suite)[0]
    column = [c.label for c in table.columns].index("Gap at the last epoch")
    row = next(row for row in table.rows if row[0].startswith("quintic"))
    ratios = [
        suite.by_name["quintic"][seed].epochs[-1]["perplexity"]
        / suite.by_name["distributed"][seed].epochs[-1]["perplexity"]
        for seed in (0, 1, 2)
    ]
    assert row[column].startswith(f"{math.prod(ratios) ** (1 / 3):.3f}×")


def test_one_seed_has_no_interval_anywhere(tmp_path):
    suite = load_suite(make_suite(tmp_path, seeds=(0,)))
    for table in suite_tables(suite):
        assert not any("±" in cell or "[" in cell for row in table.rows for cell in row)
    assert "One seed: no interval" in reading(suite)


def test_what_is_undefined_is_a_dash_and_an_empty_cell(tmp_path):
    def undefined(run):
        run["final"]["fidelity_no_sink"] = None

    folder = make_suite(tmp_path, seeds=(0,), change=undefined)
    write_report(folder)
    table, *_ = table_1(load_suite(folder))
    assert column(table, "F°")["linear"] == "—"
    with (folder / "results.csv").open() as handle:
        assert {row["fidelity_no_sink"] for row in csv.DictReader(handle)} == {""}


def test_the_papers_tables_agree_with_their_own_arithmetic():
    base = published.TABLE_1["distributed"].perplexity
    for row in list(published.TABLE_1.values())[1:]:
        assert row.vs_baseline == pytest.approx(row.perplexity / base, abs=0.006)
    previous, optimised = published.TABLE_2
    assert optimised.improvement_percent == pytest.approx(
        100 * (1 - optimised.perplexity / previous.perplexity), abs=0.06
    )
    assert optimised.perplexity == published.TABLE_1["cubic"].perplexity
    for row in published.TABLE_3:
        assert row.lambda_linear == pytest.approx(row.layer / (published.TABLE_3_LAYERS - 1), abs=6e-4)


# ---- tests of a table's comparisons


def test_comparisons_are_paired_and_corrected_for_their_table(folder, suite):
    table = titled(suite, "Table 1, tested: gap")
    base = np.log(perplexities(folder, "distributed"))
    logs = {name: np.log(perplexities(folder, name)) - base for name in ARCHITECTURES[1:]}
    d = {name: values.mean() / values.std(ddof=1) for name, values in logs.items()}
    assert column(table, "d_z") == {name: f"{value:.2f}" for name, value in d.items()}
    assert set(column(table, "p, permutation").values()) == {"0.250"}  # two of the eight changes of three signs
    assert set(column(table, "Holm, permutation").values()) == {"1.000"}
    assert set(column(table, "[95%, BCa]").values()) == {"—"}  # three seeds
    assert "at least 0.250" in table.note


def test_holm_is_over_the_rows_of_a_table(tmp_path):
    def noisy(run):
        if run["name"] != "distributed":
            run["final"]["perplexity"] = 100 * (1 + 0.02 * len(run["name"]) * (1 + run["seed"]))

    folder = make_suite(tmp_path, change=noisy)
    table = titled(load_suite(folder), "Table 1, tested: gap")
    base = np.log(perplexities(folder, "distributed"))
    raw_p = {name: stats.ttest_rel(np.log(perplexities(folder, name)), base).pvalue for name in ARCHITECTURES[1:]}
    assert column(table, "p, t") == {name: "< 0.001" if p < 0.001 else f"{p:.3f}" for name, p in raw_p.items()}
    least = min(raw_p, key=raw_p.get)
    assert 0.001 < raw_p[least] < 1 / 6
    assert column(table, "Holm")[least] == f"{min(1, 6 * raw_p[least]):.3f}"


@pytest.mark.parametrize(
    "title",
    [
        "Table 1, tested: F°", "Trends over β", "Table 2, tested: perplexity", "Table 3, tested: F° by layer",
        "Table 3, tested: H (bits) by layer", "Table 4, tested: gradient norm",
    ],
)  # fmt: skip
def test_every_table_with_seeds_has_its_tests(suite, title):
    assert titled(suite, title).rows


def test_trends_follow_the_order_of_beta(suite):
    table = titled(suite, "Trends over β")
    # the least-squares slope of 0.600, 0.520, 0.480, 0.457, 0.442
    assert column(table, "Mean [95%, t]")["F°"].startswith("−0.038")
    assert column(table, "p, t")["F°"] == "< 0.001"


def test_every_test_says_what_its_unit_is(suite):
    tested = [table for table in suite_tables(suite) if "p, t" in [c.label for c in table.columns]]
    assert len(tested) > 5
    assert all("Unit: the seed" in table.note and "one base model" in table.note for table in tested)


# ---- renderings


def test_markdown_begins_with_what_made_it(folder):
    text = (folder / "tables.md").read_text()
    head = text[: text.index("## Table 1")]
    for fact in (
        "progloc reproduce --suite synthetic",
        "5e" * 32,
        "0.0-synthetic",
        "2000-01-01",
        "f00d (with uncommitted",
    ):
        assert fact in head
    assert text == tables_markdown(load_suite(folder))


TABLE = Table(
    "T", "a note", (Column("name", text=True), Column("x"), Column("y", paper=True)), (("a|b [c]", "1 [0, 2]", "9"),)
)


def test_markdown_keeps_bars_and_marks_the_paper():
    assert "| a\\|b [c] | 1 [0, 2] | 9 |" in to_markdown(TABLE)
    assert "| name | x | y (paper) |" in to_markdown(TABLE)


def test_terminal_has_means_of_ours_and_no_markup():
    table = Table("T", "", (Column("x", text=True), Column("y"), Column("z", paper=True)), (("a[b]", "1 ± 2", "9"),))
    assert "a[b]" in shown(table)
    assert "1" in shown(table)
    assert not {"2", "9"} & set(shown(table))


def test_terminal_tables_fit_into_eighty_characters(suite):
    for table in suite_tables(suite):
        assert "…" not in shown(table)


def test_page_escapes_and_needs_no_network(folder):
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)


def test_figures_stand_in_the_folder_and_in_the_page(folder):
    pictures = sorted((folder / "figures").iterdir())
    assert [p.stem for p in pictures] == [
        "entropy-by-layer", "fidelity-by-layer", "frontier", "penalty-by-layer", "schedules", "training",
    ]  # fmt: skip
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert (folder / "report.html").read_text().count("data:image/png") == len(pictures)
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_a_learned_schedule_is_drawn_and_is_the_mean_over_seeds_where_one_is_shown(tmp_path):
    def learn(run):
        if run["name"] == "linear":
            run["lambdas"] = [0.1 * run["seed"]] * 6
            steps = range(1, 4 + run["seed"])  # a seed may stop early
            run["lambdas_course"] = [{"step": step, "lambdas": [0.02 * step] * 6} for step in steps]

    suite = write_report(make_suite(tmp_path, seeds=(0, 1), change=learn))
    assert (tmp_path / "figures" / "learned-schedules.png").exists()
    assert suite.lambdas("linear") == pytest.approx([0.05] * 6)
    assert suite.lambdas("quintic") == pytest.approx([(layer / 5) ** 5 for layer in range(6)])
    drawn = learned_schedules(suite)
    final, course = drawn.axes
    assert [list(line.get_ydata()) for line in final.lines[1:]] == [pytest.approx([0.0] * 6), pytest.approx([0.1] * 6)]
    assert sorted({len(line.get_xdata()) for line in course.lines}) == [3, 4]


def test_a_matrix_of_heads_has_a_name_in_tables(suite):
    run = dataclasses.replace(suite.one("linear"), config={"locality": {"schedule": [[0, 1], [0.5, 1]]}})
    assert run.schedule == "0,1 0.5,1"


def test_architectures_of_other_kinds_are_told_apart(tmp_path):
    def rename(run):
        if run["name"] in ("linear", "cubic", "quartic"):
            run["beta"] = None
            run["config"]["locality"]["schedule"] = f"step:{len(run['name'])}"

    suite = load_suite(make_suite(tmp_path, seeds=(0,), change=rename))
    looks = [(look["color"], look["marker"]) for look in (style(suite, name) for name in ARCHITECTURES)]
    assert len(set(looks)) == len(ARCHITECTURES)


# ---- parts of a suite


def test_missing_runs_are_named_and_the_rest_reported(tmp_path):
    cells = ("distributed-epochs5", "cubic-alpha0.5-epochs5", "cubic-alpha0.05-epochs5", "cubic-alpha0.5-epochs20")
    planned = [f"{name}-seed{seed}" for name in (*ARCHITECTURES, *cells) for seed in (0, 1)]
    missing = [name for name in planned if name != "linear-seed1"]
    folder = make_suite(tmp_path, seeds=(0, 1), missing=missing)
    suite = write_report(folder)
    assert {run.folder for run in suite.missing} == set(missing)
    page, text = ((folder / name).read_text() for name in ("report.html", "tables.md"))
    for name in missing:
        assert name in page
        assert name in text
    assert column(table_1(suite)[0], "vs baseline (gap)")["linear"] == "—"


def test_names_keep_the_planned_order_whatever_is_missing(tmp_path):
    suite = load_suite(make_suite(tmp_path, seeds=(0, 1), missing=("distributed-seed0",)))
    assert suite.architectures == list(ARCHITECTURES)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "suite.json").unlink(), "no suite.json"),
        (lambda f: (f / "suite.json").write_text('{"runs": [{}]}'), "suite.json is damaged"),
        (lambda f: (f / "runs/linear-seed0/result.json").write_text("{"), "linear-seed0/result.json is not valid JSON"),
        (lambda f: (f / "runs/linear-seed0/result.json").write_text("{}"), "linear-seed0/result.json has no 'name'"),
        (
            lambda f: (f / "runs/linear-seed0/result.json").write_text(
                (f / "runs/cubic-seed0/result.json").read_text()
            ),
            "holds cubic, seed 0; expected linear-seed0",
        ),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, spoil, said):
    folder = make_suite(tmp_path, seeds=(0,))
    spoil(folder)
    with pytest.raises(ProglocError, match=re.escape(said)) as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def test_a_lacking_figure_is_named(tmp_path):
    with pytest.raises(ProglocError, match=r"has no 'final\.perplexity'"):
        load_suite(make_suite(tmp_path, seeds=(0,), change=lambda run: run["final"].pop("perplexity")))


def test_nothing_finished_is_said(tmp_path):
    folder = make_suite(tmp_path, seeds=(), missing=())
    with pytest.raises(ProglocError, match="no finished run"):
        write_report(folder)


def test_a_suite_is_a_table_of_its_runs(suite):
    frame = suite.to_frame()
    assert list(frame.columns) == list(CSV_COLUMNS)
    assert len(frame) == len(suite.runs)
    assert frame["perplexity"].tolist() == [run.measure("perplexity") for run in suite.runs]
