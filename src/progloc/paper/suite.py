"""A suite folder, read: the runs that are there, those that are missing, and `results.csv`.

DIR/suite.json                              what was planned
DIR/runs/<name>-seed<k>/result.json         one finished run
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from progloc.errors import ProglocError
from progloc.files import read_json, write_text
from progloc.results import RunResult
from progloc.run_folder import RESULT_FILE, finished

if TYPE_CHECKING:
    import pandas as pd

SUITE_FILE = "suite.json"

Figure = Callable[[RunResult], float]
"""Anything that reads one number off a run."""


@dataclass(frozen=True)
class MissingRun:
    """A run that the plan asks for and that is not finished; for its role see `PlannedRun`."""

    name: str
    seed: int
    role: str

    @property
    def folder(self) -> str:
        """The run's folder within `runs/`."""
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True)
class Suite:
    """Every run of a suite that is finished, in planned order, and those that are not."""

    folder: Path
    plan: Mapping[str, Any] = field(repr=False)
    runs: tuple[RunResult, ...]
    missing: tuple[MissingRun, ...]

    @cached_property
    def by_name(self) -> dict[str, dict[int, RunResult]]:
        """The finished runs by name, then by seed, in planned order."""
        grouped: dict[str, dict[int, RunResult]] = {planned["name"]: {} for planned in self.plan["runs"]}
        for run in self.runs:
            grouped[run.name][run.seed] = run
        return {name: runs for name, runs in grouped.items() if runs}

    @property
    def further_measures(self) -> list[str]:
        """The measures beyond progloc's own that every finished run has."""
        lists = [run.further_measures for run in self.runs]
        return [name for name in lists[0] if all(name in others for others in lists)] if lists else []

    @property
    def compared(self) -> list[RunResult]:
        """The runs of one penalty and one budget, whatever their partitioner."""
        return [run for run in self.runs if run.role in ("architecture", "partitioner")]

    @property
    def partitioners(self) -> list[str]:
        """The names of the partitioners of the compared runs, in planned order."""
        return list(dict.fromkeys(run.blocks for run in self.compared))

    @property
    def architectures(self) -> list[str]:
        """The names of the architectures with the suite's first partitioner of which at least one run is finished."""
        return [name for name, runs in self.by_name.items() if next(iter(runs.values())).role == "architecture"]

    @property
    def localised(self) -> list[str]:
        """The architectures with any λ above 0."""
        return [name for name in self.architectures if not self.one(name).is_distributed]

    @property
    def distributed(self) -> str | None:
        """The name of the architecture with λ = 0, if any of its runs is finished."""
        return next((name for name in self.architectures if self.one(name).is_distributed), None)

    def to_frame(self) -> pd.DataFrame:
        """Return `results.csv` as a table: a row for each finished run."""
        import pandas as pd

        return pd.DataFrame(rows(self), columns=list(csv_columns(self)))

    def one(self, name: str) -> RunResult:
        """Return any run of that name: for what does not depend on the seed."""
        return next(iter(self.by_name[name].values()))

    def lambdas(self, name: str) -> list[float]:
        """Return λ(ℓ), (L,), of the runs of that name: the mean over seeds, which differ only where λ was learned."""
        return [fmean(values) for values in zip(*(run.lambdas for run in self.by_name[name].values()), strict=True)]

    def values(self, name: str, figure: Figure) -> dict[int, float]:
        """Return a figure of every finished run of that name, by seed; empty where there is none."""
        return {seed: figure(run) for seed, run in self.by_name.get(name, {}).items()}

    def baseline(self, run: RunResult) -> RunResult | None:
        """Return the λ=0 run of the same data, budget and seed, if it is finished."""
        same = (other for other in self.runs if other.is_distributed and run.same_but_for_locality(other))
        return next(same, None)

    def gap(self, run: RunResult) -> float | None:
        """Return perplexity ÷ that of the baseline (method.md §3); None where there is no baseline."""
        baseline = self.baseline(run)
        return None if baseline is None else run.measure("perplexity") / baseline.measure("perplexity")


def load_suite(folder: Path) -> Suite:
    """Read a suite's folder. Runs that are not finished are listed in `missing`, in planned order.

    Raises:
        ProglocError: the folder holds no suite, or one of its files is damaged; the message names the file.
    """
    plan_file = folder / SUITE_FILE
    if not plan_file.is_file():
        raise ProglocError(f"{folder} is no suite: it has no suite.json; give a folder that 'progloc reproduce' wrote")
    plan = read_json(plan_file)
    try:
        planned = [MissingRun(str(run["name"]), int(run["seed"]), str(run["role"])) for run in plan["runs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ProglocError(
            f"{plan_file} is damaged ({error!r}); expected the plan that 'progloc reproduce' wrote"
        ) from error
    runs, missing = [], []
    for run in planned:
        run_folder = folder / "runs" / run.folder
        if not finished(run_folder):
            missing.append(run)
            continue
        result = RunResult.read(run_folder)
        if (result.name, result.seed) != (run.name, run.seed):
            path = run_folder / RESULT_FILE
            raise ProglocError(f"{path} holds {result.name}, seed {result.seed}; expected {run.folder}")
        runs.append(result)
    return Suite(folder, plan, tuple(runs), tuple(missing))


Column = Callable[[Suite, RunResult], object]


def _measures(*names: str) -> dict[str, Column]:
    return {name: lambda suite, run, name=name: run.measure(name) for name in names}  # type: ignore[misc]


CSV_COLUMNS: dict[str, Column] = {
    "run": lambda suite, run: run.name,
    "schedule": lambda suite, run: run.schedule,
    "beta": lambda suite, run: run.beta,
    "blocks": lambda suite, run: run.blocks,
    "seed": lambda suite, run: run.seed,
    **_measures("perplexity"),
    "gap": lambda suite, run: suite.gap(run),
    **_measures("entropy_bits", "fidelity", "chance_fidelity", "penalty_nats", "sink_mass"),
    **_measures("fidelity_no_sink", "entropy_bits_no_sink"),
    "last_layer_fidelity": lambda suite, run: run.by_layer("fidelity")[-1],
    "last_layer_fidelity_no_sink": lambda suite, run: run.by_layer("fidelity_no_sink")[-1],
    "last_layer_entropy_bits": lambda suite, run: run.by_layer("entropy_bits")[-1],
    "steps": lambda suite, run: run.training["steps"],
    "seconds": lambda suite, run: run.training["seconds"],
    "alpha": lambda suite, run: run.alpha,
    "epochs": lambda suite, run: run.budget,
    **_measures("chance_fidelity_no_sink", "weighted_penalty_nats"),
    "kept_epoch": lambda suite, run: run.training["kept_epoch"],
}
"""The columns of `results.csv`, in order: the promised nineteen, then five more. Empty cells are what has no value."""


def csv_columns(suite: Suite) -> dict[str, Column]:
    """Return the columns of a suite's `results.csv`: `CSV_COLUMNS`, and every further measure with its chance level."""
    further = suite.further_measures
    return CSV_COLUMNS | _measures(*(prefix + name for name in further for prefix in ("", "chance_")))


def rows(suite: Suite) -> list[dict[str, object]]:
    """Return one row a finished run, with the columns of `csv_columns`; None where there is no value."""

    def defined(value: object) -> object:
        return None if isinstance(value, float) and math.isnan(value) else value

    columns = csv_columns(suite)
    return [{name: defined(column(suite, run)) for name, column in columns.items()} for run in suite.runs]


def write_csv(suite: Suite, path: Path) -> None:
    """Write `rows` as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, csv_columns(suite), lineterminator="\n")
    table.writeheader()
    table.writerows(rows(suite))
    write_text(path, text.getvalue())
