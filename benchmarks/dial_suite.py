"""Does the dial replace training? A suite's checkpoints over the dial, and at the fidelity that others were trained to.

    python benchmarks/dial_suite.py SUITE [--sequences 32]

SUITE is a folder that `progloc reproduce` made, run from where its model and texts are found, with λ=0, quintic and
localist in it. Every checkpoint is dialled as quintic's λ(ℓ) goes, and in all layers alike; finished ones are not
measured again. The tables go to docs/dial.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from progloc.config import RunConfig, from_mapping
from progloc.dialling import dial
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json
from progloc.loading import load
from progloc.measures.measuring import measure
from progloc.paper.suite import Suite, load_suite
from progloc.report.formats import ABSENT, interval, p_value, ratio
from progloc.report.statistics import UNIT, gap_at, mean_interval, paired_ratio, trend
from progloc.report.table import Column, Table
from progloc.results import RunResult
from progloc.schedules import parse_schedule
from progloc.training.inputs import gather
from scripts import run_script, script_parser, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "dial.md"
BY = "benchmarks/dial_suite.py"
DELTAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
SHAPES = ("quintic", "localist")
SHOWN = {"distributed": "λ=0", "quintic": "as quintic's λ", "localist": "all layers alike"}
Figures = dict[str, float]
"""`perplexity` and `fidelity`, F°."""
Curve = dict[float, Figures]
"""By δ."""
Found = dict[tuple[str, str], dict[int, Curve]]
"""By checkpoint and shape, then by seed."""


def measured(folder: Path, validation: Any) -> dict[str, dict[str, Figures]]:
    """Return a checkpoint's figures by shape and δ; kept in `dial-shapes.json` in the run's folder."""
    path = folder / "dial-shapes.json"
    stored = read_mapping(path) if path.exists() else {}
    if stored.get("sequences") != len(validation):
        model = load(folder / "model")
        found: dict[str, dict[str, Figures]] = {}
        for shape in SHAPES:
            lambdas = parse_schedule(shape)(len(model.locality.lambdas))
            for delta in DELTAS:
                with dial(model, [delta * strength for strength in lambdas]):
                    report = measure(model, validation)
                figures = {"perplexity": report.perplexity, "fidelity": report.fidelity_no_sink}
                found.setdefault(shape, {})[f"{delta:g}"] = figures
        stored = {"sequences": len(validation), "shapes": found}
        write_json(path, stored)
    return stored["shapes"]


def everything(suite: Suite, sequences: int, console: Console) -> Found:
    """Measure every checkpoint of the three architectures."""
    found: Found = {}
    wanted: list[RunResult] = [run for run in suite.compared if run.name in SHOWN]
    if {run.name for run in wanted} != set(SHOWN):
        raise ProglocError(f"{suite.folder} lacks one of {', '.join(SHOWN)}; run the suite with all three")
    whole = gather(from_mapping(RunConfig, dict(wanted[0].config))).validation
    spread = np.linspace(0, len(whole) - 1, min(sequences, len(whole))).round().astype(int)
    for run in wanted:
        folder = suite.folder / "runs" / f"{run.name}-seed{run.seed}"
        console.print(f"{folder.name}", style="dim")
        for shape, curve in measured(folder, whole.select(spread.tolist())).items():
            found.setdefault((run.name, shape), {})[run.seed] = {float(d): each for d, each in curve.items()}
    return found


def _values(curves: dict[int, Curve], delta: float, figure: str) -> dict[int, float]:
    return {seed: curve[delta][figure] for seed, curve in curves.items()}


def curves_table(found: Found) -> Table:
    """Return every checkpoint over both dials."""
    rows = []
    for (name, shape), curves in found.items():
        for figure, label, digits in (("perplexity", "perplexity", 2), ("fidelity", "F°", 3)):
            ordered = [_values(curves, delta, figure) for delta in DELTAS]
            cells = [interval(mean_interval(values.values()), digits) for values in ordered]
            trained = SHOWN[name] if name == "distributed" else name
            rows.append((trained, SHOWN[shape], label, *cells, p_value(trend(ordered).p)))
    return Table(
        "Pretrained checkpoints over the dial",
        f"Means over seeds with 95% t-intervals; the sink is kept. Trend: of the slope over δ, in each seed. {UNIT}",
        (
            Column("Trained", text=True), Column("Dialled", text=True), Column("Figure", text=True),
            *(Column(f"δ = {delta:g}") for delta in DELTAS), Column("trend, p"),
        ),
        tuple(rows),
    )  # fmt: skip


def _at(curve: Curve, fidelity: float) -> float:
    """Return perplexity where a curve has that F°; NaN outside its range."""
    marks = [(each["fidelity"], each["perplexity"]) for each in curve.values()]
    inside = min(mark[0] for mark in marks) <= fidelity <= max(mark[0] for mark in marks)
    return gap_at(marks, fidelity) if inside else math.nan


def matched_table(found: Found) -> Table:
    """Return what it costs to dial a checkpoint to the F° that another was trained to."""
    rows = []
    for trained in ("quintic", "localist"):
        goal = found[trained, "quintic"]
        fidelity, own = (_values(goal, 0.0, figure) for figure in ("fidelity", "perplexity"))
        for (name, shape), curves in found.items():
            if name == trained:
                continue
            dialled = {seed: _at(curve, fidelity[seed]) for seed, curve in curves.items() if seed in fidelity}
            reached = {seed: value for seed, value in dialled.items() if not math.isnan(value)}
            cell = ratio(paired_ratio(reached, own).estimate) if len(reached) == len(own) else ABSENT
            other = SHOWN[name] if name == "distributed" else name
            rows.append((trained, interval(mean_interval(fidelity.values()), 3), other, SHOWN[shape], cell))
    return Table(
        "Dialled to the F° that another was trained to",
        "Perplexity of the dialled checkpoint ÷ that of the trained one, undialled, paired by seed; interpolated in "
        "F°. A dash: its dial does not have that F° in every seed.",
        (
            Column("Trained", text=True), Column("its F°"), Column("Dialled instead", text=True),
            Column("how", text=True), Column("perplexity"),
        ),
        tuple(rows),
    )  # fmt: skip


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("suite", metavar="SUITE", type=Path)
    parser.add_argument("--sequences", type=int, default=32)
    options = parser.parse_args()
    console = Console(stderr=True)
    found = everything(load_suite(options.suite), options.sequences, console)
    write_tables(PAGE, BY, [curves_table(found), matched_table(found)], console)


if __name__ == "__main__":
    run_script(main)
