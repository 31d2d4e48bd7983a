"""Types reach a user: mypy accepts a script that uses what is promised, and knows the type of each result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "unit" / "user_script.py"
PROMISED = {
    "perplexity", "entropy_bits", "fidelity", "chance_fidelity", "penalty_nats", "sink_mass", "fidelity_no_sink",
    "entropy_bits_no_sink",
}  # fmt: skip


@pytest.mark.slow  # a minute where mypy has not read torch's types before
def test_mypy_knows_what_a_users_script_gets() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy", str(SCRIPT)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_asks_for_every_promised_figure_of_a_report() -> None:
    asked = re.findall(r"assert_type\(report\.(\w+), float\)", SCRIPT.read_text(encoding="utf-8"))
    assert set(asked) >= PROMISED
