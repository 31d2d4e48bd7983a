"""The same eight sequences make the same step and log line in one process and in two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

STEP = Path(__file__).parents[1] / "one_step.py"


def step(out: Path, processes: int, accumulation: int) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    running = []
    for rank in range(processes):
        place = {**rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        command = [sys.executable, str(STEP), str(accumulation), str(out)]
        running.append(subprocess.Popen(command, env={**os.environ, **place}))
    deadline = time.monotonic() + 180
    while not out.exists() and any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in running:  # what they wrote is whole; how torch's process group ends is not what is tested
        process.kill()
        process.wait()
    return json.loads(out.read_text())


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    alone = step(tmp_path / "alone.json", processes=1, accumulation=1)
    shared = step(tmp_path / "shared.json", processes=2, accumulation=2)
    assert shared["parameters"] == pytest.approx(alone["parameters"], rel=1e-9)
    assert shared["log"] == pytest.approx(alone["log"], rel=1e-5)
    assert abs(alone["log"]["lambda/layer_0"] - 0.9) > 1e-3  # λ was learned in that step, from what both processes saw
