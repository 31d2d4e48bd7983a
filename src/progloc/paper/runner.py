"""Makes a plan's runs, one after another, and shows how they stand. A finished run is never made again."""

from __future__ import annotations

import dataclasses
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from progloc.config import SCHEMA_VERSION, RunConfig
from progloc.files import read_mapping, write_json
from progloc.measures.definitions import look, measures
from progloc.paper.controls import Control, size_control
from progloc.paper.plan import Plan, PlannedRun
from progloc.paper.suite import SUITE_FILE
from progloc.report.formats import counted
from progloc.report.progress import print_note
from progloc.results import RunResult
from progloc.run_folder import check_folder, claimed, finished, plain
from progloc.training.inputs import Inputs, gather, open_model
from progloc.training.readers import measure_apart
from progloc.training.run import estimate_seconds, remeasure_run, train_run


class Standing:
    """How the runs of a plan stand: a table on a terminal, a line a run elsewhere. Figures are means over seeds."""

    def __init__(self, plan: Plan, estimates: dict[str, float]) -> None:
        self.plan = plan
        self.results: dict[str, RunResult] = {}
        self._estimates = estimates
        self._current: PlannedRun | None = None
        self._progress = ""
        self._share = self._spent = self._expected = 0.0
        self._began = time.monotonic()

    def begin(self, run: PlannedRun) -> None:
        """A run starts (or is found finished)."""
        self._current, self._progress, self._share = run, "loading", 0.0
        self._began = time.monotonic()

    def hear(self, step: int, steps: int, logs: dict[str, Any]) -> None:
        """A step or an evaluation of the run is done."""
        self._share = step / steps
        if "ce" in logs:
            self._progress = (
                f"step {step}/{steps} · stage {logs['stage']} · CE {logs['ce']:.3f} · Σλp {logs['penalty_nats']:.2f}"
            )

    def finish(self, run: PlannedRun, result: RunResult) -> None:
        """The run is done."""
        if self._share > 0:  # made now, not found
            self._spent += time.monotonic() - self._began
            self._expected += self._estimates[run.folder]
        self.results[run.folder] = result
        self._current = None

    def seconds_left(self) -> float:
        """Return the estimate for what is left, corrected by how long the finished runs really took."""
        left = sum(seconds for folder, seconds in self._estimates.items() if folder not in self.results)
        if self._current is not None:
            left -= self._share * self._estimates[self._current.folder]
        return left * (self._spent / self._expected if self._expected else 1.0)

    def _gap(self, run: PlannedRun) -> float | None:
        """Return perplexity over that of the λ=0 run of the same seed and number of epochs, where it is finished."""
        training = run.config.training
        for other in self.plan.runs:
            same = (other.config.training.seed, other.config.training.epochs) == (training.seed, training.epochs)
            if same and other.config.locality.schedule == "distributed" and other.folder in self.results:
                ours, theirs = self.results[run.folder].final, self.results[other.folder].final
                return float(ours["perplexity"] / theirs["perplexity"])
        return None

    def line(self, run: PlannedRun) -> str:
        """Return a finished run as one line."""
        final, gap = self.results[run.folder].final, self._gap(run)
        return (
            f"[{len(self.results)}/{len(self.plan.runs)}] {run.folder}: perplexity {final['perplexity']:.2f}, "
            f"gap {'–' if gap is None else f'{gap:.3f}×'}, fidelity {final['fidelity']:.3f}, "
            f"without sink {final['fidelity_no_sink']:.3f}, about {self.seconds_left() / 60:.1f} min left"
        )

    def table(self) -> Table:
        """Return the table as it stands."""
        table = Table(
            title=f"{self.plan.suite}: {len(self.results)} of {counted(len(self.plan.runs), 'run')} done, about "
            f"{self.seconds_left() / 60:.1f} min left",
            caption=f"{self._current.folder}: {self._progress}" if self._current else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
        )
        looks = {name: look(name) for name in measures if not look(name).detail}
        table.add_column("run")
        for heading in ("seeds", "perplexity", "gap", *(style.symbol for style in looks.values())):
            table.add_column(heading, justify="right")

        def mean(values: list[float], digits: int, unit: str = "") -> str:
            return f"{fmean(values):.{digits}f}{unit}" if values else "–"

        for name in dict.fromkeys(run.name for run in self.plan.runs):
            planned = [run for run in self.plan.runs if run.name == name]
            runs = [run for run in planned if run.folder in self.results]
            finals = [self.results[run.folder].final for run in runs]
            running = self._current is not None and self._current.name == name
            table.add_row(
                ("▸ " if running else "  ") + name,
                f"{len(runs)}/{len(planned)}",
                mean([final["perplexity"] for final in finals], 2),
                mean([gap for run in runs if (gap := self._gap(run)) is not None], 3, "×"),
                *(mean([final[key] for final in finals if key in final], at.digits) for key, at in looks.items()),
                style="bold" if running else "" if runs else "dim",
            )
        return table


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
            "controls": [dataclasses.asdict(control) for control in controls] or earlier.get("controls", []),
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
    controls = [control for control in sized if control is not None]
    for control in controls:
        print_note(
            console,
            f"{control.control} stands beside {control.blocks}: of uniform attention off the sink "
            f"{control.control_chance_fidelity_no_sink:.3f} is in its blocks, and "
            f"{control.chance_fidelity_no_sink:.3f}",
        )
    new = [blocks for blocks in dict.fromkeys(control.control for control in controls) if blocks not in inputs]
    inputs |= {blocks: gather(_on_blocks(plan, blocks)) for blocks in new}
    return plan.with_controls(new), controls


def _measure_base(plan: Plan, out: Path, blocks: str, inputs: Inputs) -> dict[str, Any]:
    """Return the untrained model's measures and the seconds they took; once a suite and partitioner."""
    path = out / ("base.json" if blocks == plan.base.locality.blocks else f"base-{blocks}.json")
    if not path.exists():
        model = open_model(inputs, _on_blocks(plan, blocks))
        started = time.monotonic()
        report = measure_apart(model, inputs.validation, plan.base.training).to_dict()
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
    base = {blocks: _measure_base(plan, out, blocks, of_blocks) for blocks, of_blocks in inputs.items()}
    folder_of = {run.folder: out / "runs" / run.folder for run in plan.runs}

    def estimate(run: PlannedRun) -> float:
        seconds = float(base[run.config.locality.blocks]["seconds"])
        if run.measures is not None:
            return seconds
        return estimate_seconds(run.config, inputs[run.config.locality.blocks], seconds)

    estimates = {run.folder: estimate(run) for run in plan.runs}
    to_do = [run for run in plan.runs if not finished(folder_of[run.folder])]
    console.print(
        f"{counted(len(plan.runs), 'run')}, {len(plan.runs) - len(to_do)} finished before; "
        f"about {sum(estimates[run.folder] for run in to_do) / 60:.1f} min to go · results in {out}",
        soft_wrap=True,
    )
    standing = Standing(plan, estimates)
    with (
        Live(standing.table(), console=console, refresh_per_second=4) if console.is_terminal else nullcontext() as live
    ):

        def heard(step: int, steps: int, logs: dict[str, Any]) -> None:
            standing.hear(step, steps, logs)
            if live is not None:
                live.update(standing.table())

        for run in plan.runs:
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
