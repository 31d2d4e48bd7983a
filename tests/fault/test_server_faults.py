"""A server that is killed in the middle of a study: every click that was answered is still there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from progloc.app.database import Database
from progloc.app.survey import RUBRIC, Answers

TESTS = Path(__file__).parents[1]
CLICKS = [
    (label, scale.name, score) for (label, scale), score in zip(product("AB", RUBRIC), (1, 5, 2, 4, 3, 1), strict=True)
]
Start = Callable[[], "Server"]


class Server:
    """A server process of its own, and a rater before it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self.address = process, process.stdout.readline().strip()
        self.cookie = ""

    def ask(self, path: str, body: dict[str, Any] | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Cookie": self.cookie}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.address}{path}", data, headers), timeout=10
        ) as answer:
            if "Set-Cookie" in answer.headers:
                self.cookie = answer.headers["Set-Cookie"].split(";")[0]
            return str(answer.read().decode())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "study.sqlite"


@pytest.fixture
def start(data: Path, tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "prompts.txt").write_text("A cat sat here. It was warm. What did it do?")
    started = []

    def start() -> Server:
        command = [sys.executable, str(TESTS / "stand_in_server.py"), str(data), str(tmp_path / "prompts.txt")]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return Server(started[-1])

    yield start
    for process in started:
        process.kill()
        process.wait()


def ratings(data: Path) -> list[tuple[str, str, int]]:
    with closing(Database(data, create=False)) as database:
        return [(one["shown_as"], one["scale"], one["score"]) for one in Answers(database).ratings()]


@pytest.mark.slow  # two processes that import torch
def test_every_click_survives_a_kill_between_two(start: Start, data: Path) -> None:
    def enter(server: Server) -> str:
        server.ask("study/rater", {"name": "ann"})
        while "data-item" not in (page := server.ask("study")):
            time.sleep(0.05)
        return page

    first = start()
    enter(first)
    for label, scale, score in CLICKS[:4]:
        first.ask("study/ratings", {"item": 1, "label": label, "scale": scale, "score": score})
    first.kill()
    assert ratings(data) == CLICKS[:4]

    second = start()
    page = enter(second)
    assert page.count(" checked>") == 4
    for label, scale, score in CLICKS[4:]:
        second.ask("study/ratings", {"item": 1, "label": label, "scale": scale, "score": score})
    second.kill()
    assert ratings(data) == CLICKS
