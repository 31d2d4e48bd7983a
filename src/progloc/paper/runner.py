"""Makes a plan's runs, one after another, and shows how they stand. A finished run is never made again."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from progloc.config import SCHEMA_VERSION, RunConfig
from progloc.files import read_mapping, write_json
from progloc.measures.measuring import measure
from progloc.paper.controls import Control, size_control
from progloc.paper.live import Standing
from progloc.paper.plan import Plan, PlannedRun
from progloc.paper.suite import SUITE_FILE
from progloc.run_folder import check_folder, claimed, finished, plain
from progloc.training.inputs import Inputs, gather, open_model
from progloc.training.run import estimate_seconds, remeasure_run, train_run

BASE_FILE = "base.json"


def _fixed(plan: Plan) -> dict[str, Any]:
    """Return what a suite's folder is for; only runs may be added to it."""
    return {"schema_version": SCHEMA_VERSION, "suite": plan.suite, "base": plain(plan.base)}


def _describe(plan: Plan, out: Path, inputs: Inputs, controls: list[Control], command: str) -> None:
    """Write suite.json; one that is there keeps the runs it lists, and the controls where there are no new ones."""
    fixed = {**_fixed(plan), "data": inputs.summary()}
    check_folder(out, SUITE_FILE, fixed)
    path = out / SUITE_FILE
    runs = [{"name": run.name, "seed": run.config.training.seed, "role": run.role} for run in plan.runs]
    earlier = read_mapping(path) if path.exists() else {}
    runs = [run for run in earlier.get("runs", []) if run not in runs] + runs
    write_json(
        path,
        {
            **fixed,
            "model": plan.base.model,
            "corpus": plan.base.corpus,
            "blocks": plan.base.locality.blocks,
            "select": plan.base.training.select,
            "seeds": sorted({run["seed"] for run in runs}),
            "controls": [dataclasses.asdict(each) for each in controls] or earlier.get("controls", []),
            "runs": runs,
            "command": command,
        },
    )


def _on_blocks(plan: Plan, blocks: str) -> RunConfig:
    return dataclasses.replace(plan.base, locality=dataclasses.replace(plan.base.locality, blocks=blocks))


def _gather(plan: Plan, console: Console) -> dict[str, Inputs]:
    """Return the inputs of the runs by partitioner, the base's first; notes are shown for that one alone."""
    first = plan.base.locality.blocks
    base = gather(plan.base, console)
    others = dict.fromkeys(run.config.locality.blocks for run in plan.runs if run.config.locality.blocks != first)
    return {first: base, **{blocks: gather(_on_blocks(plan, blocks)) for blocks in others}}


def _with_controls(plan: Plan, inputs: dict[str, Inputs], console: Console) -> tuple[Plan, list[Control]]:
    """Return the plan with a fixed partitioner of the size of each that asks for one, whose inputs are added."""
    sized = [size_control(blocks, inputs[blocks].train) for blocks in plan.uncontrolled]
    controls = [each for each in sized if each is not None]
    for each in controls:
        console.print(
            f"{each.control} stands beside {each.blocks}: of uniform attention off the sink "
            f"{each.control_chance_fidelity_no_sink:.3f} is in its blocks, and {each.chance_fidelity_no_sink:.3f}",
            style="dim", soft_wrap=True,
        )  # fmt: skip
    new = [blocks for blocks in dict.fromkeys(each.control for each in controls) if blocks not in inputs]
    inputs |= {blocks: gather(_on_blocks(plan, blocks)) for blocks in new}
    return plan.with_controls(new), controls


def _measure_base(plan: Plan, out: Path, blocks: str, inputs: Inputs) -> dict[str, Any]:
    """Return the untrained model's measures and the seconds they took; once a suite and partitioner."""
    path = out / (BASE_FILE if blocks == plan.base.locality.blocks else f"base-{blocks}.json")
    if not path.exists():
        model = open_model(inputs, _on_blocks(plan, blocks))
        started = time.monotonic()
        report = measure(model, inputs.validation, batch_size=plan.base.training.batch_size).to_dict()
        write_json(path, {"seconds": time.monotonic() - started, "report": report})
    return read_mapping(path)


def run_suite(plan: Plan, out: Path, console: Console, command: str) -> None:
    """Make every run of ``plan`` that is not finished in ``out``.

    Args:
        plan: the runs.
        out: the suite's folder: `suite.json`, one `base*.json` a partitioner and one folder a run in `runs/`.
        console: where progress is shown.
        command: what the user ran, for the record.

    Raises:
        ProglocError: the folder holds another suite, another process writes it, or the model, corpus or disk cannot be
            used.
    """
    with claimed(out, SUITE_FILE, _fixed(plan)):  # before the minutes that a model may take to make
        _run(plan, out, console, command)


def _run(plan: Plan, out: Path, console: Console, command: str) -> None:
    """Do what `run_suite` does, in a folder that is this suite's alone."""
    inputs = _gather(plan, console)
    plan, controls = _with_controls(plan, inputs, console)
    _describe(plan, out, inputs[plan.base.locality.blocks], controls, command)
    base = {blocks: _measure_base(plan, out, blocks, each) for blocks, each in inputs.items()}
    folder_of = {run.folder: out / "runs" / run.folder for run in plan.runs}

    def estimate(run: PlannedRun) -> float:
        seconds = float(base[run.config.locality.blocks]["seconds"])
        if run.measures is not None:
            return seconds
        return estimate_seconds(run.config, inputs[run.config.locality.blocks], seconds)

    estimates = {run.folder: estimate(run) for run in plan.runs}
    standing = Standing(plan, estimates)
    to_do = [run for run in plan.runs if not finished(folder_of[run.folder])]
    console.print(
        f"{len(plan.runs)} runs, {len(plan.runs) - len(to_do)} finished before; "
        f"about {sum(estimates[run.folder] for run in to_do) / 60:.1f} min to go · results in {out}",
        soft_wrap=True,
    )

    def make(run: PlannedRun, live: Live | None) -> None:
        def heard(step: int, steps: int, logs: dict[str, Any]) -> None:
            standing.hear(run, step, steps, logs)
            if live is not None:
                live.update(standing.table())

        standing.begin(run)
        blocks, folder = run.config.locality.blocks, folder_of[run.folder]
        about = {"name": run.name, "role": run.role, "before": base[blocks]["report"]}
        if run.measures is None:
            result = train_run(run.config, folder, inputs[blocks], heard=heard, **about)
        else:
            trained = folder_of[run.measures]
            result = remeasure_run(run.config, folder, inputs[blocks], trained=trained, **about)
        standing.finish(run, result)
        if live is None:
            console.print(standing.line(run), soft_wrap=True)
        else:
            live.update(standing.table())

    if not console.is_terminal:
        for run in plan.runs:
            make(run, None)
        return
    with Live(standing.table(), console=console, refresh_per_second=4) as live:
        for run in plan.runs:
            make(run, live)
