"""What a benchmark found: every single timing, and the ratios made from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progloc.config import from_mapping
from progloc.errors import ProglocError
from progloc.files import read_mapping
from step_timing.settings import Settings
from step_timing.variants import Shape

BENCHMARK_FILE = "benchmark.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Spread:
    """The median of some values and their quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of at least one value."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high))


@dataclass(frozen=True)
class Timing:
    """One variant at one shape."""

    variant: str
    length: int
    batch: int
    seconds: tuple[float, ...]
    """Of each repeat, in order; none where it was not run."""
    peak_bytes: int | None
    """The most memory a step held, the weights included; None where it cannot be measured."""
    skipped: str = ""
    """Why it was not run."""

    @property
    def shape(self) -> Shape:
        """The batch."""
        return Shape(self.length, self.batch)


@dataclass(frozen=True)
class Benchmark:
    """One run."""

    command: str
    environment: dict[str, Any]
    settings: Settings
    timings: tuple[Timing, ...]

    def timing(self, shape: Shape, variant: str) -> Timing | None:
        """Return what was timed; None where it was skipped or not asked for."""
        found = [t for t in self.timings if (t.shape, t.variant) == (shape, variant) and t.seconds]
        return found[0] if found else None

    def ratios(self, shape: Shape, variant: str, other: str) -> list[float]:
        """Return a variant's seconds over another's of the same repeat; none where one of them was not timed."""
        pair = self.timing(shape, variant), self.timing(shape, other)
        if pair[0] is None or pair[1] is None:
            return []
        return [one / two for one, two in zip(pair[0].seconds, pair[1].seconds, strict=True)]

    def memory_ratio(self, shape: Shape, variant: str, other: str) -> float | None:
        """Return a variant's peak memory over another's."""
        peaks = [timing.peak_bytes if (timing := self.timing(shape, name)) else None for name in (variant, other)]
        return peaks[0] / peaks[1] if peaks[0] is not None and peaks[1] else None

    def to_dict(self) -> dict[str, Any]:
        """Return what `benchmark.json` holds."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}


def read_benchmark(path: Path) -> Benchmark:
    """Read a `benchmark.json`; raises ProglocError where it is none."""
    if not path.is_file():
        raise ProglocError(f"no {path.name} in {path.parent}; run python benchmarks/step_cost.py --out {path.parent}")
    found = read_mapping(path)
    try:
        if (version := found["schema_version"]) != SCHEMA_VERSION:
            raise ProglocError(f"{path} has schema version {version!r}; this progloc reads {SCHEMA_VERSION}")
        timings = tuple(from_mapping(Timing, timing, "timings") for timing in found["timings"])
        settings = from_mapping(Settings, found["settings"], "settings")
        return Benchmark(found["command"], found["environment"], settings, timings)
    except KeyError as error:
        raise ProglocError(f"{path} has no {error}; expected a file that benchmarks/step_cost.py wrote") from error
