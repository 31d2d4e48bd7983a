"""`progloc audit`, as a user types it: one answer, and every run of a suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import progloc, refused
from progloc.accounts.verdict import VERDICTS

SMALL = """
seeds: 2
base:
  model: scratch:nano
  corpus: python-docs
  sequence_length: 96
  max_sequences: 20
  locality: {blocks: "fixed:5", alpha: 0.5}
  training: {epochs: 1, batch_size: 8, accumulation: 1, max_steps: 2, exploration: 0.0}
architectures: [distributed, localist]
partitioners: [sentences]
"""
PROMPT = "A class is an object. The for statement loops. It is used with lists, and it ends."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `suite` was reproduced: λ=0 and localist, with two partitioners and two seeds."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "small.yaml").write_text(SMALL)
    made = progloc("reproduce", "--suite", "small.yaml", "--out", "suite", cwd=folder)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.slow
def test_an_answer_is_audited_and_its_page_written(folder: Path) -> None:
    model = "suite/runs/localist-seed0"
    command = ["audit", model, "--prompt", PROMPT, "--max-new-tokens", "6", "--out", "pages/one.html"]
    shown = progloc(*command, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "Verdict: " in shown.stdout
    assert "pages/one.html" in shown.stdout
    assert "forward passes over at most" in shown.stderr
    assert "made from, scratch:nano, cannot be had here; --base MODEL" in shown.stderr
    assert "</html>" in (folder / "pages/one.html").read_text()

    beside = ["--base", "suite/runs/distributed-seed0", "--continuation", " And so on.", "--layers", "1"]
    result = progloc(*command[:4], *beside, "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["verdict"] in VERDICTS
    assert document["text"]["answer"] == " And so on."
    assert [layer["layer"] for layer in document["layers"]] == [1]
    assert document["base"]["verdict"]
    assert (folder / "results/audit-localist-seed0.html").exists()

    recorded = folder / model / "model/locality.json"
    before = recorded.read_text()
    recorded.write_text(before.replace("scratch:nano", str(folder / "suite/runs/distributed-seed0")))
    for given, expected in (((), True), (("--base", "none"), False)):
        result = progloc(*command[:4], "--continuation", " And so on.", "--json", *given, cwd=folder)
        assert (json.loads(result.stdout)["base"] is not None) is expected, result.stderr
    recorded.write_text(before)


@pytest.mark.slow
def test_what_is_asked_wrongly_is_refused(folder: Path) -> None:
    model = "suite/runs/localist-seed0"
    before = sorted(folder.rglob("*"))
    for arguments, said in (
        ([model], "--prompt TEXT"),
        ([model, "--prompt", PROMPT, "--study", "python-docs"], "--prompt TEXT"),
        ([model, "--prompt", "   "], "prompt is empty"),
        ([model, "--prompt", PROMPT, "--dial", "3"], "a dial of 3"),
        ([model, "--prompt", PROMPT, "--base", "scratch:nano"], "progloc train"),
        ([model, "--prompt", PROMPT, "--layers", "9"], "expected some of 0 to 1"),
        ([model, "--prompt", PROMPT, "--layers", "1.5"], "whole numbers separated by commas"),
        ([model, "--prompt", PROMPT, "--out", "suite"], "is a folder"),
        (["scratch:nano", "--prompt", PROMPT], "progloc train"),
        ([model, "--prompt", PROMPT, "--max-new-tokens", "9999"], "has a context of"),
        (["nowhere", "--study", "python-docs"], "is no suite"),
        (["suite", "--study", "python-docs", "--texts", "0"], "--texts 0"),
        (["suite", "--study", "python-docs", "--prompt-tokens", "90000"], "the models were trained on"),
    ):
        assert said in refused(progloc("audit", *arguments, cwd=folder)), arguments
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_suite_is_audited_and_what_is_finished_is_kept(folder: Path) -> None:
    command = [
        "audit",
        "suite",
        "--study",
        "python-docs",
        "--texts",
        "2",
        "--prompt-tokens",
        "80",
        "--answer-tokens",
        "8",
    ]
    first = progloc(*command, cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "Is the picture true?" in first.stdout
    found = json.loads((folder / "suite/audit-study/study.json").read_text())
    assert {(run["name"], run["blocks"], run["seed"]) for run in found["runs"]} == {
        (name, blocks, seed)
        for name, blocks in (
            ("distributed", "fixed:5"), ("localist", "fixed:5"),
            ("distributed-sentences", "sentences"), ("localist-sentences", "sentences"),
        )
        for seed in (0, 1)
    } | {("before localising", blocks, 0) for blocks in ("fixed:5", "sentences")}  # fmt: skip
    assert all(len(run["figures"]["verdict"]) == 2 for run in found["runs"])
    for path in (folder / "suite/audit-study/runs").iterdir():
        for passage in json.loads(path.read_text())["passages"]:
            assert len(set(map(len, passage["each_source"].values()))) == 1
            assert len(passage["each_source"]["removal"]) == passage["figures"]["sources"]
    sources = {(run["blocks"], tuple(run["figures"]["sources"])) for run in found["runs"]}
    assert len(sources) == 2  # the same ones in every model on the same blocks
    page = (folder / "suite/audit-study/tables.md").read_text()
    assert "localised row" in page
    assert "2 held-out passages of python-docs" not in (folder / "suite/report.html").read_text()
    assert progloc("report", "suite", cwd=folder).returncode == 0
    assert "2 held-out passages of python-docs" in (folder / "suite/report.html").read_text()
    written = {path: path.stat().st_mtime_ns for path in (folder / "suite/audit-study/runs").iterdir()}
    again = progloc(*command, "--json", cwd=folder)
    assert json.loads(again.stdout)["runs"] == found["runs"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "suite/audit-study/runs").iterdir()} == written


@pytest.mark.slow
def test_an_answer_is_accounted_for_by_its_sources(folder: Path) -> None:
    (folder / "loops.txt").write_text("The for statement loops.", encoding="utf-8")
    (folder / "a=b.txt").write_text("A class is an object.", encoding="utf-8")
    command = ["audit", "suite/runs/localist-seed0", "--source", "loops.txt", "--source", "a=b.txt", "--source",
               "the same=loops.txt", "--question", "What loops?"]  # fmt: skip
    shown = progloc(*command, "--max-new-tokens", "6", "--out", "account.html", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in ("loops", "a=b", "the same", "These effects are exact", "account.html"))
    assert "14 subsets of the sources" in shown.stderr
    assert "</html>" in (folder / "account.html").read_text()

    plain = progloc(*command, "--continuation", "The for statement.", "--plain", "--json", cwd=folder)
    assert plain.returncode == 0, plain.stderr
    document = json.loads(plain.stdout)
    assert document["answer"] == " The for statement."
    assert not document["isolated"]
    assert [source["name"] for source in document["sources"]] == ["loops", "a=b", "the same"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "none.txt"], "expected one of --prompt TEXT"),
        (["--question", "What?"], "--source with --question"),
        (["--prompt", "x", "--question", "What?", "--source", "none.txt"], "expected one of --prompt"),
        (["--source", "none.txt", "--question", "What?"], "--source none.txt: No such file"),
        (["--source", "n=none.txt", "--question", "What?"], "--source n=none.txt: No such file"),
        (["--source", "none.txt", "--question", "What?", "--dial", "0.5"], "--dial does nothing with --source"),
        (["--source", "none.txt", "--question", "What?", "--base", "none"], "--base does nothing with --source"),
        (["--prompt", "x", "--plain"], "--isolate does nothing with --prompt"),
        (["--prompt", "x", "--jobs", "2"], "--jobs does nothing with --prompt"),
        (["--study", "x", "--dial", "0.5"], "--dial does nothing with --study"),
    ],
)
def test_sources_that_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in refused(progloc("audit", "scratch:nano", *arguments, cwd=tmp_path))
