"""The page of results: written from a suite's folder, and again from what is kept of it."""

import io
import json
import re
import runpy
from pathlib import Path

import pytest
from rich.console import Console

from measurements import SUFFIX, SUITES, changed, unpack
from page_numbers import figures_of, numbers
from progloc.errors import ProglocError
from progloc.paper.claims import answers
from progloc.paper.faithfulness import read_study, study_tables
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


@pytest.fixture
def unpacked(tmp_path):
    """`unpacked(name, root)`: the folder of a suite that the repository, or another root, has."""

    def unpacked_suite(name, root=ROOT):
        unpack(root / SUITES / f"{name}{SUFFIX}", tmp_path / name)
        return tmp_path / name

    return unpacked_suite


@pytest.mark.slow
def test_the_page_has_the_deciding_table_every_claim_and_its_figures(root, suite_folder):
    page = (root / SCRIPT["PAGE"]).read_text()
    suite = load_suite(suite_folder)
    titles = [table.title for table in suite_tables(suite) if f"\n### {table.title}\n" in page]
    assert titles == ["Table 5, tested: gap at equal F°, blocks of one size"]
    assert "(paper)" not in page
    # C9 is arithmetic, on the page of theory
    claims = [claim for claim in answers(suite) if claim.id != "C9"]
    assert f"| suite | {' | '.join(claim.id for claim in claims)} |" in page
    assert f"| blocks | {' | '.join('—' if claim.figure == '—' else claim.verdict for claim in claims)} |" in page
    assert "](images/results-blocks-frontier.png)" in page
    assert "<!-- on the site: images/results-blocks-frontier-by-blocks.png What locality costs, by blocks -->" in page
    assert [path.name for path in (root / SCRIPT["IMAGES"]).iterdir()] == ["results-blocks-frontier.png"]


def test_a_suite_shows_the_table_that_its_question_is_about():
    page = (ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")
    first = {text.split("\n")[0]: re.findall(r"^### (.*)$", text, re.MULTILINE)[0] for text in page.split("\n## ")[2:]}
    assert first["quick"].startswith("Table 1:")
    assert first["quick-v3"].startswith("Table 5, tested: gap at equal F°")
    assert first["refinements"].startswith("Table 7:")


def test_the_repository_has_the_pictures_that_its_pages_show_and_no_other():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        name for page in pages for name in re.findall(r"\]\([\w/]*images/([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert {path.name for path in (ROOT / SCRIPT["IMAGES"]).iterdir()} == shown


@pytest.mark.slow
def test_a_picture_that_another_page_shows_is_in_the_repository(root):
    """And on the page of results; and on the site all of them are pictures."""
    other = root / "docs" / "paper.md"
    other.write_text("![By blocks](images/results-blocks-frontier-by-blocks.png)")
    page, pictures = SCRIPT["page_and_pictures"](root)
    other.unlink()
    assert "![What locality costs, by blocks](images/results-blocks-frontier-by-blocks.png)" in page
    assert set(pictures) == {f"images/results-blocks-frontier{end}.png" for end in ("", "-by-blocks")}
    hooks = runpy.run_path(str(ROOT / "docs" / "site_hooks.py"))
    on_the_site = re.findall(r"!\[.+?\]\((.+?)\)", hooks["on_page_markdown"](page))
    assert len(on_the_site) == 3
    assert set(on_the_site) > set(pictures)


@pytest.mark.slow
def test_what_is_kept_says_all_that_the_suite_says(root, suite_folder, unpacked):
    kept = load_suite(unpacked("blocks", root))
    assert suite_tables(kept) == suite_tables(load_suite(suite_folder))
    assert "heads" not in json.dumps([dict(run.final) for run in kept.runs])


@pytest.mark.slow
def test_the_page_follows_the_kept_numbers(root):
    written = figures_of((root / SCRIPT["PAGE"]).read_text())
    assert figures_of(SCRIPT["page_and_pictures"](root)[0]) == written
    path = root / SUITES / f"blocks{SUFFIX}"
    before = path.read_bytes()
    with changed(path) as folder:
        result = folder / "runs" / "quintic-seed0" / "result.json"
        content = json.loads(result.read_text())
        content["final"]["perplexity"] *= 2
        result.write_text(json.dumps(content))
    assert figures_of(SCRIPT["page_and_pictures"](root)[0]) != written
    path.write_bytes(before)


def test_nothing_kept_and_nothing_given_is_said(tmp_path):
    with pytest.raises(ProglocError, match="no suite is kept yet"):
        SCRIPT["write"]([], tmp_path)
    with pytest.raises(ProglocError, match="is no suite"):
        SCRIPT["write"]([tmp_path], tmp_path)


@pytest.mark.slow
def test_the_repositorys_page_is_what_its_kept_suites_say():
    page, _ = SCRIPT["page_and_pictures"](ROOT)
    assert figures_of((ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")) == figures_of(page)


@pytest.mark.slow
def test_the_readme_and_the_page_on_the_paper_show_the_run_that_is_kept(unpacked):
    """What `make reproduce` printed, the answers to the claims, and some of Table 1 again, number by number."""
    page, readme = (ROOT / "docs" / "paper.md").read_text(), (ROOT / "README.md").read_text()
    suite = load_suite(unpacked("quick"))
    out = io.StringIO()
    Console(file=out, width=200).print(to_rich(suite_tables(suite)[0]))
    printed = [(line.split()[0], numbers(line)) for line in out.getvalue().splitlines() if len(numbers(line)) > 4]
    assert len(printed) == 9
    assert set(printed) <= {(line.split()[0], numbers(line)) for line in page.splitlines() if line.strip()}
    decided = [claim for claim in answers(suite) if claim.figure != "—"]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in page.splitlines()]
    shown = {row[1]: (row[3], numbers(row[4])) for row in cells if len(row) == 6}
    assert shown.items() >= {claim.id: (claim.verdict, numbers(claim.figure)) for claim in decided}.items()
    assert len(decided) > 5
    (table, *_) = suite_tables(suite)
    columns = [column.label for column in table.columns]
    places = [columns.index(label) for label in ("Perplexity", "vs baseline (gap)", "F°", "Last layer F°")]
    rows = [[numbers(row[place]) for place in places] for row in table.rows]
    cost, _ = readme.split("its pictures are not yet true")
    lines = [line.strip("| ").split(" | ")[1:] for line in cost.splitlines() if " ± " in line and line[0] == "|"]
    copied = [list(map(numbers, line)) for line in lines]
    assert len(copied) == 5
    assert all(row in rows for row in copied)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faithfulness", "faithfulness-stories"])
def test_the_readme_shows_the_studies_that_are_kept(name, unpacked):
    (table, closed_up, *_) = study_tables(read_study(unpacked(name)))
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
