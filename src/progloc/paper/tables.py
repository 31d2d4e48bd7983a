"""The paper's Tables 1-4 with this suite's numbers, and the paper's own figures in columns marked as such.

Tables 1-4 are of the suite's first partitioner; Table 5, of all of them, is in `partitioner_tables`, Table 6, on a
second text, in `elsewhere`, and Table 7, of variants of the penalty, in `variant_tables`.
A table is one function `Suite -> list[Table]` and one `@table`; a suite without the runs it needs gives an empty list.
"""

from __future__ import annotations

__all__ = [
    "reading",
    "suite_tables",
    "table",
    "table_1",
    "table_2",
    "table_3",
    "table_4",
    "tables_markdown",
]

from collections.abc import Callable, Sequence

from progloc.measures.definitions import look
from progloc.paper import published
from progloc.paper.compared import architectures_tested, cells_tested, gradients_tested, layers_tested
from progloc.paper.comparisons import at_the_end, cells, depth, gap, last_layer, layer, measured, trained
from progloc.paper.elsewhere import table_6
from progloc.paper.entries import gap_entry, lowest, lowest_above_chance, mean_entry
from progloc.paper.partitioner_tables import table_5
from progloc.paper.provenance import made_by
from progloc.paper.results import Suite
from progloc.paper.variant_tables import table_7
from progloc.report.formats import ABSENT, counted, interval, number, percent, ratio
from progloc.report.statistics import UNIT, mean_interval, paired_difference, paired_ratio
from progloc.report.table import Column, Table, escaped, to_markdown

_BUILDERS: list[Callable[[Suite], list[Table]]] = []

_SELECT = {
    "objective": "the best validation objective (CE + α·Σλp) of stage 2",
    "perplexity": "the best validation perplexity of stage 2",
}


def table(build: Callable[[Suite], list[Table]]) -> Callable[[Suite], list[Table]]:
    """Decorator: add a function to what every report shows, in order of registration."""
    _BUILDERS.append(build)
    return build


def suite_tables(suite: Suite) -> list[Table]:
    """Return every registered table that the finished runs allow."""
    return [made for build in _BUILDERS for made in build(suite)]


def reading(suite: Suite) -> str:
    """Say what every table's note says: which checkpoint, how many seeds, what the interval is."""
    kept = _SELECT.get(str(suite.plan.get("select")), f"select: {suite.plan.get('select')}")
    seeds = len({run.seed for run in suite.runs})
    spread = (
        "One seed: no interval, and no comparison is more than this one run's."
        if seeds == 1
        else f"Means over the seeds ({seeds} at most), with 95% t-intervals over seeds. {UNIT}"
    )
    rule = f"Checkpoint kept: {kept}, the same rule for every run."
    if suite.plan.get("select") == "objective":
        rule += (
            " At λ=0 the objective is the cross-entropy alone, so those runs keep their best perplexity, while "
            "localised runs tend to keep a late epoch; the gap at the last epoch is free of that choice."
        )
    return f"{rule} {spread}"


def _paper(label: str) -> Column:
    return Column(label, paper=True)


_PAPER_NOTE = f"The columns of the paper's own figures: {published.SOURCE}."
_NAME = Column("Architecture", text=True)
_SEEDS = Column("Seeds", detail=True)


def _label(suite: Suite, name: str) -> str:
    run = suite.one(name)
    if run.beta is not None:
        return f"{name} (β={run.beta:g})"
    uniform = len(set(run.lambdas)) == 1
    return f"{name} (λ={run.lambdas[0]:g})" if uniform else name


@table
def table_1(suite: Suite) -> list[Table]:
    """Performance against locality, for every architecture (the paper's Table 1)."""
    if not suite.architectures:
        return []
    measures = [
        ("Entropy H (bits)", "entropy_bits", 2),
        ("H° (bits)", "entropy_bits_no_sink", 2),
        ("Fidelity F", "fidelity", 3),
        ("F°", "fidelity_no_sink", 3),
        ("Sink mass", "sink_mass", 3),
        *((look(name).label, name, look(name).digits) for name in suite.further_measures),
    ]
    columns = (
        _NAME, _SEEDS, Column("Perplexity"), Column("vs baseline (gap)"),
        Column("Gap at the last epoch", detail=True), *(Column(label) for label, _, _ in measures),
        Column("Final penalty Σλp (nats)"), Column("F beyond the first block", detail=True),
        Column("Kept epoch", detail=True),
        Column("Last layer F", detail=True), Column("Last layer F°", detail=True),
        Column("Lowest F°, λ ≥ 0.5", detail=True), Column("Lowest above chance, λ ≥ 0.5", detail=True),
        _paper("Perplexity"), _paper("Entropy (bits)"), _paper("Fidelity"), _paper("Final penalty"),
        _paper("vs baseline"),
    )  # fmt: skip
    rows = []
    for name in suite.architectures:
        theirs = published.TABLE_1.get(name)
        rows.append((
            _label(suite, name),
            str(len(suite.by_name[name])),
            mean_entry(suite, name, measured("perplexity"), 2),
            gap_entry(suite, name, measured("perplexity")),
            gap_entry(suite, name, at_the_end("perplexity")),
            *(mean_entry(suite, name, measured(measure), digits) for _, measure, digits in measures),
            mean_entry(suite, name, measured("weighted_penalty_nats"), 3),
            mean_entry(suite, name, measured("fidelity_no_first_block"), 3),
            number(mean_interval(suite.values(name, trained("kept_epoch")).values()).mean, 1),
            mean_entry(suite, name, last_layer("fidelity"), 3),
            mean_entry(suite, name, last_layer("fidelity_no_sink"), 3),
            mean_entry(suite, name, lowest, 3),
            mean_entry(suite, name, lowest_above_chance, 3),
            *((ABSENT,) * 5 if theirs is None else (
                number(theirs.perplexity, 2), number(theirs.entropy_bits, 2), number(theirs.fidelity, 3),
                number(theirs.final_penalty, 4), ABSENT if theirs.vs_baseline is None else f"{theirs.vs_baseline:.2f}×",
            )),
        ))  # fmt: skip
    some = suite.one(suite.architectures[0])
    before = [number(some.before[measure], digits) for _, measure, digits in measures]
    chance = [number(some.final.get(f"chance_{measure}"), digits) for _, measure, digits in measures]
    none = (ABSENT,) * (len(columns) - 5 - len(measures))
    rows.append(("before tuning", ABSENT, number(some.before["perplexity"], 2), ABSENT, ABSENT, *before, *none))
    rows.append(("chance (uniform attention)", ABSENT, ABSENT, ABSENT, ABSENT, *chance, *none))
    note = (
        "Gap: perplexity ÷ that of the λ=0 run of the same data, budget and seed, as a geometric mean over seeds. "
        "H and F count the attention sink (the first token); H° and F° are of what is not on it. "
        "Low entropy alone is no evidence of locality, and a fidelity means nothing without its chance level. "
        "Final penalty: what α multiplies in the loss, Σ over layers of λ(ℓ)·p (their mean, if `reduction` is that), "
        f"at the kept checkpoint, on validation. Lowest: of the layers with λ ≥ 0.5, in each seed. {_PAPER_NOTE}"
    )
    whole = Table("Table 1: performance and locality of every architecture", note, columns, tuple(rows))
    return [whole, *architectures_tested(suite)]


@table
def table_2(suite: Suite) -> list[Table]:
    """Penalty coefficient and budget, each alone and both, for cubic (the paper's Table 2 has two of four cells)."""
    found = cells(suite)
    if len(found) < 2:
        return []
    strong, short = max(alpha for alpha, _ in found), min(epochs for _, epochs in found)
    weak, long = min(alpha for alpha, _ in found), max(epochs for _, epochs in found)
    theirs = {(strong, short): published.TABLE_2[0], (weak, long): published.TABLE_2[1]}
    previous = suite.values(found.get((strong, short), ""), measured("perplexity"))
    columns = (
        Column("Penalty coef. α"), Column("Epochs"), _SEEDS, Column("Perplexity"), Column("Improvement"),
        Column("λ=0, same budget"), Column("Gap to it"), Column("Fidelity F"), Column("F°"),
        Column("Sink mass"), _paper("α, epochs"), _paper("Perplexity"), _paper("Improvement"),
    )  # fmt: skip
    rows = []
    for (alpha, epochs), name in sorted(found.items(), key=lambda cell: (-cell[0][0], cell[0][1])):
        baselines = [suite.baseline(run) for run in suite.by_name[name].values()]
        baseline = mean_interval(run.measure("perplexity") for run in baselines if run is not None)
        improved = ABSENT
        if (alpha, epochs) != (strong, short):
            improved = percent(paired_ratio(suite.values(name, measured("perplexity")), previous).estimate)
        row = theirs.get((alpha, epochs))
        rows.append((
            f"{alpha:g}", str(epochs), str(len(suite.by_name[name])),
            mean_entry(suite, name, measured("perplexity"), 2), improved,
            interval(baseline, 2), ratio(gap(suite, name).estimate),
            mean_entry(suite, name, measured("fidelity"), 3), mean_entry(suite, name, measured("fidelity_no_sink"), 3),
            mean_entry(suite, name, measured("sink_mass"), 3),
            *((ABSENT,) * 3 if row is None else (
                f"{row.alpha:g}, {row.epochs}", number(row.perplexity, 2),
                ABSENT if row.improvement_percent is None else f"{row.improvement_percent:+.1f}%",
            )),
        ))  # fmt: skip
    note = (
        f"Improvement: of perplexity, over α={strong:g} for {counted(short, 'epoch')}. The paper changes both at once; "
        "four cells tell which mattered, and the gap to the λ=0 run of the same budget tells locality's price from the "
        f"effect of longer training. Equal λ is not equal locality: compare F° too. {_PAPER_NOTE}"
    )
    whole = Table("Table 2: penalty coefficient and training length, cubic", note, columns, tuple(rows))
    return [whole, *cells_tested(suite)]


def _layer_mean(suite: Suite, name: str, measure: str, index: int, digits: int) -> str:
    return mean_entry(suite, name, layer(measure, index), digits)


def _layer_difference(suite: Suite, name: str, measure: str, index: int, digits: int) -> str:
    if suite.distributed is None:
        return ABSENT
    ours, base = (suite.values(n, layer(measure, index)) for n in (name, suite.distributed))
    return interval(paired_difference(ours, base).estimate, digits)


def _by_layer(
    suite: Suite, names: Sequence[str], title: str, measures: list[tuple[str, str, bool]], digits: int, note: str
) -> Table:
    """Return one row a layer; measures are (label, name, whether it is a detail)."""
    layers = len(suite.one(names[0]).lambdas)
    columns = [Column("Layer"), Column("Depth"), *(Column(f"λ ({name})") for name in names)]
    for label, _, detail in measures:
        columns += [Column(f"{text} ({name})", detail=detail) for text in (label, f"Δ{label} to λ=0") for name in names]
    rows = []
    for index in range(layers):
        row = [str(index), f"{depth(index, layers):.2f}"]
        row += [number(suite.one(name).lambdas[index], 3) for name in names]
        for _, measure, _ in measures:
            row += [_layer_mean(suite, name, measure, index, digits) for name in names]
            row += [_layer_difference(suite, name, measure, index, digits) for name in names]
        rows.append(tuple(row))
    return Table(title, note, tuple(columns), tuple(rows))


@table
def table_3(suite: Suite) -> list[Table]:
    """λ, entropy and fidelity by layer for quintic and linear (the paper's Table 3, and that table itself)."""
    names = [name for name in ("quintic", "linear") if name in suite.by_name]
    if not names:
        return []
    theirs = tuple(
        (
            f"{row.layer} ({row.label})" if row.label else str(row.layer),
            f"{depth(row.layer, published.TABLE_3_LAYERS):.2f}",
            *(number(value, 3) for value in (row.lambda_quintic, row.lambda_linear)),
            *(number(value, 2) for value in (row.entropy_quintic, row.entropy_linear)),
        )
        for row in published.TABLE_3
    )
    some = suite.runs[0].final
    chance = {"F": number(some["chance_fidelity"], 3), "F°": number(some["chance_fidelity_no_sink"], 3)}
    labels = ("Layer", "Depth", "λ (quintic)", "λ (linear)", "Entropy (quintic)", "Entropy (linear)")
    entropy = _by_layer(
        suite,
        names,
        "Table 3: entropy by layer, quintic and linear",
        [("H", "entropy_bits", False), ("H°", "entropy_bits_no_sink", True)],
        2,
        "H in bits, H° the same of what is not on the sink. Depth: ℓ/(L−1). Δ: paired difference to the λ=0 run.",
    )
    fidelity = _by_layer(
        suite,
        names,
        "Table 3, continued: fidelity by layer",
        [("F", "fidelity", True), ("F°", "fidelity_no_sink", False), ("sink mass", "sink_mass", True)],
        3,
        f"What entropy does not say: whether attention is in the block. Chance: F {chance['F']}, F° {chance['F°']}. "
        "Δ: paired difference to the λ=0 run.",
    )
    note = (
        f"The paper's own: {published.SOURCE}, {published.TABLE_3_LAYERS} layers; entropy in bits. Its λ "
        "of quintic is not (ℓ/(L−1))⁵, which gives 0.0015 at layer 3 and 0.367 at layer 9."
    )
    own = Table("Table 3 as the paper has it", note, tuple(map(_paper, labels)), theirs)
    return [entropy, fidelity, own, *layers_tested(suite, names)]


@table
def table_4(suite: Suite) -> list[Table]:
    """Penalty and gradient norm during training (the paper's Table 4)."""
    if not suite.architectures:
        return []
    figures = [
        ("Mean Σλp (nats)", "mean_penalty_nats", 3),
        ("Max Σλp (nats)", "max_penalty_nats", 3),
        ("Mean Σp (nats)", "mean_penalty_nats_unweighted", 2),
        ("Max Σp (nats)", "max_penalty_nats_unweighted", 2),
        ("Gradient norm, mean", "gradient_norm_mean", 3),
        ("Gradient norm, max", "gradient_norm_max", 2),
    ]
    columns = (
        _NAME, _SEEDS, *(Column(label) for label, _, _ in figures), Column("Steps clipped (%)"),
        _paper("Mean penalty (nats)"), _paper("Max penalty (nats)"), _paper("Gradient norm"),
    )  # fmt: skip
    rows = []
    for name in suite.architectures:
        theirs = published.TABLE_4.get(name)
        clipped = mean_interval(100 * run.trained("clipped_share") for run in suite.by_name[name].values())
        rows.append((
            _label(suite, name), str(len(suite.by_name[name])),
            *(mean_entry(suite, name, trained(figure), digits) for _, figure, digits in figures),
            interval(clipped, 1),
            *((ABSENT,) * 3 if theirs is None else (number(value, 2) for value in theirs)),
        ))  # fmt: skip
    thresholds = sorted({float(run.config["training"]["max_grad_norm"]) for run in suite.runs})
    note = (
        "Over both stages. Σλp is the sum in the loss, of every step; Σp is the same without λ, of every evaluation, "
        "for training does not look into layers with λ = 0. The paper does not say which of the two it tabulates, and "
        "only a sum over layers can be as large as its figures. The gradient norm is the "
        f"global L2 norm before clipping at {', '.join(f'{value:g}' for value in thresholds)}: after clipping it is "
        f"below that by construction. {_PAPER_NOTE}"
    )
    whole = Table("Table 4: penalty and gradient norm during training", note, columns, tuple(rows))
    return [whole, *gradients_tested(suite)]


table(table_5)
table(table_6)
table(table_7)


def tables_markdown(suite: Suite) -> str:
    """Return `tables.md`: what made it, which runs are missing, then every table."""
    made = [f"- {label}: `{value}`" for label, value in made_by(suite)]
    missing = (
        [f"- **missing runs**: {escaped(', '.join(run.folder for run in suite.missing))}"] if suite.missing else []
    )
    title = f"# Results of the suite {escaped(suite.plan.get('suite', ''))}".rstrip()
    head = [title, "", *made, *missing, "", f"For every table: {reading(suite)}", ""]
    return "\n".join([*head, *map(to_markdown, suite_tables(suite))])
