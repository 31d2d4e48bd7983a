"""Presets, the runs they stand for, and how a suite's progress is shown."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console

import synthetic_suite
from progloc import ProglocError
from progloc.files import write_json
from progloc.paper.plan import PlannedRun, Preset, plan, preset_names, read_preset
from progloc.paper.runner import Standing
from progloc.results import RunResult
from progloc.schedules import parse_schedule

SEVEN = ("distributed", "localist", "linear", "quadratic", "cubic", "quartic", "quintic")


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_compares_what_it_is_named_for(name: str) -> None:
    _, preset = read_preset(name)
    third = name.endswith("v3")
    assert preset.architectures == (("distributed", "localist", "linear", "cubic", "quintic") if third else SEVEN)
    semantic = ("sentences", "phrases:punctuation", "similarity", "recruited") if third else ()
    assert preset.partitioners == semantic
    assert plan(name, preset).uncontrolled == semantic  # a semantic partitioner has fixed blocks of its size beside it
    assert plan(name, preset).runs


def test_controls_have_every_architecture_and_stand_with_their_seed(tmp_path: Path) -> None:
    planned = plan("blocks", with_partitioners(tmp_path, "[sentences]"))
    assert planned.uncontrolled == ()
    made = planned.with_controls(["fixed:30"])
    (tmp_path / "listed").mkdir()
    listed = plan("blocks", with_partitioners(tmp_path / "listed", "[sentences, 'fixed:30']"))
    assert {run.folder: run for run in made.runs} == {run.folder: run for run in listed.runs}
    seeds = [run.config.training.seed for run in made.runs]
    assert seeds == sorted(seeds)


def test_paper_v1_is_the_papers_training() -> None:
    _, preset = read_preset("paper-v1")
    training = preset.base.training
    assert (preset.base.model, preset.base.sequence_length, preset.base.locality.blocks) == ("gpt2", 128, "fixed:5")
    assert (training.epochs, training.exploration * training.epochs) == (20, 5)
    assert (training.learning_rate, training.batch_size, training.accumulation) == (5e-5, 8, 4)
    assert (training.max_grad_norm, preset.base.locality.alpha, training.select) == (1.0, 0.05, "objective")


def test_a_seed_is_seven_rows_three_more_cells_and_a_short_baseline() -> None:
    made = plan("paper-v1", read_preset("paper-v1")[1], seeds=2)
    first = [run for run in made.runs if run.config.training.seed == 0]
    assert [run.name for run in first] == [
        *SEVEN, "distributed-epochs5", "cubic-alpha0.5-epochs5", "cubic-alpha0.05-epochs5", "cubic-alpha0.5-epochs20",
    ]  # fmt: skip
    assert [run.role for run in first] == ["architecture"] * 7 + ["optimisation"] * 4
    assert made.runs[: len(first)] == tuple(first)  # seed by seed
    short = next(run for run in first if run.name == "cubic-alpha0.5-epochs5").config
    assert (short.locality.schedule, short.locality.alpha, short.training.epochs) == ("cubic", 0.5, 5)
    assert len({run.folder for run in made.runs}) == len(made.runs) == 22


def with_partitioners(tmp_path: Path, partitioners: str) -> Preset:
    path = tmp_path / "blocks.yaml"
    path.write_text(
        "seeds: 2\nbase: {}\narchitectures: [distributed, localist, quintic]\n"
        f"partitioners: {partitioners}\noptimisation: {{schedule: cubic, alphas: [0.05], epochs: [5]}}\n"
    )
    return read_preset(str(path))[1]


def test_every_partitioner_has_every_architecture_and_shares_the_run_without_a_penalty(tmp_path: Path) -> None:
    made = plan("blocks", with_partitioners(tmp_path, "['fixed:10', 'fixed:20']"))
    second = [run for run in made.runs if run.config.training.seed == 1]
    assert [(run.name, run.role, run.config.locality.blocks) for run in second[:6]] == [
        ("distributed", "architecture", "fixed:5"),
        ("localist", "architecture", "fixed:5"),
        ("quintic", "architecture", "fixed:5"),
        ("distributed-fixed:10", "partitioner", "fixed:10"),
        ("localist-fixed:10", "partitioner", "fixed:10"),
        ("quintic-fixed:10", "partitioner", "fixed:10"),
    ]
    shared = {run.folder: run.measures for run in second if run.measures is not None}
    assert shared == {
        "distributed-fixed:10-seed1": "distributed-seed1",
        "distributed-fixed:20-seed1": "distributed-seed1",
    }
    assert len({run.folder for run in made.runs}) == len(made.runs) == 2 * (3 * 3 + 2)
    configs = {run.name: run.config for run in second}
    assert configs["quintic-fixed:10"] == dataclasses.replace(
        configs["quintic"], locality=dataclasses.replace(configs["quintic"].locality, blocks="fixed:10")
    )


@pytest.mark.parametrize("partitioners", ["['fixed:5']", "['fixed:10', 'fixed:10']"])
def test_a_partitioner_is_named_once(tmp_path: Path, partitioners: str) -> None:
    with pytest.raises(ProglocError, match="twice"):
        with_partitioners(tmp_path, partitioners)


def test_an_unknown_partitioner_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match="unknown partitioner 'fixt'"):
        plan("blocks", with_partitioners(tmp_path, "['fixt:5']"))


def with_variants(tmp_path: Path, variants: str) -> Preset:
    path = tmp_path / "variants.yaml"
    path.write_text(
        "seeds: 1\nbase: {locality: {sink_aware: true}}\narchitectures: [distributed, localist, quintic]\n"
        f"variants: {variants}\n"
    )
    return read_preset(str(path))[1]


def test_every_variant_of_the_penalty_has_every_localised_architecture(tmp_path: Path) -> None:
    made = plan("variants", with_variants(tmp_path, "{plain: {sink_aware: false}, weak: {alpha: 0.01}}"))
    assert [(run.name, run.role) for run in made.runs[3:]] == [
        ("localist-plain", "variant"),
        ("quintic-plain", "variant"),
        ("localist-weak", "variant"),
        ("quintic-weak", "variant"),
    ]
    configs = {run.name: run.config for run in made.runs}
    own = configs["quintic"].locality
    assert own.sink_aware
    assert configs["quintic-plain"].locality == dataclasses.replace(own, sink_aware=False)
    assert configs["quintic-weak"].locality == dataclasses.replace(own, alpha=0.01)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("{a/b: {alpha: 0.1}}", "variant is called 'a/b'; expected a name that a folder can have"),
        ("{none: {}}", "variant 'none' changes nothing"),
        ("{other: {schedule: linear}}", "variant 'other' changes schedule; .* 'architectures'"),
        ("{other: {blocks: sentences}}", "variant 'other' changes blocks; .* 'partitioners'"),
        ("{other: {alhpa: 1}}", r"unknown setting 'variants\.other\.alhpa'; did you mean 'alpha'"),
        ("[plain]", "variants is .*; expected names, each with its settings"),
    ],
)
def test_a_variant_that_is_none_is_refused(tmp_path: Path, variants: str, message: str) -> None:
    with pytest.raises(ProglocError, match=message):
        plan("variants", with_variants(tmp_path, variants))


def test_overrides_reach_every_run() -> None:
    made = plan("quick", read_preset("quick")[1], {"corpus": "my.txt", "model": "gpt2"})
    assert {(run.config.corpus, run.config.model) for run in made.runs} == {("my.txt", "gpt2")}
    assert made.seeds == [0, 1, 2]


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seeds: 1\nbase: {corpus: my.txt}\narchitectures: ['polynomial:2.5']\n")
    name, preset = read_preset(str(path))
    made = plan(name, preset)
    assert name == "mine"
    assert [run.folder for run in made.runs] == ["polynomial:2.5-seed0"]
    path.write_text("seeds: 1\nbase: {corpse: my.txt}\narchitectures: [linear]\n")
    with pytest.raises(ProglocError, match=r"unknown setting 'base\.corpse'; did you mean 'corpus'\?"):
        read_preset(str(path))


def test_seeds_can_be_made_apart() -> None:
    preset = read_preset("quick")[1]
    whole = plan("quick", preset, seeds=3)
    apart = [plan("quick", preset, seeds=range(seed, seed + 1)) for seed in range(3)]
    assert [run for each in apart for run in each.runs] == list(whole.runs)
    with pytest.raises(ProglocError, match="FIRST:END"):
        plan("quick", preset, seeds=range(2, 2))


@pytest.mark.parametrize(
    ("seeds", "name", "message"), [(0, "quick", "--seeds 0"), (1, "quik", "did you mean 'quick'?")]
)
def test_what_is_no_plan_is_refused(seeds: int, name: str, message: str) -> None:
    with pytest.raises(ProglocError, match=message.replace("?", r"\?")):
        plan(name, read_preset(name)[1], seeds=seeds)


def result(run: PlannedRun, perplexity: float, folder: Path) -> RunResult:
    content = synthetic_suite.result(run.name, run.role, run.config)
    content["final"]["perplexity"] = perplexity
    write_json(folder / "result.json", content)
    return RunResult.read(folder)


def test_standing_shows_gaps_and_corrects_its_estimate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan("quick", read_preset("quick")[1], seeds=1)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    standing = Standing(made, {run.folder: 10.0 for run in made.runs})
    assert standing.seconds_left() == 110.0
    for run, perplexity in zip(made.runs[:2], (50.0, 60.0), strict=True):
        standing.begin(run)
        standing.hear(96, 96, {"ce": 4.0, "stage": 2, "penalty_nats": 1.0})
        now[0] += 20.0  # twice as long as estimated
        standing.finish(run, result(run, perplexity, tmp_path))
    assert standing.seconds_left() == 180.0
    assert "gap 1.200×" in standing.line(made.runs[1])
    standing.begin(made.runs[2])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(standing.table())
    shown = console.export_text()
    assert "2 of 11 runs done, about 3.0 min left" in shown
    assert "▸ linear" in shown
    assert "1.200×" in shown


def test_the_suite_of_schedules_compares_equal_means_where_it_says_so() -> None:
    _, preset = read_preset(str(Path(__file__).parents[2] / "benchmarks" / "suites" / "schedules.yaml"))
    means = {name: fmean(parse_schedule(name).resolve(6, 4)[0]) for name in preset.architectures}
    for name in ("sigmoid:0.82,12", "learnable:0.236"):
        assert means[name] == pytest.approx(means["quintic"], abs=1e-3)
    assert means["heads:0.5,quintic"] == pytest.approx(means["quintic"] / 2)
    assert means["step:5"] == pytest.approx(1 / 6)
