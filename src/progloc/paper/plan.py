"""From a preset to the list of runs it stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from progloc.blocks import is_fixed
from progloc.config import LocalityConfig, RunConfig, from_mapping, read_config
from progloc.errors import ProglocError, suggest

_PRESETS = files("progloc.paper") / "presets"


@dataclass(frozen=True)
class Optimisation:
    """Table 2: one schedule at every α and every number of epochs."""

    schedule: str
    alphas: tuple[float, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Preset:
    """A suite, as its YAML file says it."""

    seeds: int
    """How many seeds, counted from 0."""
    base: RunConfig
    """What every run has in common."""
    architectures: tuple[str, ...]
    """The schedules compared, each a row of Table 1."""
    optimisation: Optimisation | None = None
    partitioners: tuple[str, ...] = ()
    """Partitioners beside base's, each with every one of the architectures."""
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes to the penalty by name, as `weak: {alpha: 0.01}`, each with every one of the localised architectures."""
    size_controls: bool = False
    """Beside every partitioner that is not fixed, the fixed one that holds as much attention by chance on the training
    text, which has to be read for it: see `progloc.paper.controls`."""

    def __post_init__(self) -> None:
        if not self.architectures:
            raise ProglocError("a suite's 'architectures' is empty; expected at least one schedule")
        all_blocks = (self.base.locality.blocks, *self.partitioners)
        for blocks in all_blocks:
            if all_blocks.count(blocks) > 1:
                raise ProglocError(
                    f"a suite's 'partitioners' has '{blocks}' twice, or it is base's own; expected others, each once"
                )
        for name, changes in self.variants.items():
            if Path(name).name != name:
                raise ProglocError(f"a suite's variant is called '{name}'; expected a name that a folder can have")
            if not changes or {"schedule", "blocks"} & changes.keys():
                raise ProglocError(
                    f"a suite's variant '{name}' changes {', '.join(changes) or 'nothing'}; expected settings of the "
                    "penalty: what else is compared are 'architectures' and 'partitioners'"
                )


@dataclass(frozen=True)
class PlannedRun:
    """One run to make."""

    name: str
    role: str
    """"architecture", "partitioner" for the same on other blocks, "variant" for another penalty, or "optimisation" for
    the other cells of Table 2."""
    config: RunConfig
    measures: str | None = None
    """The folder, in `runs/`, of the run whose model it measures on its own blocks, instead of training one."""

    @property
    def folder(self) -> str:
        """Its folder's name, within `runs/`."""
        return f"{self.name}-seed{self.config.training.seed}"


@dataclass(frozen=True)
class Plan:
    """A suite's runs in the order they are made: seed by seed, so that stopping early leaves whole comparisons."""

    suite: str
    base: RunConfig
    runs: tuple[PlannedRun, ...] = field(repr=False)
    uncontrolled: tuple[str, ...] = ()
    """The partitioners that are still to have a fixed one of their size beside them."""

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({run.config.training.seed for run in self.runs})

    def with_controls(self, partitioners: Iterable[str]) -> Plan:
        """Return the plan with these as controls, each with every one of the architectures, seed by seed."""
        schedules = tuple(dict.fromkeys(run.name for run in self.runs if run.role == "architecture"))
        runs: list[PlannedRun] = []
        for seed in self.seeds:
            runs += [run for run in self.runs if run.config.training.seed == seed]
            for blocks in partitioners:
                runs += _on_other_blocks(self.base, schedules, blocks, seed)
        return Plan(self.suite, self.base, tuple(runs))


def preset_names() -> list[str]:
    """Return the suites that come with progloc."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def read_preset(name: str) -> tuple[str, Preset]:
    """Return a suite's short name and its preset, from a name or the path of a YAML file of the same form.

    Raises:
        ProglocError: an unknown name (the known ones are listed), or a file that is no suite.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path.stem, from_mapping(Preset, read_config(path))
    if name not in preset_names():
        raise ProglocError(f"unknown suite '{name}'; {suggest(name, preset_names())}, or a file NAME.yaml")
    return name, from_mapping(Preset, yaml.safe_load((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8")))


def _vary(base: RunConfig, seed: int, *, epochs: int | None = None, **locality: Any) -> RunConfig:
    """Return the suite's base with another seed, perhaps other epochs, and other settings of locality."""
    training = dataclasses.replace(base.training, seed=seed, epochs=epochs or base.training.epochs)
    return dataclasses.replace(base, locality=dataclasses.replace(base.locality, **locality), training=training)


def plan(
    suite: str, preset: Preset, overrides: Mapping[str, Any] | None = None, seeds: int | range | None = None
) -> Plan:
    """Return the runs of a suite.

    Args:
        suite: its name.
        preset: what it holds.
        overrides: fields of RunConfig to change in every run, such as ``model`` and ``corpus``.
        seeds: how many seeds, from 0 on, or which ones, instead of the preset's.
    """
    seeds = preset.seeds if seeds is None else seeds
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    if not chosen or chosen[0] < 0:
        raise ProglocError(f"--seeds {seeds}; expected a whole number ≥ 1, or FIRST:END, as in 2:3 for seed 2 alone")
    base = dataclasses.replace(preset.base, **(overrides or {}))
    runs = []
    for seed in chosen:
        for schedule in preset.architectures:
            runs.append(PlannedRun(schedule, "architecture", _vary(base, seed, schedule=schedule)))
        for blocks in preset.partitioners:
            runs += _on_other_blocks(base, preset.architectures, blocks, seed)
        for name, changes in preset.variants.items():
            runs += _with_another_penalty(base, preset.architectures, name, changes, seed)
        if preset.optimisation is not None:
            runs += _other_cells(base, preset.optimisation, seed)
    semantic = (blocks for blocks in (base.locality.blocks, *preset.partitioners) if not is_fixed(blocks))
    return Plan(suite, base, tuple(runs), tuple(semantic) if preset.size_controls else ())


def _on_other_blocks(base: RunConfig, architectures: tuple[str, ...], blocks: str, seed: int) -> list[PlannedRun]:
    """Return the architectures on other blocks. At λ=0 blocks change only what is measured, so that run is shared."""
    return [
        PlannedRun(
            f"{schedule}-{blocks}",
            "partitioner",
            _vary(base, seed, schedule=schedule, blocks=blocks),
            measures=f"{schedule}-seed{seed}" if schedule == "distributed" else None,
        )
        for schedule in architectures
    ]


def _with_another_penalty(
    base: RunConfig, architectures: tuple[str, ...], variant: str, changes: Mapping[str, Any], seed: int
) -> list[PlannedRun]:
    """Return the localised architectures with another penalty. At λ=0 there is none to change."""
    settings = {**dataclasses.asdict(base.locality), **changes}
    varied = dataclasses.replace(base, locality=from_mapping(LocalityConfig, settings, f"variants.{variant}"))
    return [
        PlannedRun(f"{schedule}-{variant}", "variant", _vary(varied, seed, schedule=schedule))
        for schedule in architectures
        if schedule != "distributed"
    ]


def _other_cells(base: RunConfig, cells: Optimisation, seed: int) -> list[PlannedRun]:
    """Return Table 2's cells that are not architectures already, each length with its own λ=0 run to compare to."""
    runs = []
    for epochs in cells.epochs:
        if epochs != base.training.epochs:
            config = _vary(base, seed, epochs=epochs, schedule="distributed")
            runs.append(PlannedRun(f"distributed-epochs{epochs}", "optimisation", config))
        for alpha in cells.alphas:
            if (alpha, epochs) != (base.locality.alpha, base.training.epochs):
                config = _vary(base, seed, epochs=epochs, schedule=cells.schedule, alpha=alpha)
                runs.append(PlannedRun(f"{cells.schedule}-alpha{alpha:g}-epochs{epochs}", "optimisation", config))
    return runs
