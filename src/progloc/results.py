"""The result of one training run: what `training` writes to `result.json`, and every table, figure and claim reads.

JSON has no NaN: a measure that could not be computed is null in the file and NaN here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from progloc.config import SCHEMA_VERSION, RunConfig
from progloc.errors import ProglocError
from progloc.files import JsonObject, read_json, write_json
from progloc.measures.definitions import BUILT_IN
from progloc.run_folder import RESULT_FILE, plain


class _Optional(TypedDict, total=False):
    planned_steps: int
    stopped_early: bool
    kept_step: int
    penalty_nats_by_layer: list[float] | None


class TrainingSummary(_Optional):
    """What happened in training (Table 4): penalties in nats, gradient norms before clipping."""

    steps: int
    seconds: float
    kept_epoch: float
    mean_penalty_nats: float
    max_penalty_nats: float
    mean_penalty_nats_unweighted: float | None
    max_penalty_nats_unweighted: float | None
    gradient_norm_mean: float
    gradient_norm_max: float
    clipped_share: float


class GoalOutcome(TypedDict):
    """What α was adapted to ("budget" or "fidelity"), the value asked for and reached, and whether that holds.

    "layers": no α, but the most layers in which sources can be kept apart within a budget, and what that costs.
    """

    goal: str
    asked: float
    found: float
    held: bool
    layers: NotRequired[int]


_CHANCE = ("chance_entropy_bits", "chance_entropy_bits_no_sink", "chance_fidelity", "chance_fidelity_no_sink")
_REPORT = ("perplexity", "layers", *BUILT_IN, *_CHANCE)
_EPOCH = ("epoch", "stage", "perplexity", "fidelity", "fidelity_no_sink")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One finished run; its fields are the keys of `result.json`. Lists over L layers go from input to output."""

    name: str
    role: str
    """See `progloc.paper.plan.PlannedRun`; "reference" is the run without a penalty that a budget is relative to."""
    config: JsonObject = field(repr=False)
    data: JsonObject = field(repr=False)
    seed: int
    beta: float | None
    lambdas: tuple[float, ...]
    """λ(ℓ), L numbers in [0, 1]."""
    head_lambdas: tuple[tuple[float, ...], ...] | None = field(repr=False, default=None)
    """λ(ℓ, h), (L, H); None where heads do not differ."""
    lambdas_course: tuple[JsonObject, ...] = field(repr=False, default=())
    """Where λ was learned: its values at some of the steps, {"step", "lambdas"}."""
    environment: JsonObject = field(repr=False)
    before: JsonObject = field(repr=False)
    """The measures before fine-tuning, on validation: `measures.Report.to_dict`."""
    final: JsonObject = field(repr=False)
    """The measures of the kept checkpoint, on validation."""
    elsewhere: JsonObject | None = field(repr=False, default=None)
    """The measures of the kept checkpoint on the second text, if there is one."""
    isolation_off: JsonObject | None = field(repr=False, default=None)
    """Where it was trained with isolation: the measures of the kept checkpoint without, on validation."""
    epochs: tuple[JsonObject, ...] = field(repr=False)
    """The evaluations during training."""
    training: TrainingSummary = field(repr=False)
    goal: GoalOutcome | None = field(repr=False, default=None)
    measured_from: str | None = field(repr=False, default=None)
    """The folder of the run whose model was measured on other blocks, instead of training one."""

    @classmethod
    def read(cls, folder: Path) -> RunResult:
        """Read the `result.json` of a finished run's folder; settings newer than the run have their default.

        Raises:
            ProglocError: the file is damaged or of another schema version; the message names it.
        """
        path = folder / RESULT_FILE
        content = read_json(path)
        _check(content, path)
        heads = content.get("head_lambdas")
        return cls(
            **{field.name: content[field.name] for field in fields(cls) if field.name in content}
            | {
                "config": _with_defaults(content["config"], plain(RunConfig())),
                "lambdas": tuple(map(float, content["lambdas"])),
                "head_lambdas": None if heads is None else tuple(map(tuple, heads)),
                "lambdas_course": tuple(content.get("lambdas_course") or ()),
                "epochs": tuple(content["epochs"]),
            }
        )

    def to_dict(self) -> JsonObject:
        """Return what `result.json` holds."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["lambdas_course"] = self.lambdas_course or None
        for name in ("measured_from", "isolation_off"):  # most runs have neither
            if content[name] is None:
                del content[name]
        return {"schema_version": SCHEMA_VERSION, **content}

    def write(self, folder: Path) -> None:
        """Write `result.json`, which makes the run a finished one."""
        write_json(folder / RESULT_FILE, self.to_dict())

    def measure(self, name: str) -> float:
        """Return a measure of the kept checkpoint (method.md §3)."""
        return _number(self.final[name])

    def measure_elsewhere(self, name: str) -> float:
        """Return a measure on the second text; NaN where there is none."""
        return math.nan if self.elsewhere is None else _number(self.elsewhere[name])

    def by_layer(self, name: str) -> list[float]:
        """Return a measure of the kept checkpoint for each of the L layers."""
        return [_number(layer[name]) for layer in self.final["layers"]]

    def at_the_end(self, name: str) -> float:
        """Return a measure of the last evaluation, whichever checkpoint was kept."""
        return _number(self.epochs[-1][name])

    def trained(self, name: str) -> float:
        """Return a figure of the training itself, such as `gradient_norm_mean`."""
        return _number(self.training[name])  # type: ignore[literal-required]

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
        schedule = self.config["locality"]["schedule"]
        if isinstance(schedule, str):
            return schedule
        rows = (row if isinstance(row, list) else [row] for row in schedule)
        return " ".join(",".join(f"{value:g}" for value in row) for row in rows)

    @property
    def blocks(self) -> str:
        """The partitioner's name."""
        return str(self.config["locality"]["blocks"])

    @property
    def is_distributed(self) -> bool:
        """Whether λ is 0 in every layer."""
        return not any(self.lambdas)

    def same_but_for_locality(self, run: RunResult) -> bool:
        """Whether both had the same data, budget, seed and every other setting that is not the penalty's."""
        configs = [{**result.config, "locality": None} for result in (self, run)]
        return self.seed == run.seed and self.data == run.data and configs[0] == configs[1]


_REQUIRED = {
    "": tuple(field.name for field in fields(RunResult) if field.default is MISSING),
    "config.locality": ("schedule", "blocks", "alpha"),
    "config.training": ("epochs", "max_grad_norm"),
    "before": _REPORT,
    "final": (*_REPORT, "weighted_penalty_nats"),
    "training": tuple(sorted(TrainingSummary.__required_keys__)),
}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _check(content: Any, path: Path) -> None:
    advice = "delete it and run the suite again"
    for place, keys in _REQUIRED.items():
        inner = content
        for part in place.split(".") if place else ():
            inner = inner.get(part) if isinstance(inner, Mapping) else None
        lacking = [key for key in keys if not isinstance(inner, Mapping) or key not in inner]
        if lacking:
            name = f"{place}.{lacking[0]}" if place else lacking[0]
            raise ProglocError(f"{path} has no '{name}'; expected a run's result: {advice}")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ProglocError(f"{path} has schema version {version}; this progloc reads {SCHEMA_VERSION}")
    layers, lambdas = content["final"]["layers"], content["lambdas"]
    if not lambdas or len(layers) != len(lambdas) or any(key not in layer for layer in layers for key in BUILT_IN):
        raise ProglocError(
            f"{path} has {len(layers)} layers and {len(lambdas)} values of λ; expected every measure of each layer: "
            + advice
        )
    if any(key not in epoch for epoch in content["epochs"] for key in _EPOCH):
        raise ProglocError(f"{path} has an epoch without one of {', '.join(_EPOCH)}: {advice}")


def _with_defaults(config: JsonObject, defaults: JsonObject) -> JsonObject:
    return {**defaults, **config} | {
        name: _with_defaults(config.get(name, {}), inner) for name, inner in defaults.items() if isinstance(inner, dict)
    }
