"""`benchmarks/step_cost.py` as it is typed, on a model small enough for seconds."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from command_line import Finished, refused
from step_timing.report import write_report
from step_timing.results import read_benchmark
from step_timing.variants import Shape, variants

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "step_cost.py"
TINY = ["--layers", "2", "--width", "32", "--repeats", "2"]
COMMAND = [*TINY, "--lengths", "12,24x2", "--tokens", "12", "--out", "results/tiny"]


def step_cost(*arguments: str, cwd: Path) -> Finished:
    """Run the script in this process: starting one costs seconds of imports."""
    status: object = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                runpy.run_path(str(SCRIPT), run_name="__main__")
            except SystemExit as stop:
                status = stop.code or 0
    return Finished(int(str(status)), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command was run, with --json; what it printed is in printed.json."""
    folder = tmp_path_factory.mktemp("bench")
    result = step_cost(*COMMAND, "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "steps of each: about" in result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "printed.json").read_text())
    return found


def test_json_holds_every_timing_and_what_made_it(folder: Path, printed: dict[str, Any]) -> None:
    assert printed == json.loads((folder / "results/tiny/benchmark.json").read_text())
    assert printed["command"] == "python benchmarks/step_cost.py " + " ".join([*COMMAND, "--json"])
    assert {"torch", "transformers", "progloc", "device", "threads", "git", "date"} <= set(printed["environment"])
    assert (printed["settings"]["layers"], printed["settings"]["width"], printed["settings"]["repeats"]) == (2, 32, 2)
    rows = {(row["variant"], row["length"], row["batch"]): row for row in printed["timings"]}
    names = [variant.name for variant in variants(compiled=False)]
    assert set(rows) == {(name, *shape) for name in names for shape in ((12, 1), (24, 2))}
    for row in rows.values():
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert row["skipped"] == ""
        assert row["peak_bytes"] is None or row["peak_bytes"] > 4 * 32 * 50257  # the embeddings alone


def test_sdpa_costs_exactly_what_sdpa_costs(folder: Path) -> None:
    found = read_benchmark(folder / "results/tiny/benchmark.json")
    assert found.ratios(Shape(24, 2), "sdpa", "sdpa") == [1.0, 1.0]
    lines = [line for line in (folder / "results/tiny/performance.md").read_text().splitlines() if "| sdpa |" in line]
    assert [line.split(" | ")[5] for line in lines] == ["1.000×", "1.000×"]


def test_tables_and_figure_are_made_again_from_the_timings(folder: Path) -> None:
    made = folder / "results/tiny"
    before = {name: (made / name).read_bytes() for name in ("performance.md", "performance.png")}
    for name in before:
        (made / name).unlink()
    write_report(made)
    assert {name: (made / name).read_bytes() for name in before} == before


def test_a_terminal_shows_every_row_and_target(folder: Path) -> None:
    result = step_cost(*TINY, "--lengths", "8", "--tokens", "8", "--out", "results/tiny", cwd=folder)  # in its place
    assert all(variant.name in result.stdout for variant in variants(compiled=False))
    assert all(part in result.stdout for part in ("CPU step time", "T=1024", "contiguous"))  # a narrow table wraps
    assert "not measured" in result.stdout
    assert "results/tiny/performance.md" in result.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--lengths", "128,long"], "--lengths has 'long'"),
        (["--lengths", "1"], "expected lengths ≥ 2"),
        (["--lengths", "128x0"], "--lengths has '128x0'"),
        (["--lengths", ""], "--lengths has ''"),
        (["--tokens", "0"], "--tokens 0"),
        (["--repeats", "0"], "--repeats 0"),
        (["--layers", "-1"], "--layers -1"),
        (["--only", "flash"], "expected a regular expression found in one of 'sdpa', 'eager + penalty'"),
        (["--only", "("], "--only '('"),
        (["--width", "100"], "expected a multiple of 64"),
        (["--out", "taken"], "taken is not empty"),
        (["--out", "taken/thesis.txt/run"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_get_one_line(tmp_path: Path, options: list[str], expected: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    assert expected in refused(step_cost(*options, cwd=tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "thesis.txt"]


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PATH", "")
    assert "--compile needs a C++ compiler" in refused(step_cost(*TINY, "--compile", cwd=tmp_path))


def test_make_bench_is_the_command() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "bench", "ARGS=--repeats 3"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "benchmarks/step_cost.py --repeats 3" in shown.stdout
