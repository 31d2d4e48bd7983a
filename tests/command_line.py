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


def progloc(*arguments: str, cwd: Path, stdin: str = "") -> Finished:
    """Run the command line in this process: starting one costs seconds of imports."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", ["progloc", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape"))))
        with pytest.raises(SystemExit) as caught:
            main()
    return Finished(int(caught.value.code or 0), out.getvalue(), err.getvalue())


def refused(result: Finished) -> str:
    """Return the one line a refused command ends with."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return result.stderr.strip().splitlines()[-1]
