"""docs/isolation.md: its figures are what the kept timings say."""

from __future__ import annotations

import runpy
from pathlib import Path

from page_numbers import figures_of
from progloc.files import read_json
from progloc.report.table import filled, to_markdown

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "account_speed.py"))


def test_the_page_is_what_is_kept() -> None:
    page = SCRIPT["PAGE"].read_text(encoding="utf-8")
    tables = SCRIPT["tables"](read_json(SCRIPT["DATA"]))
    assert figures_of(page) == figures_of(filled(page, SCRIPT["BY"], "\n".join(map(to_markdown, tables))))
    assert "exact effects" in page


def test_other_timings_make_other_figures() -> None:
    data = read_json(SCRIPT["DATA"])
    before = SCRIPT["tables"](data)
    data["accounts"]["exact effects"] = [2 * taken for taken in data["accounts"]["exact effects"]]
    assert SCRIPT["tables"](data) != before
