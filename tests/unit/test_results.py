"""The one schema of `result.json`."""

import json
import math
import re

import pytest

from progloc.config import RunConfig
from progloc.errors import ProglocError
from progloc.results import RunResult
from synthetic_suite import result


def write(folder, **changes):
    content = result("quintic", "architecture", RunConfig()) | changes
    (folder / "result.json").write_text(json.dumps(content))
    return content


def test_what_is_written_is_what_was_read(tmp_path):
    content = write(tmp_path)
    run = RunResult.read(tmp_path)
    run.write(tmp_path)
    again = json.loads((tmp_path / "result.json").read_text())
    absent = dict.fromkeys(("head_lambdas", "lambdas_course", "elsewhere", "goal"))  # a run from before they were there
    assert again == content | absent
    assert RunResult.read(tmp_path) == run


def test_a_setting_that_came_later_has_its_default(tmp_path):
    content = write(tmp_path)
    del content["config"]["training"]["precision"]
    write(tmp_path, config=content["config"])
    assert RunResult.read(tmp_path).config["training"]["precision"] == RunConfig().training.precision


def test_null_is_not_a_number(tmp_path):
    content = write(tmp_path)
    write(tmp_path, final=content["final"] | {"fidelity": None})
    run = RunResult.read(tmp_path)
    assert math.isnan(run.measure("fidelity"))
    assert math.isnan(run.measure_elsewhere("fidelity"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {"steps": 1}}, "has no 'training."),
        ({"schema_version": 9}, "has schema version 9"),
        ({"lambdas": []}, "0 values of λ"),
        ({"epochs": [{"epoch": 1.0}]}, "an epoch without one of epoch, stage"),
    ],
)
def test_a_damaged_result_is_named_in_one_line(tmp_path, changes, reason):
    write(tmp_path, **changes)
    with pytest.raises(ProglocError, match=re.escape(reason)) as caught:
        RunResult.read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "result.json"))
    assert "\n" not in str(caught.value)
