"""One folder has one writer: a second is refused in one line, whatever becomes of the first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from command_line import progloc, refused
from progloc.errors import ProglocError
from progloc.files import one_writer, write_text

SETTINGS = """
model: scratch:nano
sequence_length: 32
max_sequences: 30
locality: {schedule: linear, alpha: 0.5}
training: {epochs: 12, batch_size: 8, accumulation: 1, learning_rate: 1.0e-2, patience: null}
"""
SUITE = """
seeds: 1
base:
  model: scratch:nano
  sequence_length: 32
  max_sequences: 20
  training: {epochs: 2, exploration: 0.5, batch_size: 8, accumulation: 1, patience: null}
architectures: [distributed, localist]
"""
FORK = multiprocessing.get_context("fork")
COMMANDS = {
    "train": ["train", "--config", "run.yaml", "--out", "out"],
    "reproduce": ["reproduce", "--suite", "suite.yaml", "--out", "out"],
}


def wait_for(happened: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert happened()


def hold(folder: Path, ask: Connection) -> None:
    with one_writer(folder):
        ask.send(os.getpid())
        ask.recv()


@contextmanager
def holding(folder: Path) -> Iterator[tuple[BaseProcess, Connection]]:
    """Another process that holds a folder until it is sent something."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(folder, theirs))  # forked, for starting one anew takes seconds
    process.start()
    assert ours.recv() == process.pid
    yield process, ours
    process.kill()
    process.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_refused_is_told_who_writes(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "run"
    with holding(folder) as (process, ask):
        before = contents(tmp_path)
        for name in (folder, folder / ".." / "run"):
            with pytest.raises(ProglocError) as refusal, one_writer(name):
                pytest.fail("two writers")
            who = f"process {process.pid} on {socket.gethostname()} since 20"
            assert f"is being written by {who}" in str(refusal.value)
            assert "--out" in str(refusal.value)
        assert contents(tmp_path) == before
        (tmp_path / "link").symlink_to(folder)
        with pytest.raises(ProglocError, match="is being written"), one_writer(tmp_path / "link"):
            pytest.fail("two writers")
        ask.send("end")
        process.join()
    assert not (tmp_path / "results").exists()
    with one_writer(folder):
        write_text(folder / "a", "b")
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    with holding(tmp_path) as (process, _):
        process.kill()
        process.join()
        assert {path.name for path in tmp_path.iterdir()} == {".writer.lock", ".writer.json"}  # it could not clean up
        with one_writer(tmp_path):
            assert f'"pid": {os.getpid()}' in (tmp_path / ".writer.json").read_text()
    assert list(tmp_path.iterdir()) == []


def test_one_may_wait_for_the_other(tmp_path: Path) -> None:
    with holding(tmp_path) as (process, ask):
        threading.Timer(0.3, ask.send, ["end"]).start()
        with one_writer(tmp_path, wait=True):
            process.join(timeout=60)
            assert process.exitcode == 0


def test_a_writer_may_enter_again_and_another_thread_may_not(tmp_path: Path) -> None:
    refusals: list[str] = []

    def enter() -> None:
        try:
            with one_writer(tmp_path):
                pass
        except ProglocError as error:
            refusals.append(str(error))

    with one_writer(tmp_path):
        with one_writer(tmp_path):
            pass
        assert (tmp_path / ".writer.lock").exists()
        other = threading.Thread(target=enter)
        other.start()
        other.join()
    assert len(refusals) == 1
    enter()
    assert len(refusals) == 1


def test_what_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), one_writer(tmp_path / "a" / "b"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (tmp_path / "run.yaml").write_text(SETTINGS)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "out").mkdir()
    opened = os.open

    def read_only(path: object, flags: int, *rest: object, **more: object) -> int:
        if str(path).startswith(str(tmp_path / "out")) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", read_only)
    message = refused(progloc(*command, cwd=tmp_path))
    assert message == "progloc: out cannot be written (Read-only file system); give another folder with --out"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS.values(),
        ["audit", "suite", "--study", "words.txt", "--out", "out"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_goes_on_in_a_folder_refuses_a_second(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "run.yaml").write_text(SETTINGS)
    (tmp_path / "suite.yaml").write_text(SUITE)
    with holding(tmp_path / "out") as (process, _):
        before = contents(tmp_path)
        message = refused(progloc(*command, cwd=tmp_path))
        assert message.startswith(f"progloc: out is being written by process {process.pid} on ")
        assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_two_commands_in_one_folder(tmp_path: Path, name: str) -> None:
    """The second is refused while the first trains; the first is killed; then the second ends what it began."""
    (tmp_path / "run.yaml").write_text(SETTINGS)
    (tmp_path / "suite.yaml").write_text(SUITE)
    out, begun = tmp_path / "out", "checkpoint-*/complete" if name == "train" else "result.json"
    first = [sys.executable, "-m", "progloc", *COMMANDS[name]]
    with subprocess.Popen(first, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_for((out / ".writer.json").exists)
        for _ in range(2):  # while it makes its model, and while it trains
            message = refused(progloc(*COMMANDS[name], cwd=tmp_path))
            assert message.startswith(f"progloc: out is being written by process {process.pid} on ")
            wait_for(lambda: any(out.rglob(begun)))
        process.send_signal(signal.SIGKILL)
    ended = progloc(*COMMANDS[name], cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert not list(out.rglob(".writer*"))
    alone = progloc(*COMMANDS[name][:-1], "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    weights = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("model.safetensors")}
        for folder in (out, tmp_path / "alone")
    ]
    assert weights[0] == weights[1] != {}
