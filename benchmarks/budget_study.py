"""Does a perplexity budget hold, and does adapting α buy more fidelity than any fixed α that holds it?

    python benchmarks/budget_study.py RESULTS [--seeds N] [--model M] [--corpus C] [--budget SHARE] [--alphas A,B,…]

For every seed: a training without a penalty, one whose α is adapted to the budget, and one for each fixed α, on the
same sequences. Finished runs are not made again. The table goes to docs/budget.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from progloc.config import LocalityConfig, RunConfig, TrainingConfig
from progloc.report.formats import interval
from progloc.report.statistics import mean_interval, paired_difference
from progloc.report.table import Column, Table
from progloc.results import RunResult
from progloc.training.inputs import Inputs, gather
from progloc.training.run import train_run, without_penalty
from scripts import run_script, script_parser, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "budget.md"
BY = "benchmarks/budget_study.py"
SLACK = 0.003
"""A budget counts as held where the price is no more than this beyond it, as a share of perplexity."""
HOLDS = 0.9
"""A training holds the budget if it does in this share of the seeds."""
ADAPTED = "adapted"


def base(model: str, corpus: str, budget: float) -> RunConfig:
    """Return the training that is studied: quintic on sentences, the sink left alone."""
    return RunConfig(
        model=model,
        corpus=corpus,
        max_sequences=240,
        locality=LocalityConfig(schedule="quintic", blocks="sentences", alpha=0.05, sink_aware=True),
        training=TrainingConfig(
            epochs=4,
            batch_size=8,
            accumulation=1,
            learning_rate=5e-4,
            patience=None,
            fused_loss=True,
            evaluations=16,
            budget=budget,
        ),
    )


def made(config: RunConfig, seed: int, alphas: Sequence[float], folder: Path, inputs: Inputs) -> dict[str, Any]:
    """Return price and F° of every training of a seed, by its name."""
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
    reference = train_run(without_penalty(config), folder / "without", inputs, name="distributed")
    results = {ADAPTED: train_run(config, folder / ADAPTED, inputs, name="quintic", reference=reference)}
    fixed = dataclasses.replace(config.training, budget=None, evaluations=config.training.evaluated)
    for alpha in alphas:
        locality = dataclasses.replace(config.locality, alpha=alpha)
        name = f"α = {alpha:g}"
        run = dataclasses.replace(config, locality=locality, training=fixed)
        results[name] = train_run(run, folder / f"alpha-{alpha:g}", inputs, name="quintic")
    return {name: _figures(result, reference) for name, result in results.items()}


def _figures(result: RunResult, reference: RunResult) -> dict[str, float]:
    layers = zip(result.lambdas, result.by_layer("fidelity_no_sink"), strict=True)
    weighted = sum(λ * fidelity for λ, fidelity in layers)
    price = result.measure("perplexity") / reference.measure("perplexity") - 1
    return {"price": price, "fidelity": weighted / sum(result.lambdas)}


def table(by_seed: dict[int, dict[str, Any]], budget: float) -> Table:
    """Return every training's price, how often it held the budget, and what it bought."""
    rows = []
    adapted = {seed: figures[ADAPTED]["fidelity"] for seed, figures in by_seed.items()}
    for name in next(iter(by_seed.values())):
        prices = [figures[name]["price"] for figures in by_seed.values()]
        fidelity = {seed: figures[name]["fidelity"] for seed, figures in by_seed.items()}
        within = sum(price <= budget for price in prices)
        held = sum(price <= budget + SLACK for price in prices)
        near = sum(abs(price - budget) <= SLACK for price in prices)
        more = paired_difference(adapted, fidelity)
        rows.append(
            (
                name,
                interval(mean_interval([100 * price for price in prices]), 2),
                f"{within} of {len(prices)}",
                f"{held} of {len(prices)}",
                f"{near} of {len(prices)}",
                interval(mean_interval(fidelity.values()), 4),
                "—" if name == ADAPTED else interval(more.estimate, 4),
                "yes" if held >= HOLDS * len(prices) else "no",
            )
        )
    return Table(
        f"A budget of {budget:+.1%}",
        "Price: perplexity beyond that of the training without a penalty, per cent. Within: no more than the budget; "
        f"held: at most {100 * SLACK:g} points beyond it; near: within {100 * SLACK:g} points on either side. F° is "
        f"weighted by λ over layers. Holds: held in {HOLDS:.0%} of the seeds.",
        (
            Column("α", text=True),
            *map(Column, ("price (%)", "within", "held", "near", "F°", "F° adapted − this")),
            Column("holds", text=True),
        ),
        tuple(rows),
    )


def main() -> None:
    """Make what is missing, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--model", default="scratch:tiny")
    parser.add_argument("--corpus", default="python-docs")
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--alphas", default="0.025,0.05,0.1,0.2")
    options = parser.parse_args()
    alphas = [float(text) for text in options.alphas.split(",") if text]
    config = base(options.model, options.corpus, options.budget)
    console = Console(stderr=True)
    inputs = gather(config, console)
    by_seed = {}
    for seed in range(options.seeds):
        by_seed[seed] = made(config, seed, alphas, options.results / f"seed{seed}", inputs)
        shown = ", ".join(
            f"{name} {figures['price']:+.2%} F° {figures['fidelity']:.3f}" for name, figures in by_seed[seed].items()
        )
        console.print(f"[{seed + 1}/{options.seeds}] {shown}", soft_wrap=True)
    write_tables(PAGE, BY, [table(by_seed, options.budget)], console)


if __name__ == "__main__":
    run_script(main)
