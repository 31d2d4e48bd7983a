"""Is one checkpoint enough? The dial against checkpoints trained for each of its places.

    python benchmarks/dial_study.py RESULTS [--seeds N] [--model M] [--corpus C]

For every seed, on the same sequences: a training without a penalty, the plain quintic one, one whose δ was drawn anew
for every batch, and one at each place of the dial. All are then measured at every place. Finished runs are not made
again. The tables go to docs/dial.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from progloc.config import LocalityConfig, RunConfig, TrainingConfig
from progloc.dialling import dial
from progloc.files import read_mapping, write_json
from progloc.loading import load
from progloc.measures.measuring import measure
from progloc.report.formats import interval, p_value, ratio
from progloc.report.statistics import UNIT, mean_interval, paired_ratio, trend
from progloc.report.table import Column, Table
from progloc.training.inputs import Inputs, gather
from progloc.training.run import train_run
from scripts import run_script, script_parser, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "dial.md"
BY = "benchmarks/dial_study.py"
DELTAS = (0.0, 0.25, 0.5, 0.75, 1.0)
BASE = RunConfig(
    max_sequences=240,
    locality=LocalityConfig(schedule="quintic", blocks="sentences", alpha=0.05, sink_aware=True),
    training=TrainingConfig(
        epochs=4, batch_size=8, accumulation=1, learning_rate=1.5e-3, patience=None, fused_loss=True
    ),
)
PLAIN, SAMPLED, WITHOUT = "quintic", "quintic, δ sampled", "λ=0"
Found = dict[str, dict[float, dict[int, dict[str, float]]]]
"""Figures by training, δ and seed."""


def trainings(config: RunConfig) -> dict[str, RunConfig]:
    """Return what is trained, by name: at δ = 0 a training for that place is the plain one."""

    def dialled(value: Any) -> RunConfig:
        return dataclasses.replace(config, training=dataclasses.replace(config.training, dial=value))

    without = dataclasses.replace(config, locality=dataclasses.replace(config.locality, schedule="distributed"))
    at = {_at(delta): dialled(delta) for delta in DELTAS if delta}
    return {WITHOUT: without, PLAIN: config, SAMPLED: dialled("sampled"), **at}


def _at(delta: float) -> str:
    return f"δ = {delta:g}"


def measured(folder: Path, config: RunConfig, inputs: Inputs, deltas: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """Return perplexity and F° of the model in a run's folder at each δ; kept in `dial.json` there."""
    path = folder / "dial.json"
    if not path.exists():
        model = load(folder / "model", config.locality)
        curves = {}
        for delta in deltas:
            with dial(model, delta):
                report = measure(model, inputs.validation, batch_size=config.training.batch_size)
            curves[f"{delta:g}"] = {"perplexity": report.perplexity, "fidelity": report.fidelity_no_sink}
        write_json(path, curves)
    return read_mapping(path)


def made(config: RunConfig, seeds: int, results: Path, inputs: Inputs, console: Console) -> Found:
    """Train what is missing, measure it over the dial, and return every figure."""
    curves: Found = {}
    for seed in range(seeds):
        seeded = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
        for name, run in trainings(seeded).items():
            folder = results / f"seed{seed}" / name.replace(" ", "").replace(",", "-").replace("=", "")
            train_run(run, folder, inputs, name=name)
            its_own = name.startswith("δ =")
            deltas = (run.training.dial,) if isinstance(run.training.dial, float) else DELTAS
            for delta, figures in measured(folder, config, inputs, deltas).items():
                curves.setdefault(_at(float(delta)) if its_own else name, {}).setdefault(float(delta), {})[seed] = (
                    figures
                )
        console.print(f"[{seed + 1}/{seeds}]", end=" ")
    curves |= {_at(0.0): {0.0: curves[PLAIN][0.0]}}
    return curves


def _values(curves: Found, name: str, delta: float, figure: str) -> dict[int, float]:
    return {seed: figures[figure] for seed, figures in curves[name][delta].items()}


def curve_table(curves: Found) -> Table:
    """Return each training over the dial, as perplexity and F°."""
    rows = []
    for name in (PLAIN, SAMPLED, WITHOUT):
        for figure, label, digits in (("perplexity", "perplexity", 2), ("fidelity", "F°", 3)):
            ordered = [_values(curves, name, delta, figure) for delta in DELTAS]
            cells = [interval(mean_interval(values.values()), digits) for values in ordered]
            rows.append((name, label, *cells, p_value(trend(ordered).p)))
    return Table(
        "Over the dial",
        f"Means over seeds with 95% t-intervals. Trend: of the slope over δ, in each seed. {UNIT}",
        (
            Column("Training", text=True),
            Column("Figure", text=True),
            *(Column(_at(d)) for d in DELTAS),
            Column("trend, p"),
        ),
        tuple(rows),
    )


def enough_table(curves: Found) -> Table:
    """Return what one checkpoint costs at each place against one trained for that place."""
    rows = []
    for delta in DELTAS:
        own = _values(curves, _at(delta), delta, "perplexity")
        rows.append(
            (
                f"{delta:g}",
                interval(mean_interval(own.values()), 2),
                *(
                    ratio(paired_ratio(_values(curves, name, delta, "perplexity"), own).estimate)
                    for name in (PLAIN, SAMPLED, WITHOUT)
                ),
            )
        )
    columns = ("δ", "trained for it: perplexity", *(f"{name}, dialled there" for name in (PLAIN, SAMPLED, WITHOUT)))
    return Table(
        "One checkpoint, or one for each place",
        f"Perplexity ÷ that of the training at that very δ, paired by seed. {UNIT}",
        tuple(map(Column, columns)),
        tuple(rows),
    )


def main() -> None:
    """Make what is missing, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="scratch:tiny")
    parser.add_argument("--corpus", default="python-docs")
    options = parser.parse_args()
    config = dataclasses.replace(BASE, model=options.model, corpus=options.corpus)
    console = Console(stderr=True)
    inputs = gather(config, console)
    curves = made(config, options.seeds, options.results, inputs, console)
    write_tables(PAGE, BY, [curve_table(curves), enough_table(curves)], console)


if __name__ == "__main__":
    run_script(main)
