"""`progloc generate` and `progloc dial`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from command_line import progloc, refused

TRAIN = ["train", "--model", "scratch:nano", "--sequence-length", "32", "--max-steps", "3", "--batch-size", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `near` was trained localist on sentences, and `plain` without a penalty."""
    folder = tmp_path_factory.mktemp("dial")
    (folder / "small.yaml").write_text("max_sequences: 20\ntraining: {accumulation: 1, learning_rate: 1.0e-2}\n")
    for name, schedule in (("near", "localist"), ("plain", "distributed")):
        given = ["--config", "small.yaml", "--schedule", schedule, "--blocks", "sentences", "--out", name]
        assert progloc(*TRAIN, *given, cwd=folder).returncode == 0
    return folder


@pytest.mark.slow
def test_a_text_goes_on_as_locally_as_the_dial_says(folder: Path) -> None:
    found = {}
    for delta in ("0", "1", "0.5,0.5"):
        command = ["generate", "near", "--prompt", "A class is. An object", "--dial", delta, "--max-new-tokens", "12"]
        result = progloc(*command, "--json", cwd=folder)
        assert result.returncode == 0, result.stderr
        found[delta] = json.loads(result.stdout)
    assert found["0"]["outside"] == [1.0, 1.0]
    assert found["1"]["outside"] == [0.0, 0.0]
    assert found["0.5,0.5"]["outside"] == [0.5, 0.5]
    assert {each["tokens"] for each in found.values()} == {12}
    shown = progloc(
        "generate", "near", "--prompt", "-", "--max-new-tokens", "12", cwd=folder, stdin="A class is. An object"
    )
    assert shown.stdout.startswith("A class is. An object" + found["0"]["continuation"].split("\n")[0])


@pytest.mark.slow
def test_the_curve_is_written_and_shown(folder: Path) -> None:
    command = ["dial", "near", "--against", "plain", "--deltas", "0,0.5,1", "--sequences", "6", "--out", "curve"]
    result = progloc(*command, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (folder / "curve").iterdir()) == ["dial.json", "dial.png", "tables.md"]
    assert "From δ = 0 to 1, near goes from perplexity" in " ".join(result.stdout.split())
    found = json.loads((folder / "curve" / "dial.json").read_text())
    assert [curve["model"] for curve in found["curves"]] == ["near", "plain"]
    points = found["curves"][0]["points"]
    assert [(point["delta"], point["keep_sink"]) for point in points] == [
        (0.0, False), (0.5, False), (1.0, False), (0.0, True), (0.5, True), (1.0, True),
    ]  # fmt: skip
    assert points[0]["kl_nats"] == 0.0
    assert points[0]["same_top"] == 1.0
    assert points[2]["kl_nats"] > points[1]["kl_nats"] > 0
    assert points[2]["fidelity"] == pytest.approx(1.0)
    assert len(found["one_layer_alone"]) == 2


@pytest.mark.slow
def test_a_model_that_nobody_localised_is_said_to_be_none(folder: Path) -> None:
    shutil.copytree(folder / "plain" / "model", folder / "bare")
    (folder / "bare" / "locality.json").unlink()
    (folder / "text.txt").write_text("A class is a kind. Its objects are many. " * 40)
    table = progloc("evaluate", "bare", "--corpus", "text.txt", "--blocks", "sentences", cwd=folder)
    assert "not localised, in sentences" in table.stdout, table.stderr
    report = json.loads(progloc("evaluate", "bare", "--corpus", "text.txt", "--json", cwd=folder).stdout)
    assert (report["schedule"], report["blocks"]) == ("not localised", "fixed:5")
    text = json.loads(progloc("generate", "bare", "--prompt", "A class is.", "--json", cwd=folder).stdout)
    assert (text["schedule"], text["blocks"]) == ("not localised", "fixed:5")
    curve = progloc("dial", "bare", "--corpus", "text.txt", "--deltas", "0,1", "--out", "curve", "--json", cwd=folder)
    assert "'bare' is not localised: it is dialled in every layer alike" in curve.stderr
    said = json.loads(curve.stdout)
    assert (said["schedule"], said["localised"]) == ("localist", False)
    assert said["curves"][0]["points"][1]["fidelity"] == pytest.approx(1.0)
    asked = ["evaluate", "bare", "--corpus", "text.txt", "--schedule", "linear", "--json"]
    assert json.loads(progloc(*asked, cwd=folder).stdout)["schedule"] == "linear"


OPENING = [
    ["evaluate", "MODEL", "--corpus", "text.txt"],
    ["generate", "MODEL", "--prompt", "A class is."],
    ["dial", "MODEL", "--corpus", "text.txt", "--schedule", "linear"],
    ["audit", "MODEL", "--prompt", "A class is. An object too.", "--out", "page.html"],
    ["train", "--model", "MODEL", "--corpus", "text.txt", "--sequence-length", "32", "--max-steps", "1", "--out", "no"],
    ["blocks", "recruited:16", "text.txt", "--model", "MODEL"],
]
"""Every way in which a command opens a model."""


@pytest.fixture(scope="module")
def broken(folder: Path) -> Path:
    """Beside the others `renamed`, whose weights have other names, and `coded`, an architecture of its own."""
    (folder / "text.txt").write_text("A class is a kind. Its objects are many. " * 40)
    for name in ("renamed", "coded"):
        shutil.copytree(folder / "near" / "model", folder / name)
    weights = folder / "renamed" / "model.safetensors"
    save_file({f"module.{key}": value for key, value in load_file(weights).items()}, weights)
    config = folder / "coded" / "config.json"
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
    (folder / "coded" / "own.py").write_text("open('ran', 'w').close()\nConfig = Model = None\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "message"),
    [("renamed", "do not fit GPT2LMHeadModel: "), ("coded", "Python code of its own, which progloc does not run")],
)
@pytest.mark.parametrize("command", OPENING, ids=lambda command: command[0])
def test_a_model_that_cannot_be_trusted_is_one_line(broken: Path, command: list[str], model: str, message: str) -> None:
    result = progloc(*(model if part == "MODEL" else part for part in command), cwd=broken, stdin="y\n" * 9)
    assert message in refused(result)
    assert "[y/N]" not in result.stderr
    assert not any((broken / name).exists() for name in ("ran", "page.html"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "near", "--prompt", " "), "the prompt is empty"),
        (("generate", "near", "--prompt", "x", "--dial", "2"), "a dial of 2; expected a number from 0"),
        (("generate", "near", "--prompt", "x", "--dial", "0.1,0.2,0.3"), "3 numbers; the model has 2 layers"),
        (("generate", "near", "--prompt", "x", "--max-new-tokens", "0"), "expected a whole number"),
        (("generate", "nowhere", "--prompt", "x"), "nowhere"),
        (("dial", "near", "--deltas", "0,much"), "--deltas '0,much'; expected numbers"),
        (("dial", "near", "--deltas", "0,1.5"), "a dial of 1.5"),
        (("generate", "plain", "--prompt", "x", "--dial", "0.7"), "λ, which is 0 in every layer of this model"),
        (("dial", "plain"), "'plain' has λ = 0 in every layer (distributed)"),
        (("dial", "near", "--sequences", "0"), "--sequences 0; expected a whole number"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(progloc(*arguments, cwd=folder))
    assert not (folder / "results").exists()


@pytest.mark.slow
def test_blocks_that_change_with_what_follows_are_refused_in_generation(folder: Path) -> None:
    assert (
        progloc(*TRAIN, "--config", "small.yaml", "--blocks", "recruited", "--out", "apart", cwd=folder).returncode == 0
    )
    line = refused(progloc("generate", "apart", "--prompt", "A class is", "--dial", "0.5", cwd=folder))
    assert "'recruited' are not causal" in line
    assert progloc("generate", "apart", "--prompt", "A class is", "--max-new-tokens", "2", cwd=folder).returncode == 0
