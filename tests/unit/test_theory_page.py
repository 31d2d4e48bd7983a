"""docs/theory.md: its tables are what the kept files say, and checks of a suite's models are kept as they were made."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from measurements import SUFFIX, SUITES, pack, read_lines, write_lines
from page_numbers import figures_of
from progloc import LocalityConfig, ProglocError, localize
from progloc.files import read_json, write_json
from progloc.paper.suite import load_suite
from synthetic_suite import make_suite

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "theory.py"))


@pytest.fixture
def kept(tiny_gpt2: Callable[..., Any]) -> list[dict[str, Any]]:
    model = localize(tiny_gpt2(), LocalityConfig(schedule="linear"))
    items = [{"input_ids": list(range(start, start + 12))} for start in (0, 40)]
    return [SCRIPT["checked"](model, items, "ours", seed, "a text") for seed in (0, 1)]


@pytest.mark.slow
def test_the_page_is_what_is_kept() -> None:
    assert figures_of((ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")) == figures_of(SCRIPT["page"](ROOT))


@pytest.mark.slow
def test_the_page_follows_the_kept_numbers(kept: list[dict[str, Any]], tmp_path: Path) -> None:
    pack(make_suite(tmp_path / "invented"), tmp_path / SUITES / f"invented{SUFFIX}")
    path = tmp_path / SCRIPT["MARGINS"] / f"ours{SUFFIX}"
    write_lines(path, kept)
    before = SCRIPT["written"](tmp_path)
    assert "| invented | linear | fixed:5 |" in before
    assert "## Margins of ours" in before
    changed = read_lines(path)
    for layer in changed[0]["report"]["layers"]:
        layer["mass_no_sink"] += 0.1
    write_lines(path, changed)
    assert figures_of(SCRIPT["written"](tmp_path)) != figures_of(before)


def test_margins_stand_beside_what_is_measured(kept: list[dict[str, Any]]) -> None:
    whole, layers = SCRIPT["margin_table"](kept, "ours"), SCRIPT["layer_table"](kept, "ours")
    assert [row[:3] for row in whole.rows] == [("ours", "fixed:5", side) for side in ("all keys", "without the sink")]
    assert whole.rows[0][3].startswith(f"{kept[0]['report']['margin_nats']:.2f}".replace("-", "−"))
    assert [row[2:4] for row in layers.rows] == [("0", "0.000"), ("1", "0.500"), ("2", "1.000")]
    (best,) = SCRIPT["best_layer_table"](kept, "ours").rows
    by_layer = {row[2]: dict(zip((column.label for column in layers.columns), row, strict=True)) for row in layers.rows}
    assert best[3] == by_layer[best[2]]["γ (nats)"]
    assert best[5:] == (by_layer[best[4]]["m guaranteed"], by_layer[best[4]]["m measured"])
    assert all(row["m guaranteed"] <= best[5] for row in by_layer.values())


def test_capacity_of_every_named_schedule() -> None:
    rows = {row[0]: row for row in SCRIPT["capacity_table"]().rows}
    assert rows["linear"][1] == "2.20 (37%)"  # 1 + 0.64 + 0.36 + 0.16 + 0.04
    assert rows["quintic"][5] == "6 of 12"
    assert {name: row[-1] for name, row in rows.items() if row[-1] == "yes"} == {"distributed": "yes"}
    assert dict(SCRIPT["steepness_table"]().rows)["6"] == "none"


def test_the_exponent_of_a_suite_has_a_row_where_there_is_something_to_fit(tmp_path: Path) -> None:
    rows = SCRIPT["exponent_table"]({"ours": load_suite(make_suite(tmp_path, partitioners=["sentences"]))}).rows
    assert {row[1] for row in rows} == {"linear", "quadratic", "cubic", "quartic", "quintic"}
    assert {row[::2][:2] for row in rows} == {("ours", blocks) for blocks in ("fixed:5", "sentences")}
    assert all(float(exponent.split(" ")[0]) > 0 for row in rows for exponent in row[-2:])


def test_a_suites_models_are_checked_on_what_they_were_validated_on(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_suite(tmp_path, seeds=(0, 1), partitioners=["sentences"])
    items = [{"input_ids": list(range(12)), "block_ids": [0] * 6 + [1] * 6}]
    monkeypatch.setitem(SCRIPT["of_suite"].__globals__, "gather", lambda config: SimpleNamespace(validation=items))
    localize(tiny_gpt2()).save_pretrained(folder / "runs" / "distributed-seed0" / "model")
    borrowed = folder / "runs" / "distributed-sentences-seed0" / "result.json"  # λ = 0 is trained once for all blocks
    write_json(borrowed, {**read_json(borrowed), "measured_from": "distributed-seed0"})
    found = list(SCRIPT["of_suite"](folder, 1, ["distributed", "distributed-sentences"]))
    assert [(each["name"], each["seed"], each["blocks"]) for each in found] == [
        ("distributed", 0, "fixed:5"), ("distributed-sentences", 0, "sentences"),
    ]  # fmt: skip
    assert found[0]["report"]["tokens"] == 6
    assert found[0]["lambdas"] == [0.0, 0.0, 0.0]


def test_unknown_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="no runs called nobody"):
        list(SCRIPT["of_suite"](make_suite(tmp_path), 1, ["nobody"]))
