"""A suite folder made of invented numbers: round ones, so that nobody takes them for results.

Perplexity is 100 · (1 + 0.5 · mean λ) at α = 0.05 and the long budget; in a layer fidelity rises by 0.6 · λ(ℓ) and
entropy falls by 2 · λ(ℓ) bits. A seed moves each figure by a thousandth or so.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from progloc.config import LocalityConfig, RunConfig, TrainingConfig
from progloc.files import write_json
from progloc.paper.suite import Suite
from progloc.paper.tables import suite_tables
from progloc.report.table import Table, to_rich
from progloc.schedules import parse_schedule

ARCHITECTURES = ("distributed", "localist", "linear", "quadratic", "cubic", "quartic", "quintic")
CELLS = ((0.5, 5), (0.05, 5), (0.5, 20))
LONG, SHORT = 20, 5

Change = Callable[[dict[str, Any]], None]


def _wobble(name: str, seed: int) -> float:
    """A number within ±0.001 that differs from run to run."""
    return ((len(name) * 7 + seed * 5) % 11 - 5) / 5000


def _figures(lambdas: list[float], wobble: float) -> list[dict[str, float]]:
    return [
        {
            "entropy_bits": 4.0 - 2.0 * x + wobble,
            "entropy_bits_no_sink": 4.5 - 2.0 * x + wobble,
            "fidelity": 0.2 + 0.6 * x + wobble,
            "fidelity_no_sink": 0.3 + 0.6 * x + wobble,
            "fidelity_no_first_block": 0.15 + 0.6 * x + wobble,
            "penalty_nats": 2.0 - 1.5 * x + wobble,
            "sink_mass": 0.25 - 0.2 * x + wobble,
        }
        for x in lambdas
    ]


def _report(lambdas: list[float], perplexity: float, wobble: float) -> dict[str, Any]:
    layers = _figures(lambdas, wobble)
    weighted = sum(x * layer["penalty_nats"] for x, layer in zip(lambdas, layers, strict=True))
    return {
        "perplexity": perplexity,
        "tokens": 1000,
        **{key: sum(layer[key] for layer in layers) / len(layers) for key in layers[0]},
        "chance_fidelity": 0.11,
        "chance_fidelity_no_sink": 0.1,
        "chance_entropy_bits": 5.0,
        "chance_entropy_bits_no_sink": 4.9,
        "weighted_penalty_nats": weighted,
        "objective": 4.0 + 0.05 * weighted,
        "layers": [{**layer, "heads": [layer, layer]} for layer in layers],
    }


def result(name: str, role: str, config: RunConfig, layers: int = 6) -> dict[str, Any]:
    """One run's `result.json`."""
    training = config.training
    schedule = parse_schedule(config.locality.schedule)
    lambdas = schedule(layers)
    mean = sum(lambdas) / layers
    # as with fixed blocks: at λ=0 the two are one model
    wobble = _wobble(config.locality.schedule if role == "partitioner" else name, training.seed)
    price = 1 + 0.5 * mean * (config.locality.alpha / 0.05) ** 0.5
    perplexity = 100 * price * (1.2 if training.epochs == SHORT else 1.0) * (1 + wobble)
    boundary = training.epochs * training.exploration
    epochs = [
        {
            "epoch": float(epoch),
            "step": 10 * epoch,
            "stage": 1 if epoch <= boundary else 2,
            "perplexity": perplexity * (1 + 2 / epoch**2),
            "fidelity": 0.2 + 0.6 * mean * epoch / training.epochs,
            "fidelity_no_sink": 0.3 + 0.6 * mean * epoch / training.epochs,
        }
        for epoch in range(1, training.epochs + 1)
    ]
    return {
        "schema_version": 1,
        "name": name,
        "role": role,
        "seed": training.seed,
        "beta": schedule.beta,
        "lambdas": lambdas,
        "config": dataclasses.asdict(config),
        "data": {
            "corpus": config.corpus,
            "corpus_sha256": "c0" * 32,
            "split_sha256": "5e" * 32,
            "train_sequences": 80,
            "validation_sequences": 20,
        },
        "environment": {
            "progloc": "0.0-synthetic", "torch": "0", "transformers": "0", "python": "0", "platform": "nowhere",
            "device": "cpu", "cpus": 2, "git": {"commit": "f00d", "dirty": True}, "date": "2000-01-01T00:00:00",
        },
        "before": _report([0.0] * layers, 400.0, 0.0),
        "final": _report(lambdas, perplexity, wobble),
        "epochs": epochs,
        "training": {
            "steps": 10 * training.epochs,
            "seconds": 60.0,
            "kept_step": 10 * training.epochs,
            "kept_epoch": float(training.epochs),
            "stopped_early": False,
            "mean_penalty_nats": 6 * mean,
            "max_penalty_nats": 9 * mean,
            "mean_penalty_nats_unweighted": 10.0 - mean,
            "max_penalty_nats_unweighted": 12.0,
            "penalty_nats_by_layer": [2.0 - x for x in lambdas],
            "gradient_norm_mean": 1.0 + mean + wobble,
            "gradient_norm_max": 3.0,
            "clipped_share": 0.25,
        },
    }  # fmt: skip


def make_suite(
    folder: Path,
    *,
    seeds: Collection[int] = (0, 1, 2),
    layers: int = 6,
    corpus: str = "synthetic",
    missing: Collection[str] = (),
    partitioners: Collection[str] = (),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    change: Change | None = None,
) -> Path:
    """Write a suite of the seven architectures and Table 2's other cells, and return its folder.

    Args:
        folder: where to.
        seeds: a run of each for every seed.
        layers: L.
        corpus: the corpus's name.
        missing: folders of runs to plan but not to write, such as "cubic-seed1".
        partitioners: further ones beside `fixed:5`; their runs have the same figures until `change` changes them.
        variants: as in a preset, of quintic alone.
        change: alters each result before it is written.
    """
    planned = []
    for seed in seeds:
        for name, role, schedule, blocks, changes, epochs in (
            *((name, "architecture", name, "fixed:5", {}, LONG) for name in ARCHITECTURES),
            *((f"{s}-{blocks}", "partitioner", s, blocks, {}, LONG) for blocks in partitioners for s in ARCHITECTURES),
            *((f"quintic-{name}", "variant", "quintic", "fixed:5", c, LONG) for name, c in (variants or {}).items()),
            (f"distributed-epochs{SHORT}", "optimisation", "distributed", "fixed:5", {}, SHORT),
            *((f"cubic-alpha{a:g}-epochs{e}", "optimisation", "cubic", "fixed:5", {"alpha": a}, e) for a, e in CELLS),
        ):
            planned.append({"name": name, "seed": seed, "role": role})
            if f"{name}-seed{seed}" in missing:
                continue
            config = RunConfig(
                corpus=corpus,
                locality=LocalityConfig(schedule=schedule, **changes),
                training=TrainingConfig(epochs=epochs, seed=seed),
            )
            run = result(name, role, config, layers)
            run["config"]["locality"]["blocks"] = blocks  # a name only: nothing is partitioned
            if change is not None:
                change(run)
            write_json(folder / "runs" / f"{name}-seed{seed}" / "result.json", run)
    write_json(
        folder / "suite.json",
        {
            "schema_version": 1,
            "suite": "synthetic",
            "model": "scratch:tiny",
            "corpus": corpus,
            "blocks": "fixed:5",
            "seeds": list(seeds),
            "select": "objective",
            "runs": planned,
            "command": "progloc reproduce --suite synthetic",
        },
    )
    return folder


def column(table: Table, label: str, *, theirs: bool = False) -> dict[str, str]:
    """A column's cells by the row's first cell."""
    (index,) = [i for i, c in enumerate(table.columns) if c.label == label and c.paper == theirs]
    return {row[0].split(" ")[0]: row[index] for row in table.rows}


def titled(suite: Suite, title: str) -> Table:
    """The one table of that title."""
    (found,) = [table for table in suite_tables(suite) if table.title == title]
    return found


def shown(table: Table, width: int = 80) -> str:
    """A table as a terminal has it."""
    text = io.StringIO()
    Console(width=width, file=text).print(to_rich(table))
    return text.getvalue()
