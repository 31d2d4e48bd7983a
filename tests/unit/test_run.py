"""One run: what its folder holds, that it is made once, and that an interrupted one goes on."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from progloc import LocalityConfig, ProglocError, load, measure
from progloc.config import RunConfig, TrainingConfig
from progloc.fused_loss import FusedLoss
from progloc.results import RunResult
from progloc.training.callbacks import read_events
from progloc.training.inputs import Inputs, gather
from progloc.training.run import remeasure_run, train_run

CONFIG = RunConfig(
    model="scratch:nano",
    sequence_length=32,
    max_sequences=40,
    locality=LocalityConfig(schedule="linear", alpha=0.5),
    training=TrainingConfig(epochs=4, batch_size=8, accumulation=2, learning_rate=1e-2),
)


def on(config: RunConfig, **changes: Any) -> RunConfig:
    return dataclasses.replace(config, locality=dataclasses.replace(config.locality, **changes))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return gather(CONFIG)


@pytest.fixture(scope="module")
def finished_run(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("runs") / "linear"
    return folder, train_run(CONFIG, folder, inputs, name="linear")


@pytest.mark.slow
def test_the_folder_holds_result_events_and_model(finished_run: tuple[Path, RunResult], inputs: Inputs) -> None:
    folder, result = finished_run
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "model", "result.json", "run.json"]
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert RunResult.read(folder) == result
    steps = read_events(folder / "events.jsonl", "step")
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [event["stage"] for event in steps] == [1, 1, 2, 2, 2, 2, 2, 2]
    assert [len(event["penalty_by_layer"]) for event in steps] == [2] * 8
    assert [epoch["stage"] for epoch in result.epochs] == [1, 2, 2, 2]
    assert result.training["steps"] == 8
    assert result.training["kept_step"] > 2
    assert result.training["max_penalty_nats"] == max(event["penalty"] for event in steps)
    assert result.data["split_sha256"] == inputs.split_sha256


def test_the_model_kept_is_the_one_measured(finished_run: tuple[Path, RunResult], inputs: Inputs) -> None:
    folder, result = finished_run
    model = load(folder / "model")
    assert (model.locality.base_model, model.locality.sequence_length) == ("scratch:nano", 32)
    found = measure(model, inputs.validation)
    assert found.perplexity == pytest.approx(result.final["perplexity"], rel=1e-6)
    assert found.fidelity == pytest.approx(result.final["fidelity"], rel=1e-6)
    kept = next(e for e in result.epochs if e["step"] == result.training["kept_step"])
    assert kept["perplexity"] == pytest.approx(result.final["perplexity"], rel=1e-6)
    best = min(e["objective"] for e in result.epochs if e["stage"] == 2)
    assert kept["objective"] == best
    assert result.before["perplexity"] != result.final["perplexity"]


def test_a_finished_run_is_not_made_again(finished_run: tuple[Path, RunResult], inputs: Inputs) -> None:
    folder, result = finished_run
    heard: list[int] = []
    again = train_run(CONFIG, folder, inputs, name="linear", heard=lambda step, *_: heard.append(step))
    assert again == result
    assert heard == []


def test_another_configuration_is_refused(finished_run: tuple[Path, RunResult], inputs: Inputs) -> None:
    folder, _ = finished_run
    other = dataclasses.replace(CONFIG, locality=LocalityConfig(schedule="linear", alpha=0.25))
    with pytest.raises(ProglocError, match=r"config\.locality\.alpha is 0\.5 there, 0\.25 here"):
        train_run(other, folder, inputs, name="linear")


def test_a_folder_from_before_a_setting_had_what_is_now_its_default(
    finished_run: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path
) -> None:
    _, result = finished_run
    without = copy.deepcopy(result.to_dict())
    del without["config"]["training"]["precision"]
    for name in ("run.json", "result.json"):
        (tmp_path / name).write_text(json.dumps(without))
    assert train_run(CONFIG, tmp_path, inputs, name="linear") == result
    other = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, precision="bf16"))
    with pytest.raises(ProglocError, match=r"config\.training\.precision is 'fp32' there, 'bf16' here"):
        train_run(other, tmp_path, inputs, name="linear")


@pytest.mark.slow
def test_inputs_with_other_blocks_than_the_runs_are_refused(
    inputs: Inputs, plain: tuple[Path, RunResult], tmp_path: Path
) -> None:
    config = on(CONFIG, schedule="distributed", blocks="fixed:7")
    about: dict[str, Any] = {"name": "distributed", "role": "partitioner", "before": {}}
    with pytest.raises(ProglocError, match=r"blocks 'fixed:5' for a run with 'fixed:7'; expected .* gather"):
        train_run(config, tmp_path / "run", inputs, name="distributed")
    with pytest.raises(ProglocError, match=r"blocks 'fixed:5' for a run with 'fixed:7'; expected .* gather"):
        remeasure_run(config, tmp_path / "run", inputs, trained=plain[0], **about)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_killed_in_its_first_write_is_as_good_as_empty(
    finished_run: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path
) -> None:
    (tmp_path / ".run.json.123.part").write_text('{"schema')
    assert train_run(CONFIG, tmp_path, inputs, name="linear").final == finished_run[1].final


def test_a_folder_of_something_else_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ProglocError, match="not empty"):
        train_run(CONFIG, tmp_path, inputs, name="linear")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(
    finished_run: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path
) -> None:
    _, whole = finished_run

    def interrupt(step: int, steps: int, logs: dict[str, Any]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path, inputs, name="linear", heard=interrupt)
    assert not (tmp_path / "result.json").exists()
    seen: list[int] = []
    resumed = train_run(CONFIG, tmp_path, inputs, name="linear", heard=lambda step, *_: seen.append(step))
    assert seen[0] == 5  # the checkpoint of epoch 2 is step 4
    assert [event["step"] for event in read_events(tmp_path / "events.jsonl", "step")] == list(range(1, 9))
    for part in ("final", "lambdas"):
        assert getattr(resumed, part) == getattr(whole, part)
    assert [e["objective"] for e in resumed.epochs] == [e["objective"] for e in whole.epochs]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_learning_lambda_to_the_same_end(inputs: Inputs, tmp_path: Path) -> None:
    training = dataclasses.replace(CONFIG.training, lambda_learning_rate=50.0)  # nano has little to learn from
    config = dataclasses.replace(on(CONFIG, schedule="learnable:0.3"), training=training)
    whole = train_run(config, tmp_path / "whole", inputs, name="learnable:0.3")

    def interrupt(step: int, steps: int, logs: dict[str, Any]) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, tmp_path / "cut", inputs, name="learnable:0.3", heard=interrupt)
    resumed = train_run(config, tmp_path / "cut", inputs, name="learnable:0.3")
    for part in ("final", "lambdas", "lambdas_course"):
        assert getattr(resumed, part) == getattr(whole, part)
    course = {point["step"]: point["lambdas"] for point in whole.lambdas_course}
    assert list(course) == list(range(1, 9))
    assert course[2] == pytest.approx([0.3, 0.3])  # stage 1 ends with step 2
    assert abs(course[8][1] - course[8][0]) > 1e-3
    assert list(whole.lambdas) == course[whole.training["kept_step"]]
    assert load(tmp_path / "whole" / "model").locality.lambdas == whole.lambdas
    penalties = zip(whole.lambdas, whole.final["layers"], strict=True)
    assert whole.final["weighted_penalty_nats"] == pytest.approx(sum(w * x["penalty_nats"] for w, x in penalties))


@pytest.mark.slow
def test_a_share_of_heads_is_the_most_local_ones_of_the_untrained_model(inputs: Inputs, tmp_path: Path) -> None:
    result = train_run(on(CONFIG, schedule="heads:0.5,uniform:0.8"), tmp_path, inputs, name="heads")
    before = [[head["fidelity_no_sink"] for head in layer["heads"]] for layer in result.before["layers"]]
    assert result.head_lambdas == tuple(tuple(0.8 * (head == max(layer)) for head in layer) for layer in before)
    assert result.lambdas == (0.4, 0.4)
    final = result.final
    paid = [
        weight * head["penalty_nats"] / 2
        for row, layer in zip(result.head_lambdas, final["layers"], strict=True)
        for weight, head in zip(row, layer["heads"], strict=True)
    ]
    assert final["weighted_penalty_nats"] == pytest.approx(sum(paid))
    kept = load(tmp_path / "model")
    assert kept.locality.head_lambdas == result.head_lambdas
    assert measure(kept, inputs.validation).weighted_penalty_nats == pytest.approx(final["weighted_penalty_nats"])


@pytest.mark.slow
def test_a_matrix_of_heads_is_another_configuration_than_its_transpose(inputs: Inputs, tmp_path: Path) -> None:
    config = on(CONFIG, schedule=((0.0, 1.0), (0.0, 1.0)))
    result = train_run(config, tmp_path, inputs, name="explicit")
    assert result.head_lambdas == ((0.0, 1.0), (0.0, 1.0))
    assert train_run(config, tmp_path, inputs, name="explicit") == result
    with pytest.raises(ProglocError, match=r"config\.locality\.schedule is \[\[0\.0, 1\.0\], \[0\.0, 1\.0\]\] there"):
        train_run(on(CONFIG, schedule=((0.0, 0.0), (1.0, 1.0))), tmp_path, inputs, name="explicit")


@pytest.mark.slow
def test_a_run_killed_after_stopping_early_ends_as_it_would_have(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = dataclasses.replace(CONFIG.training, epochs=20, patience=1, learning_rate=0.3)
    config = dataclasses.replace(CONFIG, training=training)
    whole = train_run(config, tmp_path / "whole", inputs, name="linear")
    assert whole.training["stopped_early"]

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("progloc.training.run._save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run(config, tmp_path / "cut", inputs, name="linear")
    monkeypatch.undo()
    resumed = train_run(config, tmp_path / "cut", inputs, name="linear")
    assert resumed.final == whole.final
    assert resumed.training["steps"] == whole.training["steps"]
    assert resumed.training["kept_step"] == whole.training["kept_step"]


def test_a_full_disk_is_found_before_anything_is_written(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ProglocError, match="MiB free"):
        train_run(CONFIG, tmp_path / "run", inputs, name="linear")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_with_the_fused_loss_gives_the_same(
    finished_run: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("progloc.training.trainer.FusedLoss", lambda model: made.append(model) or FusedLoss(model))
    fused = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, fused_loss=True))
    result = train_run(fused, tmp_path / "fused", inputs, name="linear")
    assert len(made) == 1
    assert result.config["training"]["fused_loss"]
    assert result.final["perplexity"] == pytest.approx(finished_run[1].final["perplexity"], rel=1e-4)


# ---- a run without a penalty, measured on other blocks


@pytest.fixture(scope="module")
def plain(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A run with λ = 0 on `fixed:5`."""
    folder = tmp_path_factory.mktemp("plain") / "distributed-seed0"
    return folder, train_run(on(CONFIG, schedule="distributed"), folder, inputs, name="distributed")


@pytest.mark.slow
def test_other_blocks_change_what_is_measured_and_nothing_else(plain: tuple[Path, RunResult], tmp_path: Path) -> None:
    trained, of_fives = plain
    config = on(CONFIG, schedule="distributed", blocks="fixed:10")
    inputs = gather(config)
    about: dict[str, Any] = {"name": "distributed-fixed:10", "role": "partitioner", "before": of_fives.before}
    found = remeasure_run(config, tmp_path / "tens", inputs, trained=trained, **about)
    anew = train_run(config, tmp_path / "anew", inputs, name="distributed-fixed:10", role="partitioner")
    for key in ("perplexity", "fidelity", "fidelity_no_sink", "chance_fidelity", "penalty_nats"):
        assert found.final[key] == pytest.approx(anew.final[key])  # as if it had been trained on these blocks
    assert found.final["fidelity"] > of_fives.final["fidelity"]
    assert (found.config, found.data, found.lambdas) == (anew.config, anew.data, anew.lambdas)
    assert [e["perplexity"] for e in found.epochs] == pytest.approx([e["perplexity"] for e in anew.epochs])
    assert {epoch["fidelity"] for epoch in found.epochs} == {None}  # was measured on other blocks
    assert found.measured_from == "distributed-seed0"
    assert not (tmp_path / "tens" / "model").exists()
    before = (tmp_path / "tens" / "result.json").stat().st_mtime_ns
    assert remeasure_run(config, tmp_path / "tens", inputs, trained=trained, **about) == found
    assert (tmp_path / "tens" / "result.json").stat().st_mtime_ns == before


def test_a_run_with_a_penalty_or_none_yet_is_not_measured_on_other_blocks(
    finished_run: tuple[Path, RunResult], inputs: Inputs, tmp_path: Path
) -> None:
    about: dict[str, Any] = {"name": "x", "role": "partitioner", "before": {}}
    with pytest.raises(ProglocError, match="trained with a penalty"):
        remeasure_run(on(CONFIG, blocks="fixed:10"), tmp_path / "a", inputs, trained=finished_run[0], **about)
    with pytest.raises(ProglocError, match="is not finished"):
        remeasure_run(on(CONFIG, blocks="fixed:10"), tmp_path / "b", inputs, trained=tmp_path / "none", **about)


@pytest.mark.slow
def test_a_second_text_is_measured_and_never_trained_on(finished_run: tuple[Path, RunResult], tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("".join(f"The overseer reads page {n}. " for n in range(400)))
    config = dataclasses.replace(CONFIG, second_corpus=str(tmp_path / "other.txt"))
    inputs = gather(config)
    assert len(inputs.elsewhere) == len(inputs.validation)
    result = train_run(config, tmp_path / "run", inputs, name="linear")
    assert result.final == finished_run[1].final
    model = load(tmp_path / "run" / "model")
    found = measure(model, inputs.elsewhere)
    assert result.elsewhere["perplexity"] == pytest.approx(found.perplexity)
    assert result.elsewhere["perplexity"] != result.final["perplexity"]
    assert result.data["second_corpus"] == inputs.second.name
    assert result.data["second_sequences"] == len(inputs.validation)
