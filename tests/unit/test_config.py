import dataclasses
import json
import math

import pytest
import yaml

from progloc.config import LocalityConfig, RunConfig, TrainingConfig, from_mapping, read_config
from progloc.errors import ProglocError
from progloc.schedules import Schedule

UNUSUAL = RunConfig(
    model="some/model",
    sequence_length=64,
    max_sequences=10,
    locality=LocalityConfig(schedule=(0.0, 0.25, 1.0), blocks="fixed:7", alpha=0.5, clip=1e-6, reduction="mean"),
    training=TrainingConfig(epochs=2, patience=None, learning_rate=5e-5, select="perplexity", seed=7),
)


BY_HEAD = RunConfig(locality=LocalityConfig(schedule=((0.0, 0.25), (1.0, 0.5))))


@pytest.mark.parametrize("config", [RunConfig(), UNUSUAL, BY_HEAD], ids=["defaults", "unusual", "by head"])
@pytest.mark.parametrize(
    ("write", "read"), [(yaml.safe_dump, yaml.safe_load), (json.dumps, json.loads)], ids=["yaml", "json"]
)
def test_a_configuration_survives_being_written_and_read(config, write, read):
    assert from_mapping(RunConfig, read(write(dataclasses.asdict(config)))) == config


def test_defaults_are_the_papers_where_it_gives_them():
    locality, training, run = LocalityConfig(), TrainingConfig(), RunConfig()
    assert (locality.alpha, locality.blocks, locality.reduction) == (0.05, "fixed:5", "sum")
    assert (locality.denominator, locality.clip) == ("L-1", None)
    assert (training.learning_rate, training.batch_size, training.accumulation) == (5e-5, 8, 4)
    assert (training.max_grad_norm, training.epochs, training.exploration_alpha) == (1.0, 20, 0.1)
    assert training.exploration * training.epochs == 5
    assert training.select == "objective"
    assert (run.sequence_length, run.validation_fraction) == (128, 0.2)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lokality": {}}, r"unknown setting 'lokality'; did you mean 'locality'\?"),
        ({"locality": {"alfa": 1}}, r"unknown setting 'locality\.alfa'; did you mean 'alpha'\?"),
        ({"training": {"epochs": "many"}}, r"training\.epochs is 'many'; expected int"),
        ({"training": {"epochs": True}}, r"training\.epochs is True; expected int"),
        ({"training": {"patience": "long"}}, r"training\.patience is 'long'"),
        ({"training": {"select": "luck"}}, r"training\.select is 'luck'; expected 'objective' or 'perplexity'"),
        ({"locality": {"schedule": {"beta": 5}}}, r"locality\.schedule is {'beta': 5}"),
        ({"locality": {"schedule": [[0, 1], [0, 2]]}}, r"λ\(1, 1\) is 2\.0"),
        ({"training": {"lambda_learning_rate": 0}}, r"lambda_learning_rate is 0\.0; expected a number > 0"),
        ({"locality": 5}, "locality is 5; expected settings"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_path(settings, named):
    with pytest.raises(ProglocError, match=named):
        from_mapping(RunConfig, settings)


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        *((LocalityConfig, "alpha", value) for value in (-0.1, math.nan, math.inf)),
        *((LocalityConfig, "clip", value) for value in (0.0, 1.0)),
        (LocalityConfig, "reduction", "max"),
        (LocalityConfig, "denominator", "L+1"),
        (LocalityConfig, "blocks", 5),
        *((LocalityConfig, "schedule", value) for value in (5, ("high",), Schedule("mine", lambda n: [0.0] * n))),
        *((TrainingConfig, name, 0) for name in ("epochs", "max_steps", "batch_size", "accumulation", "patience")),
        *((TrainingConfig, name, 0.0) for name in ("exploration_temperature", "learning_rate", "max_grad_norm")),
        *((TrainingConfig, name, math.inf) for name in ("exploration_alpha", "learning_rate", "max_grad_norm")),
        *((TrainingConfig, "exploration", value) for value in (-0.1, 1.0)),
        *((TrainingConfig, "seed", value) for value in (-1, 2**32)),
        (TrainingConfig, "select", "luck"),
        (RunConfig, "sequence_length", 1),
        *((RunConfig, "validation_fraction", value) for value in (0.0, 1.0)),
        (RunConfig, "max_sequences", 1),
    ],
)
def test_values_out_of_range_name_the_setting(cls, name, value):
    with pytest.raises(ProglocError, match=f"^{name} is .*; expected "):
        cls(**{name: value})


def test_a_lambda_outside_0_1_names_its_layer():
    with pytest.raises(ProglocError, match=r"λ\(1\) is 1\.5"):
        LocalityConfig(schedule=(0.0, 1.5))


@pytest.mark.parametrize(("name", "value"), [("schedule", "quintik"), ("blocks", "fixd:5")])
def test_an_unknown_name_brings_the_known_ones(name, value):
    with pytest.raises(ProglocError, match=r"did you mean '(quintic|fixed)'\? known: .*(quintic|fixed)"):
        LocalityConfig(**{name: value})


def test_yaml_reads_5e_5_as_a_number(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("training:\n  learning_rate: 5e-5\nlocality:\n  schedule: [0, 0.5, 1]\n")
    config = from_mapping(RunConfig, read_config(file))
    assert config.training.learning_rate == 5e-5
    assert config.locality.schedule == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"- 1\n- 2\n", "holds list"),
        (b"", "holds"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_in_one_line(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(ProglocError, match=message) as raised:
        read_config(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProglocError, match=r"no configuration file at .*none\.yaml"):
        read_config(tmp_path / "none.yaml")
