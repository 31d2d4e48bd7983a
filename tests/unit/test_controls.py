"""Fixed blocks of the size of others, found by chance F°: against counting, and through a whole suite."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from rich.console import Console

from progloc.config import LocalityConfig, RunConfig, TrainingConfig
from progloc.paper.controls import chance_fidelity, size_control
from progloc.paper.plan import Preset, plan
from progloc.paper.runner import run_suite
from progloc.paper.semantic import control_of, semantic_against_fixed
from progloc.paper.suite import load_suite


def counted(rows):
    """F° of uniform attention, by going through every token."""
    inside = outside = 0.0
    for row in rows:
        for i in range(1, len(row)):
            inside += sum(row[j] == row[i] for j in range(1, i + 1)) / (i + 1)
            outside += i / (i + 1)
    return inside / outside


def sequences(rows):
    return Dataset.from_dict({"input_ids": [[0] * len(row) for row in rows], "block_ids": rows})


def drawn(length, mean, seed=0):
    """Blocks of any length around a mean."""
    return np.random.default_rng(seed).random((40, length)).__lt__(1 / mean).cumsum(1).tolist()


def test_chance_is_what_counting_gives():
    rows = [*drawn(30, 6), [0, 1, 0, 1, 2] * 6]  # the last is scattered
    assert chance_fidelity(torch.tensor(rows)) == pytest.approx(counted(rows))


@pytest.mark.parametrize("size", [1, 2, 7, 30, 64])
def test_fixed_blocks_are_their_own_control(size):
    found = size_control("other", sequences([[i // size for i in range(64)]] * 3))
    assert found.control == f"fixed:{size}"
    assert found.control_chance_fidelity_no_sink == pytest.approx(found.chance_fidelity_no_sink)


@pytest.mark.parametrize("mean", [3, 9, 25])
def test_no_other_size_is_nearer(mean):
    rows = drawn(64, mean)
    found = size_control("other", sequences(rows))
    levels = [counted([[i // n for i in range(64)]]) for n in range(1, 65)]
    apart = np.abs(np.log(levels) - np.log(counted(rows)))
    assert found.control == f"fixed:{apart.argmin() + 1}"
    assert found.chance_fidelity_no_sink == pytest.approx(counted(rows))


def test_a_mixture_has_no_one_size():
    assert size_control("mixed", sequences([[[0, 0], [1, 0]]])) is None


@pytest.mark.slow
def test_a_suite_makes_its_controls_and_compares_with_them(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"This is sentence {n}. It has a few words more than {n} has." for n in range(300)))
    base = RunConfig(
        corpus=str(text), sequence_length=32, max_sequences=12,
        locality=LocalityConfig(sink_aware=True),
        training=TrainingConfig(epochs=1, max_steps=1, batch_size=4, accumulation=1, exploration=0.0, patience=None),
    )  # fmt: skip
    preset = Preset(1, base, ("distributed", "localist", "linear"), partitioners=("sentences",), size_controls=True)
    run_suite(plan("sized", preset), tmp_path / "out", Console(quiet=True), "a test")
    suite = load_suite(tmp_path / "out")
    (kept,) = json.loads((tmp_path / "out" / "suite.json").read_text())["controls"]
    assert suite.partitioners == ["fixed:5", "sentences", kept["control"]]
    assert kept["blocks"] == "sentences"
    assert kept["control_chance_fidelity_no_sink"] == pytest.approx(kept["chance_fidelity_no_sink"], rel=0.1)
    assert control_of(suite, "sentences") == kept["control"]
    assert f"÷ {kept['control']}" in semantic_against_fixed(suite).figure
