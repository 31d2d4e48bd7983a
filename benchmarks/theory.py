"""What theory says of schedules and margins, beside what is measured: the tables of docs/theory.md.

    python benchmarks/theory.py                                write the page again from what is kept
    python benchmarks/theory.py --layers                       print the tables in full, by layer too
    python benchmarks/theory.py RESULTS [--seeds N] [--runs NAME,…]
    python benchmarks/theory.py MODEL CORPUS [--group NAME] [--schedule S] [--blocks P] [--sequence-length T]

RESULTS is a folder that `progloc reproduce --out RESULTS` made: its models are checked on the sequences they were
validated on. MODEL is a folder or a hub name, and is checked on the first sequences of CORPUS. What was found is kept
in benchmarks/measured/margins/. The exponent is fitted to every suite that benchmarks/measured/suites/ keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from capacity import Exponent, capacity, exponent_over_seeds
from margin_check import check
from measurements import SUFFIX, by_name, read_lines, write_lines
from progloc.config import RunConfig, from_mapping
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_text
from progloc.loading import load
from progloc.paper.claims import KEPT, MOST, layers_kept
from progloc.paper.suite import SUITE_FILE, Suite, load_suite
from progloc.report.formats import counted, interval, number
from progloc.report.statistics import mean_interval
from progloc.report.table import Column, Table, filled, to_markdown
from progloc.resolve import open_sequences, resolve
from progloc.run_folder import MODEL_FOLDER, RESULT_FILE
from progloc.schedules import NAMED_POLYNOMIALS, parse_schedule
from progloc.training.inputs import gather
from scripts import run_script, script_parser
from write_results import kept_suites

ROOT = Path(__file__).parents[1]
MARGINS, PAGE = Path("benchmarks/measured/margins"), Path("docs/theory.md")
BY = "benchmarks/theory.py"
DEPTHS = (6, 12, 30)
STEEPEST = 1000
"""The largest β that is tried."""
Kept = dict[str, Any]
"""One model's check, as kept: name, seed, lambdas, blocks, corpus, sequences, length, report."""


def of_suite(folder: Path, seeds: int, names: Sequence[str]) -> Iterator[Kept]:
    """Check the models of a suite's folder, run by run."""
    suite = load_suite(folder)
    unknown = [name for name in names if name not in suite.by_name]
    if unknown:
        raise ProglocError(f"{folder} has no runs called {unknown[0]}; expected some of {', '.join(suite.by_name)}")
    for run in suite.compared:
        if run.seed >= seeds or (names and run.name not in names):
            continue
        config = from_mapping(RunConfig, run.config, "config")
        own = folder / "runs" / f"{run.name}-seed{run.seed}"
        trained = read_mapping(own / RESULT_FILE).get("measured_from", own.name)
        model = load(own.parent / trained / MODEL_FOLDER, config.locality)
        yield checked(model, gather(config).validation, run.name, run.seed, config.corpus)


def checked(model: Any, dataset: Any, name: str, seed: int | None, corpus: str) -> Kept:
    """Check one model."""
    return {
        "name": name,
        "seed": seed,
        "lambdas": list(model.locality.lambdas),
        "blocks": model.locality.config.blocks,
        "corpus": corpus,
        "sequences": len(dataset),
        "length": len(dataset[0]["input_ids"]),
        "report": check(model, dataset).to_dict(),
    }


def capacity_table() -> Table:
    """Return I_total and the answer to C9 of every named schedule."""
    rows = []
    for name in ("distributed", "localist", *NAMED_POLYNOMIALS):
        lambdas = {layers: parse_schedule(name)(layers) for layers in DEPTHS}
        totals = {layers: sum(capacity(values)) for layers, values in lambdas.items()}
        kept = {layers: layers_kept(values) for layers, values in lambdas.items()}
        rows.append((
            name,
            *(f"{total:.2f} ({total / layers:.0%})" for layers, total in totals.items()),
            *(f"{count} of {layers}" for layers, count in kept.items()),
            "yes" if all(count / layers >= MOST for layers, count in kept.items()) else "no",
        ))  # fmt: skip
    return Table(
        "Capacity",
        f"I_total ÷ I₀ = Σ (1−λ(ℓ))², in layers and as a share of L. Kept: layers that keep more than {KEPT:.0%} of "
        f"I₀. C9 asks that at least {MOST:.0%} of the layers do, at each depth.",
        (
            Column("schedule", text=True),
            *(Column(f"I_total, L = {layers}") for layers in DEPTHS),
            *(Column(f"kept, L = {layers}") for layers in DEPTHS),
            Column("C9", text=True),
        ),
        tuple(rows),
    )


def steepness_table() -> Table:
    """Return the smallest β for which C9 is true, by depth."""
    rows = []
    for layers in (*DEPTHS, 100):
        schedules = {beta: parse_schedule(f"polynomial:{beta}")(layers) for beta in range(1, STEEPEST + 1)}
        steep = (str(beta) for beta, lambdas in schedules.items() if layers_kept(lambdas) / layers >= MOST)
        rows.append((str(layers), next(steep, "none")))
    return Table(
        "The smallest β for which C9 holds",
        f"Whole numbers up to {STEEPEST}. The last layer keeps nothing whatever β is, so C9 fails with fewer than ten "
        "layers.",
        (Column("L"), Column("β")),
        tuple(rows),
    )


def _exponent_cell(fit: Exponent) -> str:
    """Return a with its residual, or in how many seeds there is none."""
    if not fit.reason:
        return f"{interval(fit.exponent, 2)} (residual {fit.residual.mean:.2f})"
    return "none" if fit.without == fit.ratio.n else f"none in {fit.without} of {counted(fit.ratio.n, 'seed')}"


def exponent_table(suites: Mapping[str, Suite], every: bool = True) -> Table:
    """Return the exponent of every schedule that has a λ strictly between 0 and 1, by suite and partitioner.

    Without ``every``, the ratio is given for H° alone, and of fixed blocks only those that a suite has first: others
    are controls for the size of blocks.
    """
    rows, reasons = [], set()
    for suite_name, suite in suites.items():
        for run_name in dict.fromkeys(run.name for run in suite.compared):
            run = suite.one(run_name)
            control = run.blocks.startswith("fixed:") and run.blocks != suite.partitioners[0]
            if not any(0 < value < 1 for value in run.lambdas) or (control and not every):
                continue
            fits = [exponent_over_seeds(suite, run_name, name) for name in ("entropy_bits_no_sink", "entropy_bits")]
            ratios = (interval(fit.ratio, 2) for fit in fits[: 2 if every else 1])
            rows.append((suite_name, run.schedule, run.blocks, *ratios, *map(_exponent_cell, fits)))
            reasons |= {fit.reason.split(" (")[0] for fit in fits if fit.reason}
    return Table(
        "The exponent",
        "(1−λ(ℓ))^a is fitted by least squares to H(ℓ) ÷ H_λ=0(ℓ), over the layers with λ strictly between 0 and 1 and "
        "for each seed against its own λ=0 run. Ratio: the mean of H(ℓ) ÷ H_λ=0(ℓ) over these layers. Residual: root "
        f"mean square of measured − fitted. ± is a 95% t-interval over seeds. None: {'; '.join(sorted(reasons))}.",
        (
            *(Column(label, text=True) for label in ("suite", "schedule", "blocks")),
            *map(Column, ("ratio, H°", "ratio, H")[: 2 if every else 1]),
            Column("a, H°", text=True),
            Column("a, H", text=True),
        ),
        tuple(rows),
    )


_SIDES = (("all keys", ""), ("without the sink", "_no_sink"))
_SHOWN = (
    ("γ (nats)", "margin_nats", 2), ("γ > 0 (%)", "positive_share", 2), ("m guaranteed", "guaranteed_mass", 4),
    ("m measured", "mass", 4), ("H ≤, from γ", "guaranteed_entropy_bits", 2), ("H ≤, from m", "entropy_bound_bits", 2),
    ("H measured", "entropy_bits", 2),
)  # fmt: skip


def _cells(reports: Sequence[Kept], suffix: str) -> tuple[str, ...]:
    """Return the figures of one model, or of one layer, over seeds."""

    def value(report: Kept, measure: str) -> float:
        found = report[measure + suffix]
        return math.nan if found is None else float(found) * (100 if measure == "positive_share" else 1)

    return tuple(
        interval(mean_interval(value(report, measure) for report in reports), digits) for _, measure, digits in _SHOWN
    )


def _by_model(kept: Sequence[Kept]) -> dict[tuple[str, str], list[Kept]]:
    grouped: dict[tuple[str, str], list[Kept]] = {}
    for report in kept:
        grouped.setdefault((report["name"], report["blocks"]), []).append(report)
    return grouped


def margin_table(kept: Sequence[Kept], name: str, every: bool = True) -> Table:
    """Return what margins guarantee and what is measured, by model, means over layers; without ``every`` off the sink.

    Args:
        kept: checks of models.
        name: what the title calls them.
        every: whether to give the figures over all keys too.
    """
    rows = [
        (model, blocks, side, *_cells([each["report"] for each in runs], suffix))
        for (model, blocks), runs in _by_model(kept).items()
        for side, suffix in (_SIDES if every else _SIDES[1:])
    ]
    excess = max(each["report"]["excess"] for each in kept)
    one, seeds = kept[0], len({each["seed"] for each in kept})
    over_seeds = f"; ± is a 95% t-interval over {counted(seeds, 'seed')}" if seeds > 1 else ""
    return Table(
        f"Margins of {name}",
        f"{one['corpus']}, {counted(one['sequences'], 'sequence')} of {one['length']} tokens{over_seeds}. The most by "
        f"which the guarantee of any token exceeded its measured mass: {number(max(excess, 0.0), 7)}.",
        (
            *(Column(label, text=True) for label in ("model", "blocks", "over")),
            *(Column(label) for label, _, _ in _SHOWN),
        ),
        tuple(rows),
    )


def layer_table(kept: Sequence[Kept], name: str) -> Table:
    """Return the same of every layer, without the sink."""
    rows = [
        (model, blocks, str(at), f"{λ:.3f}", *_cells([each["report"]["layers"][at] for each in runs], "_no_sink"))
        for (model, blocks), runs in _by_model(kept).items()
        for at, λ in enumerate(runs[0]["lambdas"])
    ]
    return Table(
        f"Margins of {name}, by layer, without the sink",
        "",
        (
            *(Column(label, text=True) for label in ("model", "blocks")),
            *(Column(label) for label in ("ℓ", "λ", *(label for label, _, _ in _SHOWN))),
        ),
        tuple(rows),
    )


def best_layer_table(kept: Sequence[Kept], name: str) -> Table:
    """Return the largest margin and the largest guaranteed mass that a layer of each model has, without the sink."""

    def best(runs: Sequence[Kept], measure: str) -> tuple[str, list[Kept]]:
        layers = [[run["report"]["layers"][at] for run in runs] for at in range(len(runs[0]["lambdas"]))]
        at = max(range(len(layers)), key=lambda at: fmean(layer[f"{measure}_no_sink"] for layer in layers[at]))
        return f"{at}", layers[at]

    rows = []
    for (model, blocks), runs in _by_model(kept).items():
        (margin_at, margins), (mass_at, masses) = best(runs, "margin_nats"), best(runs, "guaranteed_mass")
        guaranteed = dict(zip((label for label, _, _ in _SHOWN), _cells(masses, "_no_sink"), strict=True))
        margin = _cells(margins, "_no_sink")[0]
        rows.append((model, blocks, margin_at, margin, mass_at, guaranteed["m guaranteed"], guaranteed["m measured"]))
    return Table(
        f"The best layers of {name}, without the sink",
        "",
        (
            *(Column(label, text=True) for label in ("model", "blocks")),
            *map(Column, ("ℓ", "largest γ (nats)", "ℓ", "most m guaranteed", "m measured there")),
        ),
        tuple(rows),
    )


def kept_margins(root: Path = ROOT) -> dict[str, list[Kept]]:
    """Return the checks of models that are kept, by group."""
    return {name: read_lines(path) for name, path in by_name(root / MARGINS).items()}


def written(root: Path = ROOT) -> str:
    """Return every table, made from what is kept."""
    with kept_suites(root) as suites:
        exponents = exponent_table(suites, every=False)
    tables = [
        capacity_table(),
        steepness_table(),
        exponents,
        *(
            table
            for name, kept in kept_margins(root).items()
            for table in (margin_table(kept, name, every=False), best_layer_table(kept, name))
        ),
    ]
    return "\n".join(map(to_markdown, tables))


def page(root: Path = ROOT) -> str:
    """Return docs/theory.md as it is, with its tables made anew."""
    return filled((root / PAGE).read_text(encoding="utf-8"), BY, written(root))


def main() -> None:
    """Check what is given, keep it, and write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("given", metavar="RESULTS|MODEL", nargs="?")
    parser.add_argument("corpus", metavar="CORPUS", nargs="?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", default="", help="names of a suite's runs; by default all")
    parser.add_argument("--group", help="the tables that a model stands in beside others; by default its own")
    parser.add_argument("--schedule")
    parser.add_argument("--blocks")
    parser.add_argument("--sequence-length", type=int)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--layers", action="store_true", help="print the tables in full, by layer too, and end")
    options = parser.parse_args()
    if options.layers:
        with kept_suites(ROOT) as suites:
            tables = [exponent_table(suites)]
        for name, kept in kept_margins().items():
            tables += [margin_table(kept, name), layer_table(kept, name)]
        print("\n".join(map(to_markdown, tables)))
        return
    if options.given is not None:
        folder = Path(options.given)
        if options.corpus is None:
            if not (folder / SUITE_FILE).is_file():
                raise ProglocError(f"{folder} is no suite's folder; for a model give MODEL CORPUS")
            found = of_suite(folder, options.seeds, [name for name in options.runs.split(",") if name])
        else:
            named = resolve(options.given, schedule=options.schedule, blocks=options.blocks)
            model, dataset, _ = open_sequences(named, options.corpus, options.sequence_length)
            some = dataset.select(range(min(options.sequences, len(dataset))))
            found = iter([checked(model, some, folder.name, None, options.corpus)])
        kept, console = [], Console(stderr=True)
        for each in found:
            kept.append(each)
            seed = "" if each["seed"] is None else f", seed {each['seed']}"
            console.print(f"{each['name']}{seed}: m {each['report']['mass']:.4f}", soft_wrap=True)
        if not kept:
            raise ProglocError(f"no run of {folder} was checked; expected --seeds of at least 1")
        path = ROOT / MARGINS / f"{options.group or folder.name}{SUFFIX}"
        before = read_lines(path) if options.group and path.exists() else []
        names = {each["name"] for each in kept}
        write_lines(path, [*(each for each in before if each["name"] not in names), *kept])
    write_text(ROOT / PAGE, page())


if __name__ == "__main__":
    run_script(main)
