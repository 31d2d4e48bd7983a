"""Constraints for pip by which everything is the lowest version that pyproject.toml allows (`make test-lowest`).

torch is the one in constraints.txt: an older one is to be had from PyPI for Linux only with gigabytes of CUDA.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("app", "adapters")
"""Those that the tests take, beside `dev`, whose own are tools and may be new."""


def lowest_versions() -> dict[str, str]:
    """Return the lowest version of each requirement, by the name it has in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum((project["optional-dependencies"][extra] for extra in EXTRAS), project["dependencies"])
    lowest = dict(re.fullmatch(r"([\w-]+)>=([\w.]+),<[\w.]+", requirement).groups() for requirement in wanted)  # type: ignore[union-attr]
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return {**lowest, "torch": pinned[1]}  # type: ignore[index]


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest_versions().items()))
