"""CONTRIBUTING.md shows how to add things; what it shows has to run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.mark.slow
def test_the_examples_run_one_after_the_other():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    added = [name for block in blocks for name in re.findall(r"@(?:progloc\.)?(register_\w+)\(", block)]
    assert added == ["register_schedule", "register_partitioner", "register_measure"]
    # a process of their own, so that what they register does not stay for other tests
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
