"""Every command as a user types it."""

from __future__ import annotations

import csv
import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import progloc, refused

SMOKE = """
seeds: 2
base:
  model: scratch:nano
  sequence_length: 32
  max_sequences: 20
  training: {epochs: 2, exploration: 0.5, batch_size: 8, accumulation: 1, learning_rate: 1.0e-2, patience: null}
architectures: [distributed, localist, linear, quadratic, cubic, quartic, quintic]
optimisation: {schedule: cubic, alphas: [0.5, 0.05], epochs: [1, 2]}
"""
NANO = ["--model", "scratch:nano", "--sequence-length", "32"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `progloc train` made results/run."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "f.yaml").write_text(
        "max_sequences: 30\nlocality: {alpha: 0.5}\ntraining: {epochs: 2, batch_size: 8, accumulation: 1}\n"
    )
    command = ["train", "--config", "f.yaml", *NANO, "--schedule", "linear", "--epochs", "1", "--out", "results/run"]
    result = progloc(*command, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "before" in result.stdout
    assert "results/run/model" in result.stdout
    return folder


@pytest.mark.slow
def test_train_lets_options_win_over_the_file(trained: Path) -> None:
    config = json.loads((trained / "results/run/result.json").read_text())["config"]
    assert config["locality"] == {
        "schedule": "linear", "blocks": "fixed:5", "alpha": 0.5, "reduction": "sum", "denominator": "L-1", "clip": None,
        "sink_aware": False, "fidelity_target": None, "previous_block": False, "window": None,
    }  # fmt: skip
    assert (config["training"]["epochs"], config["training"]["batch_size"]) == (1, 8)


@pytest.mark.slow
def test_a_budget_is_kept_account_of(trained: Path) -> None:
    asked = [
        "train",
        "--config",
        "f.yaml",
        *NANO,
        "--sink-aware",
        "--budget",
        "5%",
        "--epochs",
        "1",
        "--out",
        "results/b",
    ]
    result = progloc(*asked, cwd=trained)
    assert result.returncode == 0, result.stderr
    assert "first the same training without a penalty" in result.stderr
    assert "price in perplexity: asked +5.00%" in result.stdout
    goal = json.loads((trained / "results/b/result.json").read_text())["goal"]
    assert goal["held"] == (goal["found"] <= 0.05)


@pytest.mark.slow
def test_train_again_reads_the_result_and_another_configuration_is_refused(trained: Path) -> None:
    again = ["train", "--config", "f.yaml", *NANO, "--schedule", "linear", "--epochs", "1", "--out", "results/run"]
    result = progloc(*again, "--json", cwd=trained)
    assert json.loads(result.stdout) == json.loads((trained / "results/run/result.json").read_text())
    message = refused(progloc(*again, "--alpha", "0.25", cwd=trained))
    assert "config.locality.alpha is 0.5 there, 0.25 here" in message


@pytest.mark.slow
def test_evaluate_a_run_a_model_and_another_schedule(trained: Path) -> None:
    text = trained / "text.txt"
    text.write_text("A model may look outside its block, and pay for it. " * 40)
    by_run = progloc("evaluate", "results/run", "--corpus", "text.txt", "--json", cwd=trained)
    by_model = progloc("evaluate", "results/run/model", "--corpus", "text.txt", "--json", cwd=trained)
    assert by_run.stdout == by_model.stdout
    found = json.loads(by_run.stdout)
    assert len(found["layers"]) == 2
    assert found["tokens"] % 31 == 0  # sequences of 32, its own training setting
    other = progloc(
        "evaluate", "results/run", "--corpus", "text.txt", "--schedule", "localist", "--blocks", "fixed:9", "--json",
        cwd=trained,
    )  # fmt: skip
    changed = json.loads(other.stdout)
    assert changed["perplexity"] == pytest.approx(found["perplexity"])
    assert changed["fidelity"] > found["fidelity"]
    table = progloc("evaluate", "results/run", "--corpus", "text.txt", cwd=trained).stdout
    assert f"{found['perplexity']:.3f}" in table
    assert f"{found['fidelity']:.3f}" in table


def test_schedule(tmp_path: Path) -> None:
    found = json.loads(progloc("schedule", "quintic", "--layers", "12", "--json", cwd=tmp_path).stdout)
    assert found["lambdas"][9] == pytest.approx(0.3666, abs=1e-4)
    assert "0.3666" in progloc("schedule", "quintic", cwd=tmp_path).stdout
    explicit = json.loads(progloc("schedule", "0,0.5,1", "--json", cwd=tmp_path).stdout)
    assert explicit["lambdas"] == [0.0, 0.5, 1.0]
    assert explicit["head_lambdas"] is None
    heads = progloc("schedule", "heads:0.5,step:1", "--layers", "2", "--heads", "6", cwd=tmp_path).stdout
    assert "0.5000" in heads
    assert "3 of 6" in heads


def test_blocks(tmp_path: Path) -> None:
    text = "Blocks follow tokens; every token is in one. 🙂"
    found = json.loads(
        progloc("blocks", "fixed:4", "-", "--model", "scratch:nano", "--json", cwd=tmp_path, stdin=text).stdout
    )
    count = len(found["tokens"])
    assert found["block_ids"] == [i // 4 for i in range(count)]
    assert len(found["spans"]) == count
    assert found["spans"][-1][1] == len(text)
    (tmp_path / "t.txt").write_text(text)
    shown = progloc("blocks", "fixed:4", "t.txt", "--model", "scratch:nano", cwd=tmp_path).stdout
    assert text in shown.replace("│", "")
    assert shown.count("│") == -(-count // 4) - 1
    assert f"{count} tokens in {-(-count // 4)} blocks" in shown


@pytest.mark.slow
def test_doctor(tmp_path: Path) -> None:
    found = json.loads(progloc("doctor", "--json", cwd=tmp_path).stdout)
    assert found["training_tokens_per_second"] > 0
    assert found["torch"]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole suite was reproduced on a very small model, with two seeds."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "smoke.yaml").write_text(SMOKE)
    result = progloc("reproduce", "--suite", "smoke.yaml", cwd=folder)
    assert result.returncode == 0, result.stderr
    for name in ("distributed", "localist", "linear", "quadratic", "cubic", "quartic", "quintic"):
        assert name in result.stdout.lower()
    return folder


@pytest.mark.slow
def test_reproduce_makes_everything(reproduced: Path) -> None:
    folder = reproduced / "results" / "smoke"
    with (folder / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["run"] for row in rows} >= {"distributed", "localist", "quintic"}
    for row in rows:
        result = json.loads((folder / "runs" / f"{row['run']}-seed{row['seed']}" / "result.json").read_text())
        assert float(row["perplexity"]) == pytest.approx(result["final"]["perplexity"], rel=1e-6)
    assert "Table 4" in (folder / "tables.md").read_text()
    page = (folder / "report.html").read_text()
    assert all(claim in page for claim in ("C1", "C5", "C9"))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(list((folder / "figures").glob("*.png"))) >= 5


@pytest.mark.slow
def test_reproduce_again_makes_no_run_twice(reproduced: Path) -> None:
    results = sorted((reproduced / "results/smoke/runs").glob("*/result.json"))
    before = {path: path.stat().st_mtime_ns for path in results}
    (results[0].parent / "result.json").unlink()
    result = progloc("reproduce", "--suite", "smoke.yaml", cwd=reproduced)
    assert result.returncode == 0, result.stderr
    after = {path: path.stat().st_mtime_ns for path in results}
    assert [path for path in results if after[path] != before[path]] == [results[0]]


@pytest.mark.slow
def test_report_writes_the_page_again(reproduced: Path) -> None:
    page = reproduced / "results/smoke/report.html"
    page.unlink()
    result = progloc("report", "results/smoke", "--json", cwd=reproduced)
    found = json.loads(result.stdout)
    assert page.exists()
    assert {claim["id"] for claim in found["claims"]} >= {"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C9"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--corpus", "missing.txt"], "no corpus at missing.txt"),
        (["train", "--corpus", "empty.txt"], "holds no text"),
        (["train", "--corpus", "latin.txt"], "not UTF-8 at byte 3"),
        (["train", "--corpus", "short.txt", *NANO], "too few for one sequence of 32"),
        (["train", "--schedule", "quintik"], "did you mean 'quintic'?"),
        (["train", "--schedule", "0,1.5"], "λ(1) is 1.5"),
        (["train", "--schedule", "uniform:2"], "expected a number in [0, 1]"),
        (["train", "--schedule", ""], "unknown schedule ''"),
        (["train", *NANO, "--schedule", "0,1,1"], "3 values; the model has 2 layers"),
        (["train", "--budget", "little"], "expected a share of perplexity, as in 1%"),
        (["train", "--budget", "0%"], "budget is 0.0; expected a share > 0"),
        (["train", "--blocks", "fixed:0"], "whole number ≥ 1"),
        (["train", "--blocks", "fixed:99999999999999999999"], "whole number ≥ 1"),
        (["train", *NANO, "--out", "short.txt/run"], "short.txt is a file"),
        (["train", *NANO, "--out", "x" * 300], "File name too long"),
        (["train", "--config", "taken"], "cannot read taken"),
        (["train", "--blocks", "sentence"], "unknown partitioner"),
        (["train", "--alpha", "-1"], "alpha is -1.0"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--model", "nowhere/at-all"], "nowhere/at-all"),
        (["train", "--model", "scratch:giant"], "scratch:giant"),
        (["train", "--config", "bad.yaml"], "unknown setting 'locality.schedul'; did you mean 'schedule'?"),
        (["train", *NANO, "--out", "taken"], "taken is not empty"),
        (["evaluate", "taken"], "taken"),
        (["evaluate", "bloom"], "BloomForCausalLM cannot be localised"),
        (["reproduce", "--suite", "papers"], "unknown suite 'papers'"),
        (["reproduce", "--seeds", "0"], "--seeds 0"),
        (["reproduce", "--suite", "bad.yaml"], "unknown setting 'locality'"),
        (["reproduce", "--suite", "noseeds.yaml"], "the setting 'seeds' is missing"),
        (["reproduce", "--suite", "empty.yaml"], "expected at least one schedule"),
        (["report", "taken"], "taken"),
        (["schedule", "quintic", "--layers", "0"], "at least one layer"),
        (["schedule", "quintic", "--denominator", "N"], "expected L-1 or L"),
        (["blocks", "fixed:5", "missing.txt"], "no file at missing.txt"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_status_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 noir".encode("latin-1"))
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "bad.yaml").write_text("locality: {schedul: quintic}")
    (tmp_path / "noseeds.yaml").write_text("base: {}\narchitectures: [linear]")
    (tmp_path / "empty.yaml").write_text("seeds: 1\nbase: {}\narchitectures: []")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    if "bloom" in arguments:
        from transformers import BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast

        from progloc.data import Corpus
        from progloc.training.scratch import scratch_tokenizer

        BloomForCausalLM(BloomConfig(n_layer=1, hidden_size=16, n_head=2, vocab_size=512)).save_pretrained(
            tmp_path / "bloom"
        )
        tokenizer: PreTrainedTokenizerFast = scratch_tokenizer(Corpus("words", "some words " * 99), "nano")
        tokenizer.save_pretrained(tmp_path / "bloom")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    message = refused(progloc(*arguments, cwd=tmp_path))
    assert expected in message
    assert message.startswith("progloc: ")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before  # nothing half-written


def test_a_sequence_longer_than_the_context_is_refused(trained: Path) -> None:
    message = refused(progloc("evaluate", "results/run", "--sequence-length", "512", cwd=trained))
    assert "context of 256" in message
    assert "0" in refused(progloc("evaluate", "results/run", "--sequence-length", "0", cwd=trained))


@pytest.mark.slow
def test_a_killed_suite_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle; the same command then finishes, without making a finished run again."""
    (tmp_path / "smoke.yaml").write_text(SMOKE.replace("seeds: 2", "seeds: 1"))
    command = [sys.executable, "-m", "progloc", "reproduce", "--suite", "smoke.yaml"]
    runs = tmp_path / "results" / "smoke" / "runs"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(list(runs.glob("*/result.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finished = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    assert len(finished) >= 2
    assert not (tmp_path / "results/smoke/report.html").exists()
    result = progloc("reproduce", "--suite", "smoke.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results/smoke/report.html").exists()
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items())


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("progloc.paper.runner.train_run", interrupt)
    (tmp_path / "smoke.yaml").write_text(SMOKE)
    result = progloc("reproduce", "--suite", "smoke.yaml", cwd=tmp_path)
    assert result.returncode == 130
    assert result.stderr.strip().splitlines()[-1].startswith("progloc: interrupted; the same command goes on")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("progloc.paper.runner.train_run", full)
    (tmp_path / "smoke.yaml").write_text(SMOKE)
    assert "the disk is full" in refused(progloc("reproduce", "--suite", "smoke.yaml", cwd=tmp_path))
