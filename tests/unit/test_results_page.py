"""The page of results: written from a suite's folder, and again from what is kept of it."""

import io
import json
import re
import runpy
from pathlib import Path

import pytest
from rich.console import Console

from progloc.errors import ProglocError
from progloc.paper.claims import answers
from progloc.paper.faithfulness import found_in
from progloc.paper.study_tables import study_tables
from progloc.paper.suite import load_suite
from progloc.paper.tables import suite_tables
from progloc.report.table import to_rich
from synthetic_suite import make_suite

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "write_results.py"))


@pytest.fixture(scope="module")
def suite_folder(tmp_path_factory):
    return make_suite(tmp_path_factory.mktemp("results") / "blocks", seeds=(0, 1), partitioners=["sentences"])


@pytest.fixture(scope="module")
def root(suite_folder):
    """Where the page of that suite was written, as if it were a checkout."""
    root = suite_folder.parent / "checkout"
    SCRIPT["write"]([suite_folder], root)
    return root


def test_the_page_has_the_deciding_table_every_claim_and_its_figures(root, suite_folder):
    page = (root / SCRIPT["PAGE"]).read_text()
    suite = load_suite(suite_folder)
    titles = [table.title for table in suite_tables(suite) if f"\n### {table.title}\n" in page]
    assert titles == ["Table 5, tested: gap at equal F°, blocks of one size"]
    assert "(paper)" not in page
    for claim in answers(suite):
        tested = f"| {claim.id} {claim.question} | {claim.verdict} | " in page
        assert tested or re.search(rf"^Not tested by these runs: .*\b{claim.id}\b", page, re.MULTILINE), claim.id
    pictures = sorted(path.name for path in (root / SCRIPT["IMAGES"]).iterdir())
    assert "results-blocks-frontier-by-blocks.png" in pictures
    assert all(f"](images/{name})" in page for name in pictures)


def test_a_suite_shows_the_table_that_its_question_is_about():
    page = (ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")
    first = {text.split("\n")[0]: re.findall(r"^### (.*)$", text, re.MULTILINE)[0] for text in page.split("\n## ")[1:]}
    assert first["quick"].startswith("Table 1:")
    assert first["quick-v3"].startswith("Table 5, tested: gap at equal F°")
    assert first["refinements"].startswith("Table 7:")


@pytest.mark.parametrize("image", sorted(path.name for path in (ROOT / SCRIPT["IMAGES"]).glob("results-*.png")))
def test_no_figure_is_kept_that_no_page_shows(image):
    assert any(f"](images/{image})" in page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))


def test_what_is_kept_says_all_that_the_suite_says(root, suite_folder):
    kept = load_suite(root / SCRIPT["KEPT"] / "blocks")
    assert suite_tables(kept) == suite_tables(load_suite(suite_folder))
    assert "heads" not in json.dumps([dict(run.final) for run in kept.runs])


def test_the_page_follows_the_kept_numbers(root):
    assert SCRIPT["page"](root) == (root / SCRIPT["PAGE"]).read_text()
    path = root / SCRIPT["KEPT"] / "blocks" / "runs" / "quintic-seed0" / "result.json"
    before = path.read_text()
    changed = json.loads(before)
    changed["final"]["perplexity"] *= 2
    path.write_text(json.dumps(changed))
    assert SCRIPT["page"](root) != (root / SCRIPT["PAGE"]).read_text()
    path.write_text(before)


def test_nothing_kept_and_nothing_given_is_said(tmp_path):
    with pytest.raises(ProglocError, match="no suite is kept yet"):
        SCRIPT["write"]([], tmp_path)
    with pytest.raises(ProglocError, match="is no suite"):
        SCRIPT["write"]([tmp_path], tmp_path)


def test_the_repositorys_page_is_what_its_kept_suites_say():
    written = ROOT / SCRIPT["PAGE"]
    assert written.exists() == bool(SCRIPT["kept_suites"](ROOT))
    assert not written.exists() or written.read_text(encoding="utf-8") == SCRIPT["page"](ROOT)


def test_the_readme_and_the_page_on_the_paper_show_the_run_that_is_kept():
    """What `make reproduce` printed, the answers to the claims, and some of Table 1 again, to the letter."""
    page, readme = (ROOT / "docs" / "paper.md").read_text(), (ROOT / "README.md").read_text()
    suite = load_suite(ROOT / SCRIPT["KEPT"] / "quick")
    out = io.StringIO()
    Console(file=out, width=200).print(to_rich(suite_tables(suite)[0]))
    for line in out.getvalue().splitlines():
        assert line.strip() == "More of it: tables.md." or line.strip() in page
    decided = [claim for claim in answers(suite) if claim.figure != "—"]
    for claim in decided:
        figure = claim.figure.replace("|", "\\|")
        assert f"| {claim.id} | {claim.question} | {claim.verdict} | {figure} |" in page
    assert len(decided) > 5
    (table, *_) = suite_tables(suite)
    columns = [column.label for column in table.columns]
    shown = [columns.index(label) for label in ("Perplexity", "vs baseline (gap)", "F°", "Last layer F°")]
    rows = [[row[place] for place in shown] for row in table.rows]
    cost, _ = readme.split("its pictures are not yet true")
    copied = [line.strip("| ").split(" | ")[1:] for line in cost.splitlines() if " ± " in line and line[0] == "|"]
    assert len(copied) == 5
    assert all(row in rows for row in copied)


@pytest.mark.parametrize("name", ["faithfulness", "faithfulness-stories"])
def test_the_readme_shows_the_studies_that_are_kept(name):
    (table, closed_up, *_) = study_tables(found_in(ROOT / SCRIPT["KEPT"] / name))
    columns = [column.label for column in table.columns]
    rho, gain = columns.index("ρ"), columns.index("ρ − λ=0's")
    rows = {row[0]: row for row in table.rows}
    readme = (ROOT / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if f"| {rows['distributed'][rho].split(' ')[0]} |" in line]
    for row in (rows["quintic"], rows["localist"]):
        assert f"| {row[rho].split(' ')[0]}: {row[gain]} |" in line
    if name == "faithfulness-stories":
        worse = {row[0]: row for row in closed_up.rows}["localist"][gain]
        assert worse in readme.replace("±\n", "± ")
