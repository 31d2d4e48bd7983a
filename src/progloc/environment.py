"""Where a result comes from: versions, machine, and the state of the code."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

KERNELS = ("triton", "liger-kernel")
"""Packages that bring kernels, where they are installed."""
NOT_INSTALLED = "not installed"


def version(package: str = "progloc") -> str:
    """Return an installed package's version, or "not installed"."""
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _git_state() -> dict[str, str | bool] | None:
    """Return the commit and whether there were uncommitted changes, where progloc runs from its own checkout."""
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(source), *arguments], check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        # an installation inside somebody else's repository must not report theirs
        if Path(git("rev-parse", "--show-toplevel")) / "src" / "progloc" != source:
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def describe_environment() -> dict[str, object]:
    """Return versions, machine, device, git state and the time (UTC), as plain values."""
    import torch  # `version` needs none

    cuda = torch.cuda.is_available()
    packages = ("progloc", "torch", "transformers", "datasets", "numpy", *KERNELS)
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".rstrip(", "),
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({platform.processor() or platform.machine()})",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
