"""How a suite stands while it runs: a table on a terminal, a line a run elsewhere."""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from progloc.measures.definitions import look, measures
from progloc.paper.plan import Plan, PlannedRun
from progloc.results import RunResult


class Standing:
    """What is known of every run so far. Figures are means over the seeds finished."""

    def __init__(self, plan: Plan, estimates: dict[str, float]) -> None:
        self.plan = plan
        self.results: dict[str, RunResult] = {}
        self._estimates = estimates
        self._current: PlannedRun | None = None
        self._progress = ""
        self._share = 0.0
        self._spent = 0.0
        self._expected = 0.0
        self._began = time.monotonic()

    def begin(self, run: PlannedRun) -> None:
        """A run starts (or is found finished)."""
        self._current, self._progress, self._share = run, "loading", 0.0
        self._began = time.monotonic()

    def hear(self, run: PlannedRun, step: int, steps: int, logs: dict[str, Any]) -> None:
        """A step or an evaluation is done."""
        self._share = step / steps
        if "ce" in logs:
            self._progress = (
                f"step {step}/{steps} · stage {logs['stage']} · CE {logs['ce']:.3f} · Σλp {logs['penalty_nats']:.2f}"
            )

    def finish(self, run: PlannedRun, result: RunResult) -> None:
        """A run is done."""
        if self._share > 0:  # made now, not found
            self._spent += time.monotonic() - self._began
            self._expected += self._estimates[run.folder]
        self.results[run.folder] = result
        self._current, self._progress = None, ""

    def seconds_left(self) -> float:
        """Return the estimate for what is left, corrected by how long the finished runs really took."""
        left = sum(seconds for folder, seconds in self._estimates.items() if folder not in self.results)
        if self._current is not None:
            left -= self._share * self._estimates[self._current.folder]
        return left * (self._spent / self._expected if self._expected else 1.0)

    def _gap(self, run: PlannedRun) -> float | None:
        """Perplexity over that of the λ=0 run of the same seed and number of epochs."""
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
            f"gap {f'{gap:.3f}×' if gap else '–'}, fidelity {final['fidelity']:.3f}, "
            f"without sink {final['fidelity_no_sink']:.3f}, about {self.seconds_left() / 60:.1f} min left"
        )

    def table(self) -> Table:
        """Return the table as it stands."""
        done, all_runs = len(self.results), len(self.plan.runs)
        table = Table(
            title=f"{self.plan.suite}: {done} of {all_runs} runs done, about {self.seconds_left() / 60:.1f} min left",
            caption=f"{self._current.folder}: {self._progress}" if self._current else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("run")
        looks = {name: look(name) for name in measures if not look(name).detail}
        for heading in ("seeds", "perplexity", "gap", *(style.symbol for style in looks.values())):
            table.add_column(heading, justify="right")
        for name in dict.fromkeys(run.name for run in self.plan.runs):
            runs = [run for run in self.plan.runs if run.name == name]
            finals = [self.results[run.folder].final for run in runs if run.folder in self.results]
            gaps = [gap for run in runs if run.folder in self.results and (gap := self._gap(run)) is not None]
            running = self._current is not None and self._current.name == name
            figures = [
                f"{fmean(values):.{digits}f}" if (values := [final[key] for final in finals if key in final]) else "–"
                for key, digits in (("perplexity", 2), *((name, style.digits) for name, style in looks.items()))
            ]
            figures.insert(1, f"{fmean(gaps):.3f}×" if gaps else "–")
            style = "bold" if running else ("" if finals else "dim")
            table.add_row(("▸ " if running else "  ") + name, f"{len(finals)}/{len(runs)}", *figures, style=style)
        return table
