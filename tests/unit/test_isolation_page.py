"""docs/isolation.md and the README's account: their figures are what is kept."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from page_numbers import figures_of
from progloc import Account, ProglocError
from progloc.files import read_json
from progloc.report.table import filled, to_markdown

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "account_speed.py"))
REUSE = runpy.run_path(str(ROOT / "benchmarks" / "reuse_speed.py"))
EXAMPLE = runpy.run_path(str(ROOT / "benchmarks" / "write_account.py"))


def test_the_page_is_what_is_kept() -> None:
    page = SCRIPT["PAGE"].read_text(encoding="utf-8")
    tables = SCRIPT["tables"](read_json(SCRIPT["DATA"]))
    assert figures_of(page) == figures_of(filled(page, SCRIPT["BY"], "\n".join(map(to_markdown, tables))))
    assert "exact effects" in page


def test_what_reuse_saves_is_what_is_kept() -> None:
    page, data = REUSE["PAGE"].read_text(encoding="utf-8"), read_json(REUSE["DATA"])
    tables = REUSE["tables"](data)
    assert figures_of(page) == figures_of(filled(page, REUSE["BY"], "\n".join(map(to_markdown, tables))))
    assert "sources moved, in memory" in page
    data["passages"][0]["sources moved, in memory"][0] += 9
    assert REUSE["tables"](data)[1] != tables[1]


def test_other_timings_make_other_figures() -> None:
    data = read_json(SCRIPT["DATA"])
    before = SCRIPT["tables"](data)
    data["accounts"]["exact effects"] = [2 * taken for taken in data["accounts"]["exact effects"]]
    assert SCRIPT["tables"](data) != before


def test_the_readme_says_of_its_picture_what_is_kept() -> None:
    result = Account.from_dict(read_json(EXAMPLE["DATA"]))
    assert [(source.name, source.text) for source in result.sources] == list(EXAMPLE["SOURCES"])
    assert result.question == EXAMPLE["QUESTION"]
    caption = " ".join(
        (ROOT / "README.md").read_text(encoding="utf-8").split("account-page.png)")[1].split("*")[1].split()
    )
    assert f"write_account.py {result.model}`" in caption
    effects, masses = result.effects, {name: mass or 0.0 for name, mass in result.mass.items()}
    assert "rests on the memo" in caption
    assert max(effects, key=effects.__getitem__) == "Memo of 3 March"
    assert "the source with most attention is the canteen menu" in caption
    assert max(masses, key=masses.__getitem__) == "Canteen menu"
    price = result.price_sentence().split(" finds this answer ")[1].split(" (")[0]
    assert f"the plain model finds the answer {price}." in caption


def test_without_chromium_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ProglocError, match="apt-get install chromium"):
        EXAMPLE["draw"](Account.from_dict(read_json(EXAMPLE["DATA"])))
