"""The paper's Tables 1–4 with this suite's numbers, and the paper's own figures in columns marked as such.

They are of the suite's first partitioner. What is called "tested" is the comparisons of a table, where there are two
seeds or more.
"""

from __future__ import annotations

from collections.abc import Sequence

from progloc.measures.definitions import look
from progloc.paper import published
from progloc.paper.comparisons import (
    aligned,
    at_the_end,
    cells,
    comparison_table,
    depth,
    gap,
    layer,
    measured,
    perplexity_ratio,
    to_distributed,
    trained,
)
from progloc.paper.entries import gap_entry, lowest, lowest_above_chance, mean_entry
from progloc.paper.suite import Suite
from progloc.report.formats import ABSENT, counted, interval, number, percent, ratio
from progloc.report.statistics import mean_interval, paired_difference, paired_ratio, trend
from progloc.report.table import Column, Table
from progloc.schedules import NAMED_POLYNOMIALS


def _paper(*labels: str) -> tuple[Column, ...]:
    return tuple(Column(label, paper=True) for label in labels)


def _detail(*labels: str) -> tuple[Column, ...]:
    return tuple(Column(label, detail=True) for label in labels)


_PAPER_NOTE = f"The columns of the paper's own figures: {published.SOURCE}."
_NAME = Column("Architecture", text=True)


def _name_and_seeds(suite: Suite, name: str) -> tuple[str, str]:
    run = suite.one(name)
    label = name
    if run.beta is not None:
        label = f"{name} (β={run.beta:g})"
    elif len(set(run.lambdas)) == 1:
        label = f"{name} (λ={run.lambdas[0]:g})"
    return label, str(len(suite.by_name[name]))


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
        _NAME, *_detail("Seeds"), Column("Perplexity"), Column("vs baseline (gap)"),
        *_detail("Gap at the last epoch"), *(Column(label) for label, _, _ in measures),
        Column("Final penalty Σλp (nats)"),
        *_detail(
            "F beyond the first block", "Kept epoch", "Last layer F", "Last layer F°", "Lowest F°, λ ≥ 0.5",
            "Lowest above chance, λ ≥ 0.5",
        ),
        *_paper("Perplexity", "Entropy (bits)", "Fidelity", "Final penalty", "vs baseline"),
    )  # fmt: skip
    rows = []
    for name in suite.architectures:
        paper = published.TABLE_1.get(name)
        rows.append((
            *_name_and_seeds(suite, name),
            mean_entry(suite, name, measured("perplexity"), 2),
            gap_entry(suite, name),
            gap_entry(suite, name, at_the_end("perplexity")),
            *(mean_entry(suite, name, measured(measure), digits) for _, measure, digits in measures),
            mean_entry(suite, name, measured("weighted_penalty_nats"), 3),
            mean_entry(suite, name, measured("fidelity_no_first_block"), 3),
            number(mean_interval(suite.values(name, trained("kept_epoch")).values()).mean, 1),
            mean_entry(suite, name, layer("fidelity", -1), 3),
            mean_entry(suite, name, layer("fidelity_no_sink", -1), 3),
            mean_entry(suite, name, lowest, 3),
            mean_entry(suite, name, lowest_above_chance, 3),
            *((ABSENT,) * 5 if paper is None else (
                number(paper.perplexity, 2), number(paper.entropy_bits, 2), number(paper.fidelity, 3),
                number(paper.final_penalty, 4), ABSENT if paper.vs_baseline is None else f"{paper.vs_baseline:.2f}×",
            )),
        ))  # fmt: skip
    some = suite.one(suite.architectures[0])
    before = [number(some.before[measure], digits) for _, measure, digits in measures]
    chance = [number(some.final.get(f"chance_{measure}"), digits) for _, measure, digits in measures]
    rest = (ABSENT,) * (len(columns) - 5 - len(measures))
    rows.append(("before tuning", ABSENT, number(some.before["perplexity"], 2), ABSENT, ABSENT, *before, *rest))
    rows.append(("chance (uniform attention)", ABSENT, ABSENT, ABSENT, ABSENT, *chance, *rest))
    note = (
        "Gap: perplexity ÷ that of the λ=0 run of the same data, budget and seed, as a geometric mean over seeds. "
        "H and F count the attention sink (the first token); H° and F° are of what is not on it. "
        "Low entropy alone is no evidence of locality, and a fidelity means nothing without its chance level. "
        "Final penalty: what α multiplies in the loss, Σ over layers of λ(ℓ)·p (their mean, if `reduction` is that), "
        f"at the kept checkpoint, on validation. Lowest: of the layers with λ ≥ 0.5, in each seed. {_PAPER_NOTE}"
    )
    title = "Table 1: performance and locality of every architecture"
    return [Table(title, note, columns, tuple(rows)), *_architectures_tested(suite)]


def _architectures_tested(suite: Suite) -> list[Table]:
    """Test the gap and F° of every localised architecture, and trends over β."""
    local = measured("fidelity_no_sink")
    polynomials = [name for name in NAMED_POLYNOMIALS if name in suite.localised]
    figures = {
        "Perplexity": measured("perplexity"),
        "H (bits)": measured("entropy_bits"),
        "H° (bits)": measured("entropy_bits_no_sink"),
        "F": measured("fidelity"),
        "F°": local,
        "Gradient norm": trained("gradient_norm_mean"),
    }
    return [
        *comparison_table(
            "Table 1, tested: gap",
            "Perplexity ÷ that of the λ=0 run of the same data, budget and seed.",
            {f"{name} ÷ λ=0": gap(suite, name) for name in suite.localised},
            unit="×",
        ),
        *comparison_table(
            "Table 1, tested: F°",
            "Difference to the λ=0 run of the same seed.",
            {f"{name} − λ=0": paired_difference(*to_distributed(suite, name, local)) for name in suite.localised},
        ),
        *comparison_table(
            "Trends over β",
            f"Slope a step of β, by least squares within each seed; in order: {', '.join(polynomials)}.",
            {label: trend(aligned(suite, polynomials, figure)) for label, figure in figures.items()}
            if len(polynomials) > 2
            else {},
        ),
    ]


def table_2(suite: Suite) -> list[Table]:
    """Penalty coefficient and budget, each alone and both, for cubic (the paper's Table 2 has two of four cells)."""
    names = cells(suite)
    if len(names) < 2:
        return []
    strong, short = max(alpha for alpha, _ in names), min(epochs for _, epochs in names)
    weak, long = min(alpha for alpha, _ in names), max(epochs for _, epochs in names)
    previous = names.get((strong, short), "")
    papers = {(strong, short): published.TABLE_2[0], (weak, long): published.TABLE_2[1]}
    columns = (
        Column("Penalty coef. α"), Column("Epochs"), *_detail("Seeds"), Column("Perplexity"), Column("Improvement"),
        Column("λ=0, same budget"), Column("Gap to it"), Column("Fidelity F"), Column("F°"),
        Column("Sink mass"), *_paper("α, epochs", "Perplexity", "Improvement"),
    )  # fmt: skip
    rows, tested = [], {}
    for (alpha, epochs), name in sorted(names.items(), key=lambda cell: (-cell[0][0], cell[0][1])):
        baselines = [suite.baseline(run) for run in suite.by_name[name].values()]
        baseline = mean_interval(run.measure("perplexity") for run in baselines if run is not None)
        improvement = ABSENT
        if (alpha, epochs) != (strong, short):
            comparison = perplexity_ratio(suite, name, previous)
            improvement = percent(comparison.estimate)
            if previous:
                tested[f"α={alpha:g}, {counted(epochs, 'epoch')}"] = comparison
        paper = papers.get((alpha, epochs))
        rows.append((
            f"{alpha:g}", str(epochs), str(len(suite.by_name[name])),
            mean_entry(suite, name, measured("perplexity"), 2), improvement,
            interval(baseline, 2), ratio(gap(suite, name).estimate),
            mean_entry(suite, name, measured("fidelity"), 3), mean_entry(suite, name, measured("fidelity_no_sink"), 3),
            mean_entry(suite, name, measured("sink_mass"), 3),
            *((ABSENT,) * 3 if paper is None else (
                f"{paper.alpha:g}, {paper.epochs}", number(paper.perplexity, 2),
                ABSENT if paper.improvement_percent is None else f"{paper.improvement_percent:+.1f}%",
            )),
        ))  # fmt: skip
    first = f"α={strong:g} for {counted(short, 'epoch')}"
    note = (
        f"Improvement: of perplexity, over {first}. The paper changes both at once; "
        "four cells tell which mattered, and the gap to the λ=0 run of the same budget tells locality's price from the "
        f"effect of longer training. Equal λ is not equal locality: compare F° too. {_PAPER_NOTE}"
    )
    return [
        Table("Table 2: penalty coefficient and training length, cubic", note, columns, tuple(rows)),
        *comparison_table("Table 2, tested: perplexity", f"Perplexity ÷ that of {first}.", tested, unit="×"),
    ]


def _by_layer(
    suite: Suite, names: Sequence[str], title: str, measures: list[tuple[str, str, bool]], digits: int, note: str
) -> Table:
    """Return one row a layer; measures are (label, name, whether it is a detail)."""
    layers = len(suite.one(names[0]).lambdas)
    columns = [Column("Layer"), Column("Depth"), *(Column(f"λ ({name})") for name in names)]
    for label, _, detail in measures:
        columns += [Column(f"{text} ({name})", detail=detail) for text in (label, f"Δ{label} to λ=0") for name in names]

    def difference(name: str, measure: str, index: int) -> str:
        if suite.distributed is None:
            return ABSENT
        return interval(paired_difference(*to_distributed(suite, name, layer(measure, index))).estimate, digits)

    rows = []
    for index in range(layers):
        row = [str(index), f"{depth(index, layers):.2f}"]
        row += [number(suite.one(name).lambdas[index], 3) for name in names]
        for _, measure, _ in measures:
            row += [mean_entry(suite, name, layer(measure, index), digits) for name in names]
            row += [difference(name, measure, index) for name in names]
        rows.append(tuple(row))
    return Table(title, note, tuple(columns), tuple(rows))


def _table_3_of_the_paper() -> Table:
    rows = tuple(
        (
            f"{row.layer} ({row.label})" if row.label else str(row.layer),
            f"{depth(row.layer, published.TABLE_3_LAYERS):.2f}",
            *(number(value, 3) for value in (row.lambda_quintic, row.lambda_linear)),
            *(number(value, 2) for value in (row.entropy_quintic, row.entropy_linear)),
        )
        for row in published.TABLE_3
    )
    note = (
        f"The paper's own: {published.SOURCE}, {published.TABLE_3_LAYERS} layers; entropy in bits. Its λ "
        "of quintic is not (ℓ/(L−1))⁵, which gives 0.0015 at layer 3 and 0.367 at layer 9."
    )
    labels = ("Layer", "Depth", "λ (quintic)", "λ (linear)", "Entropy (quintic)", "Entropy (linear)")
    return Table("Table 3 as the paper has it", note, _paper(*labels), rows)


def table_3(suite: Suite) -> list[Table]:
    """λ, entropy and fidelity by layer for quintic and linear (the paper's Table 3, and that table itself)."""
    names = [name for name in ("quintic", "linear") if name in suite.by_name]
    if not names:
        return []
    some = suite.runs[0]
    chance = {key: number(some.final[f"chance_{key}"], 3) for key in ("fidelity", "fidelity_no_sink")}
    return [
        _by_layer(
            suite,
            names,
            "Table 3: entropy by layer, quintic and linear",
            [("H", "entropy_bits", False), ("H°", "entropy_bits_no_sink", True)],
            2,
            "H in bits, H° the same of what is not on the sink. Depth: ℓ/(L−1). Δ: paired difference to the λ=0 run.",
        ),
        _by_layer(
            suite,
            names,
            "Table 3, continued: fidelity by layer",
            [("F", "fidelity", True), ("F°", "fidelity_no_sink", False), ("sink mass", "sink_mass", True)],
            3,
            "What entropy does not say: whether attention is in the block. "
            f"Chance: F {chance['fidelity']}, F° {chance['fidelity_no_sink']}. "
            "Δ: paired difference to the λ=0 run.",
        ),
        _table_3_of_the_paper(),
        *(
            made
            for label, measure, digits in (("H (bits)", "entropy_bits", 2), ("F°", "fidelity_no_sink", 3))
            for made in comparison_table(
                f"Table 3, tested: {label} by layer",
                "Difference to the same layer of the λ=0 run of the same seed.",
                {
                    f"{name}, layer {index}": paired_difference(*to_distributed(suite, name, layer(measure, index)))
                    for name in names
                    for index in range(len(some.lambdas))
                },
                digits,
            )
        ),
    ]


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
        _NAME, *_detail("Seeds"), *(Column(label) for label, _, _ in figures), Column("Steps clipped (%)"),
        *_paper("Mean penalty (nats)", "Max penalty (nats)", "Gradient norm"),
    )  # fmt: skip
    rows = tuple(
        (
            *_name_and_seeds(suite, name),
            *(mean_entry(suite, name, trained(figure), digits) for _, figure, digits in figures),
            mean_entry(suite, name, lambda run: 100 * run.trained("clipped_share"), 1),
            *(number(value, 2) for value in published.TABLE_4.get(name, (None,) * 3)),
        )
        for name in suite.architectures
    )
    thresholds = sorted({float(run.config["training"]["max_grad_norm"]) for run in suite.runs})
    note = (
        "Over both stages. Σλp is the sum in the loss, of every step; Σp is the same without λ, of every evaluation, "
        "for training does not look into layers with λ = 0. The paper does not say which of the two it tabulates, and "
        "only a sum over layers can be as large as its figures. The gradient norm is the "
        f"global L2 norm before clipping at {', '.join(f'{value:g}' for value in thresholds)}: after clipping it is "
        f"below that by construction. {_PAPER_NOTE}"
    )
    norm = trained("gradient_norm_mean")
    return [
        Table("Table 4: penalty and gradient norm during training", note, columns, rows),
        *comparison_table(
            "Table 4, tested: gradient norm",
            "Mean norm before clipping ÷ that of the λ=0 run of the same seed.",
            {f"{name} ÷ λ=0": paired_ratio(*to_distributed(suite, name, norm)) for name in suite.localised},
            unit="×",
        ),
    ]
