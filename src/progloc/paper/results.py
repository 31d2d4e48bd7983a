"""A suite folder, read: the runs that are there, those that are missing, and `results.csv`.

DIR/suite.json                              what was planned
DIR/runs/<name>-seed<k>/result.json         one finished run
"""

from __future__ import annotations

__all__ = [
    "CSV_COLUMNS",
    "SUITE_FILE",
    "Figure",
    "MissingRun",
    "Run",
    "Suite",
    "csv_columns",
    "load_suite",
    "rows",
    "write_csv",
]

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from progloc.config import SCHEMA_VERSION, RunConfig
from progloc.errors import ProglocError
from progloc.files import read_json, write_text
from progloc.measures.definitions import BUILT_IN
from progloc.run_folder import RESULT_FILE, plain

if TYPE_CHECKING:
    import pandas as pd

SUITE_FILE = "suite.json"

_CHANCE = ("chance_entropy_bits", "chance_entropy_bits_no_sink", "chance_fidelity", "chance_fidelity_no_sink")
_EPOCH = ("epoch", "stage", "perplexity", "fidelity", "fidelity_no_sink")
_REPORT = ("perplexity", "layers", *BUILT_IN, *_CHANCE)
_REQUIRED = {
    "": (
        "name", "role", "seed", "beta", "lambdas", "config", "data", "environment", "before", "final", "epochs",
        "training",
    ),
    "config.locality": ("schedule", "blocks", "alpha"),
    "config.training": ("epochs", "max_grad_norm"),
    "before": _REPORT,
    "final": (*_REPORT, "weighted_penalty_nats"),
    "training": (
        "steps", "seconds", "kept_epoch", "mean_penalty_nats", "max_penalty_nats", "mean_penalty_nats_unweighted",
        "max_penalty_nats_unweighted", "gradient_norm_mean", "gradient_norm_max", "clipped_share",
    ),
}  # fmt: skip


def _number(value: Any) -> float:
    """JSON has no NaN: what could not be computed is null there, and NaN here."""
    return math.nan if value is None else float(value)


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
class Run:
    """One finished run, as its `result.json` tells it. Measures of L layers are in order from input to output."""

    name: str
    role: str
    seed: int
    beta: float | None
    lambdas: tuple[float, ...]
    """λ(ℓ), L numbers in [0, 1]."""
    config: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    before: Mapping[str, Any] = field(repr=False)
    """The measures before fine-tuning, on validation."""
    final: Mapping[str, Any] = field(repr=False)
    """The measures of the kept checkpoint, on validation."""
    epochs: tuple[Mapping[str, Any], ...] = field(repr=False)
    training: Mapping[str, Any] = field(repr=False)
    elsewhere: Mapping[str, Any] | None = field(repr=False, default=None)
    """The measures of the kept checkpoint on the second text, if there is one."""
    lambdas_course: tuple[Mapping[str, Any], ...] = field(repr=False, default=())
    """Where λ was learned: what it was at some steps, {"step", "lambdas"}."""

    def measure(self, name: str) -> float:
        """Return a measure of the kept checkpoint (method.md §3); NaN where it was undefined."""
        return _number(self.final[name])

    def by_layer(self, name: str) -> list[float]:
        """Return a measure of the kept checkpoint for each of the L layers."""
        return [_number(layer[name]) for layer in self.final["layers"]]

    def at_the_end(self, name: str) -> float:
        """Return a measure as the last evaluation found it, whichever checkpoint was kept."""
        return _number(self.epochs[-1][name])

    def trained(self, name: str) -> float:
        """Return a figure of the training itself, such as `gradient_norm_mean`."""
        return _number(self.training[name])

    @property
    def further_measures(self) -> list[str]:
        """The measures beyond progloc's own that were registered when it was measured."""
        return [name for name in self.final if f"chance_{name}" in self.final and name not in BUILT_IN]

    @property
    def alpha(self) -> float:
        """α, the penalty coefficient."""
        return float(self.config["locality"]["alpha"])

    @property
    def budget(self) -> int:
        """The epochs asked for; early stopping may have used fewer."""
        return int(self.config["training"]["epochs"])

    @property
    def schedule(self) -> str:
        """The schedule's name, or its numbers."""
        given = self.config["locality"]["schedule"]
        if isinstance(given, str):
            return given
        return " ".join(",".join(f"{head:g}" for head in row) if isinstance(row, list) else f"{row:g}" for row in given)

    @property
    def blocks(self) -> str:
        """The partitioner's name."""
        return str(self.config["locality"]["blocks"])

    @property
    def is_distributed(self) -> bool:
        """Whether λ is 0 in every layer."""
        return not any(self.lambdas)

    def same_but_for_locality(self, other: Run) -> bool:
        """Whether both had the same data, budget, seed and every other setting that is not the penalty's."""

        def rest(run: Run) -> dict[str, Any]:
            return {key: value for key, value in run.config.items() if key != "locality"}

        return self.seed == other.seed and self.data == other.data and rest(self) == rest(other)


Figure = Callable[[Run], float]
"""Anything that reads one number off a run."""


@dataclass(frozen=True)
class Suite:
    """Every run of a suite that is finished, in planned order, and those that are not."""

    folder: Path
    plan: Mapping[str, Any] = field(repr=False)
    runs: tuple[Run, ...]
    missing: tuple[MissingRun, ...]

    @cached_property
    def by_name(self) -> dict[str, dict[int, Run]]:
        """The finished runs by name, then by seed, in planned order."""
        grouped: dict[str, dict[int, Run]] = {planned["name"]: {} for planned in self.plan["runs"]}
        for run in self.runs:
            grouped[run.name][run.seed] = run
        return {name: runs for name, runs in grouped.items() if runs}

    @property
    def further_measures(self) -> list[str]:
        """The measures beyond progloc's own that every finished run has."""
        lists = [run.further_measures for run in self.runs]
        return [name for name in lists[0] if all(name in others for others in lists)] if lists else []

    @property
    def compared(self) -> list[Run]:
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

    def one(self, name: str) -> Run:
        """Return any run of that name: for what does not depend on the seed."""
        return next(iter(self.by_name[name].values()))

    def lambdas(self, name: str) -> list[float]:
        """Return λ(ℓ), (L,), of the runs of that name: the mean over seeds, which differ only where λ was learned."""
        return [fmean(values) for values in zip(*(run.lambdas for run in self.by_name[name].values()), strict=True)]

    def values(self, name: str, figure: Figure) -> dict[int, float]:
        """Return a figure of every finished run of that name, by seed; empty where there is none."""
        return {seed: figure(run) for seed, run in self.by_name.get(name, {}).items()}

    def baseline(self, run: Run) -> Run | None:
        """Return the λ=0 run of the same data, budget and seed, if it is finished."""
        same = (other for other in self.runs if other.is_distributed and run.same_but_for_locality(other))
        return next(same, None)

    def gap(self, run: Run) -> float | None:
        """Return perplexity ÷ that of the baseline (method.md §3); None where there is no baseline."""
        baseline = self.baseline(run)
        return None if baseline is None else run.measure("perplexity") / baseline.measure("perplexity")


def _check(mapping: Any, path: Path) -> None:
    for where, keys in _REQUIRED.items():
        inner = mapping
        for part in where.split(".") if where else ():
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        lacking = [key for key in keys if not isinstance(inner, Mapping) or key not in inner]
        if lacking:
            name = f"{where}.{lacking[0]}" if where else lacking[0]
            raise ProglocError(f"{path} has no '{name}'; expected a run's result: delete it and run the suite again")


def _with_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings, with those that came later than the run at what is now their default."""
    return {**defaults, **config} | {
        name: _with_defaults(config.get(name, {}), inner)
        for name, inner in defaults.items()
        if isinstance(inner, Mapping)
    }


def _read_run(path: Path, planned: MissingRun) -> Run:
    content = read_json(path)
    _check(content, path)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ProglocError(f"{path} has schema version {version}; this progloc reads {SCHEMA_VERSION}")
    if (content["name"], content["seed"]) != (planned.name, planned.seed):
        raise ProglocError(f"{path} holds {content['name']}, seed {content['seed']}; expected {planned.folder}")
    layers, lambdas = content["final"]["layers"], content["lambdas"]
    if not lambdas or len(layers) != len(lambdas) or any(key not in layer for layer in layers for key in BUILT_IN):
        raise ProglocError(
            f"{path} has {len(layers)} layers and {len(lambdas)} values of λ; expected every measure of each layer: "
            "delete it and run the suite again"
        )
    if any(key not in epoch for epoch in content["epochs"] for key in _EPOCH):
        raise ProglocError(f"{path} has an epoch without one of {', '.join(_EPOCH)}: delete it and run the suite again")
    return Run(
        name=content["name"],
        role=content["role"],
        seed=content["seed"],
        beta=content["beta"],
        lambdas=tuple(float(value) for value in lambdas),
        epochs=tuple(content["epochs"]),
        elsewhere=content.get("elsewhere"),
        lambdas_course=tuple(content.get("lambdas_course") or ()),
        config=_with_defaults(content["config"], plain(RunConfig())),
        **{key: content[key] for key in ("data", "environment", "before", "final", "training")},
    )


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
        path = folder / "runs" / run.folder / RESULT_FILE
        if path.is_file():
            runs.append(_read_run(path, run))
        else:
            missing.append(run)
    return Suite(folder, plan, tuple(runs), tuple(missing))


Column = Callable[[Suite, Run], object]
CSV_COLUMNS: dict[str, Column] = {
    "run": lambda suite, run: run.name,
    "schedule": lambda suite, run: run.schedule,
    "beta": lambda suite, run: run.beta,
    "blocks": lambda suite, run: run.blocks,
    "seed": lambda suite, run: run.seed,
    "perplexity": lambda suite, run: run.measure("perplexity"),
    "gap": lambda suite, run: suite.gap(run),
    "entropy_bits": lambda suite, run: run.measure("entropy_bits"),
    "fidelity": lambda suite, run: run.measure("fidelity"),
    "chance_fidelity": lambda suite, run: run.measure("chance_fidelity"),
    "penalty_nats": lambda suite, run: run.measure("penalty_nats"),
    "sink_mass": lambda suite, run: run.measure("sink_mass"),
    "fidelity_no_sink": lambda suite, run: run.measure("fidelity_no_sink"),
    "entropy_bits_no_sink": lambda suite, run: run.measure("entropy_bits_no_sink"),
    "last_layer_fidelity": lambda suite, run: run.by_layer("fidelity")[-1],
    "last_layer_fidelity_no_sink": lambda suite, run: run.by_layer("fidelity_no_sink")[-1],
    "last_layer_entropy_bits": lambda suite, run: run.by_layer("entropy_bits")[-1],
    "steps": lambda suite, run: run.training["steps"],
    "seconds": lambda suite, run: run.training["seconds"],
    "alpha": lambda suite, run: run.alpha,
    "epochs": lambda suite, run: run.budget,
    "chance_fidelity_no_sink": lambda suite, run: run.measure("chance_fidelity_no_sink"),
    "weighted_penalty_nats": lambda suite, run: run.measure("weighted_penalty_nats"),
    "kept_epoch": lambda suite, run: run.training["kept_epoch"],
}
"""The columns of `results.csv`, in order: the promised nineteen, then five more. Empty cells are what has no value."""


def csv_columns(suite: Suite) -> dict[str, Column]:
    """Return the columns of a suite's `results.csv`: `CSV_COLUMNS`, and every further measure with its chance level."""

    def reading(name: str) -> Column:
        return lambda suite, run: run.measure(name)

    further = (name for measure in suite.further_measures for name in (measure, f"chance_{measure}"))
    return CSV_COLUMNS | {name: reading(name) for name in further}


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
