"""The command line as a user has it, and what comes back."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from progloc.cli import main


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


def progloc(*arguments: str, cwd: Path, stdin: str = "", encoding: str = "utf-8") -> Finished:
    """Run the command line in this process: starting one costs seconds of imports.

    Args:
        arguments: after `progloc`.
        cwd: where.
        stdin: what is piped in, as UTF-8.
        encoding: of standard output and error, which are pipes.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", ["progloc", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape"))))
        with pytest.raises(SystemExit) as caught:
            main()
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    return Finished(int(caught.value.code or 0), *texts)


def refused(result: Finished) -> str:
    """Return the one line a refused command ends with."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return result.stderr.strip().splitlines()[-1]
