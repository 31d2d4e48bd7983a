"""A measure and a table that somebody registers appear everywhere, without a second edit."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
seeds: 1
base:
  model: scratch:nano
  sequence_length: 32
  max_sequences: 16
  training: {epochs: 1, max_steps: 2, exploration: 0.0, batch_size: 8, accumulation: 1, patience: null}
architectures: [distributed, quintic]
"""
PLUGIN = '''
import progloc
from progloc.measures.definitions import Ratio
from progloc.paper.tables import table
from progloc.report.table import Column, Table


@progloc.register_measure("far_mass", label="mass elsewhere", symbol="far", digits=4)
def far_mass(rows):
    return Ratio((1 - rows.mass) * rows.real, rows.real)


@table
def by_letter(suite):
    """How long names are."""
    rows = tuple((name, str(len(name))) for name in suite.architectures)
    return [Table("Letters of a name", "Counted.", (Column("Architecture", text=True), Column("Letters")), rows)]
'''
"""What a user's package would do when it is loaded."""


def run(folder: Path, *arguments: str, plugin: bool = True) -> str:
    called = f"import sys\nfrom progloc.cli import main\nsys.argv = {['progloc', *arguments]}\nmain()"
    code = f"{PLUGIN}\n{called}" if plugin else called
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A suite made with the plugin, and what was printed."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "s.yaml").write_text(SUITE)
    return folder / "results", run(folder, "reproduce", "--suite", "s.yaml", "--out", "results")


@pytest.mark.slow
def test_a_registered_measure_is_in_every_document_of_a_suite(suite: tuple[Path, str]) -> None:
    folder, printed = suite
    final = json.loads((folder / "runs/quintic-seed0/result.json").read_text())["final"]
    assert final["far_mass"] == pytest.approx(1 - final["fidelity"])
    assert final["layers"][0]["far_mass"] == pytest.approx(1 - final["layers"][0]["fidelity"])
    rows = {row["run"]: row for row in csv.DictReader((folder / "results.csv").open())}
    assert float(rows["quintic"]["far_mass"]) == pytest.approx(final["far_mass"])
    assert float(rows["quintic"]["chance_far_mass"]) == pytest.approx(final["chance_far_mass"])
    shown = f"{final['far_mass']:.4f}"
    for name in ("tables.md", "report.html"):
        page = (folder / name).read_text()
        assert "mass elsewhere" in page, name
        assert shown in page, name
    assert shown in printed


@pytest.mark.slow
def test_a_registered_measure_is_in_what_evaluate_prints(suite: tuple[Path, str]) -> None:
    folder = suite[0]
    model = str(folder / "runs/quintic-seed0/model")
    evaluate = ("evaluate", model, "--sequence-length", "32")
    report = json.loads(run(folder, *evaluate, "--json"))
    assert report["far_mass"] == pytest.approx(1 - report["fidelity"])
    table = run(folder, *evaluate)
    assert "elsewhere" in table
    assert f"{report['far_mass']:.4f}" in table


@pytest.mark.slow
def test_a_registered_table_is_in_every_document_of_a_suite(suite: tuple[Path, str]) -> None:
    folder, printed = suite
    assert "Letters of a name" in printed
    for name in ("tables.md", "report.html"):
        assert "Letters of a name" in (folder / name).read_text(), name


@pytest.mark.slow
def test_results_are_read_where_nothing_is_registered(suite: tuple[Path, str]) -> None:
    folder = suite[0]
    before = (folder / "results.csv").read_text()
    run(folder, "report", ".", plugin=False)
    assert (folder / "results.csv").read_text() == before
    page = (folder / "tables.md").read_text()
    assert "far\\_mass" in page or "far_mass" in page
    assert "Letters of a name" not in page
