"""The page on a pretrained model: its tables are what the kept suite gives, and its sentences say no more."""

import re
import runpy
from pathlib import Path

from measurements import SUFFIX, SUITES, unpack
from page_numbers import figures_of
from progloc.paper.suite import load_suite
from progloc.report.table import filled

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "write_pretrained.py"))


def test_the_tables_are_what_is_kept():
    page = (ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")
    made = filled(page, SCRIPT["BY"], SCRIPT["written"](ROOT))
    assert figures_of(page) == figures_of(made)


def test_no_gap_stands_without_its_interval_and_no_exclusion_without_the_result_beside_it():
    written = SCRIPT["written"](ROOT)
    rows = re.findall(r"^\| (?:quintic|localist|uniform:0\.5) \| (\d\.\d{3}×.*)$", written, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        gaps = row.split(" | ")[:4]
        assert all(re.fullmatch(r"\d\.\d{3}× \[\d\.\d{3}, \d\.\d{3}\]", gap) for gap in gaps)


def test_the_largest_norms_are_counted(tmp_path):
    unpack(ROOT / SUITES / f"{SCRIPT['NAME']}{SUFFIX}", tmp_path)
    suite = load_suite(tmp_path)
    large = sum(run.trained("gradient_norm_max") > 20 for run in suite.runs)
    assert f"it exceeds 20 in {large} of {len(suite.runs)} runs" in SCRIPT["written"](ROOT)
