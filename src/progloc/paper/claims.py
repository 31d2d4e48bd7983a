"""The paper's claims as questions, answered from a suite's numbers (method.md §11).

A claim is one function `Suite -> Finding` and one `@claim`; its docstring is its decision rule. The rules are
conservative: a comparison between runs is decided by intervals over seeds, so one seed decides none of them; where any
one of several models would do, the level is divided by their number. Only C9 is arithmetic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from progloc.paper.comparisons import aligned, cells, depth, gap, measured, perplexity_ratio, trained
from progloc.paper.faithfulness import faithful
from progloc.paper.semantic import semantic_against_fixed
from progloc.paper.suite import Suite
from progloc.paper.verdicts import SIGNIFICANT, Answer, Finding, decide, listed, means, seeds_text, without
from progloc.report.formats import counted, interval, number, p_text, percent, ratio, span
from progloc.report.statistics import Comparison, mean_interval, paired_ratio, trend
from progloc.schedules import NAMED_POLYNOMIALS, parse_schedule

LOCALISED = 0.05
"""The change in F° below which a layer counts as unchanged, and above which it counts as localised."""
_UNCHANGED_BITS = 0.25
"""The change in H° below which a layer counts as unchanged; the paper's Table 3 shows drops of half a bit and more."""
_MIDDLE = 0.6
"""The relative depth up to which a layer is early or middle; the paper's layers 0-6 of 12."""
KEPT, MOST = 0.95, 0.9
"""What C9 says of steep schedules: `MOST` of the layers keep more than `KEPT` of their capacity."""
_SPIKE = 10.0
"""A gradient norm more than this many times its run's mean is not stable."""
_NOT_MATCHED = "equal λ is not equal locality, so this is no comparison at matched F°"

Rule = Callable[[Suite], Finding]
_claims: dict[str, tuple[str, Rule]] = {}


def claim(identifier: str, question: str) -> Callable[[Rule], Rule]:
    """Decorator: add a decision rule to what every report answers, in order of registration."""

    def add(rule: Rule) -> Rule:
        _claims[identifier] = (question, rule)
        return rule

    return add


def answers(suite: Suite) -> list[Answer]:
    """Return the answer to every registered claim; the suite has at least one finished run."""
    return [
        Answer(identifier, question, *dataclasses.astuple(rule(suite)))
        for identifier, (question, rule) in _claims.items()
    ]


def _goes(slope: Comparison, rising: bool) -> bool | None:
    """Return whether a slope goes the way asked (True), the other way (False), or is not resolved over seeds (None)."""
    above = slope.estimate.above(0)
    return None if above is None else above == rising


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part


def _slope(slope: Comparison, digits: int) -> str:
    """Write a slope a step with its interval and p."""
    return f"{number(slope.estimate.mean, digits)} a step {span(slope.estimate, digits)}, {p_text(slope.p)}"


def _locality(suite: Suite, *names: str) -> str:
    """Write the F° of some runs, over the seeds they share."""
    return listed(names, aligned(suite, names, measured("fidelity_no_sink")), 3)


@claim("C1", "Does perplexity fall as β rises, from linear to quintic?")
def _c1(suite: Suite) -> Finding:
    """Supported: the slope over β has its 95% interval over seeds below 0, and the mean falls at every step.

    Not supported: the slope's interval is above 0, or some step rises with its interval (95%, divided among the steps)
    above 1. It takes all five schedules.
    """
    names = list(NAMED_POLYNOMIALS)
    rows = aligned(suite, names, measured("perplexity"))
    if not rows[0]:
        return without(*names)
    level = 1 - SIGNIFICANT / (len(rows) - 1)
    rises = [paired_ratio(later, earlier, level).estimate.above(1) for earlier, later in pairwise(rows)]
    falls = all(later < earlier for earlier, later in pairwise(means(rows)))
    ends, slope = paired_ratio(rows[-1], rows[0]), trend(rows)
    return Finding(
        decide([_goes(slope, rising=False), True not in rises, falls or None]),
        f"perplexity {listed(names, rows, 2)}; slope over β {_slope(slope, 3)}",
        f"quintic ÷ linear {ratio(ends.estimate)}, {seeds_text(len(rows[0]))}",
        f"The mean {'falls' if falls else 'does not fall'} at every step, with F° "
        f"{_locality(suite, 'linear', 'quintic')}: {_NOT_MATCHED}.",
    )


@claim("C2", "Has quintic the smallest gap of the localised models?")
def _c2(suite: Suite) -> Finding:
    """Supported: quintic's perplexity ÷ that of each other localised model has its 95% interval below 1.

    Not supported: one of these intervals (95%, divided among the models) is above 1. The λ=0 run of the same seed
    cancels from a ratio of two gaps, so these are the ratios of the gaps. It takes quartic, the nearest rival.
    """
    quartic = perplexity_ratio(suite, "quintic", "quartic")
    if not quartic.estimate.n:
        return without("quintic", "quartic")
    others = [name for name in suite.localised if name != "quintic"]
    smaller = [perplexity_ratio(suite, "quintic", name).estimate.above(1) is False or None for name in others]
    level = 1 - SIGNIFICANT / len(others)
    larger = [perplexity_ratio(suite, "quintic", name, level).estimate.above(1) for name in others]
    gaps = {name: gap(suite, name).estimate.mean for name in suite.localised}
    known = {name: value for name, value in gaps.items() if not math.isnan(value)}
    smallest = f"The smallest mean gap is {min(known, key=known.__getitem__)}'s" if known else "No gap is known"
    return Finding(
        decide([*smaller, True not in larger]),
        "gap " + ", ".join(f"{name} {number(value, 3)}×" for name, value in gaps.items()),
        f"quintic ÷ quartic {ratio(quartic.estimate, 4)}, {p_text(quartic.p)}, {seeds_text(quartic.estimate.n)}",
        f"{smallest}, with F° {_locality(suite, 'quintic', 'quartic')}: {_NOT_MATCHED}.",
    )


@claim("C3", "Does entropy fall and fidelity rise as λ spreads to more layers, and also without the sink?")
def _c3(suite: Suite) -> Finding:
    """Order the architectures by mean λ and test four slopes over seeds: H and H° falling, F and F° rising.

    Each is a run's mean over tokens, heads and layers; the slope over the order is taken within each seed, and the seed
    is the unit. Supported: all four slopes' 95% intervals are on the side asked. Not supported: any is on the other.
    """
    names = sorted(suite.architectures, key=lambda name: sum(suite.one(name).lambdas))
    tested = [
        ("H", "entropy_bits", False, 2), ("F", "fidelity", True, 3),
        ("H°", "entropy_bits_no_sink", False, 2), ("F°", "fidelity_no_sink", True, 3),
    ]  # fmt: skip
    trends, figures, seeds = [], [], 0
    for label, measure, rising, digits in tested:
        rows = aligned(suite, names, measured(measure))
        if len(names) < 3 or not rows[0]:
            return without("at least three architectures")
        ends = means([rows[0], rows[-1]])
        slope = trend(rows)
        trends.append(_goes(slope, rising))
        asked = f", asked: {'rising' if rising else 'falling'}" if trends[-1] is False else ""
        figures.append(
            f"{label} {number(ends[0], digits)} → {number(ends[1], digits)} ({_slope(slope, digits)}{asked})"
        )
        seeds = len(rows[0])

    def direction(as_asked: bool | None, rising: bool) -> str:
        return "is not resolved" if as_asked is None else "rises" if as_asked == rising else "falls"

    return Finding(
        decide(trends),
        f"{names[0]} → {names[-1]}: {', '.join(figures)}",
        f"a step: from one of the {len(names)} architectures to the next; {seeds_text(seeds)}",
        f"In order of mean λ entropy {direction(trends[0], False)} and fidelity {direction(trends[1], True)}; "
        f"without the sink entropy {direction(trends[2], False)} and fidelity {direction(trends[3], True)}.",
    )


def _largest_change(suite: Suite, name: str, layers: Sequence[int], measure: str) -> dict[int, float]:
    """Return, by seed, the largest change of a measure in any of these layers against λ=0, without its sign."""
    ours, base = suite.by_name[name], suite.by_name[suite.distributed or ""]

    def change(seed: int) -> float:
        pairs = list(zip(ours[seed].by_layer(measure), base[seed].by_layer(measure), strict=True))
        return max(abs(pairs[layer][0] - pairs[layer][1]) for layer in layers)

    return {seed: change(seed) for seed in ours if seed in base}


@claim(
    "C4",
    "Under quintic, do early and middle layers stay as under λ=0 and only the last localise; under linear, sooner?",
)
def _c4(suite: Suite) -> Finding:
    """Four parts, on changes to the λ=0 run of the same seed, each with its 95% interval over seeds.

    In layers of relative depth ≤ 0.6, quintic's largest |ΔF°| is below 0.05 and its largest |ΔH°| below 0.25 bits (the
    paper argues from entropy); its last layer's |ΔF°| is above 0.05; linear's largest |ΔF°| at depth ≤ 0.6 is above
    0.05. Supported: all four. Not supported: any of them is reversed, unless both of the last two are: such a run has
    localised nothing, and cannot tell where it would.
    """
    needed = (suite.distributed or "distributed", "linear", "quintic")
    if not aligned(suite, needed, measured("fidelity_no_sink"))[0]:
        return without(*needed)
    layers = len(suite.one("quintic").lambdas)
    early = [index for index in range(layers) if depth(index, layers) <= _MIDDLE]
    if not early:
        return without("a model of at least two layers")
    stays, localises, sooner = (
        mean_interval(_largest_change(suite, name, where, "fidelity_no_sink").values())
        for name, where in (("quintic", early), ("quintic", [layers - 1]), ("linear", early))
    )
    entropy = mean_interval(_largest_change(suite, "quintic", early, "entropy_bits_no_sink").values())
    unchanged = [_not(stays.above(LOCALISED)), _not(entropy.above(_UNCHANGED_BITS))]
    moved = [localises.above(LOCALISED), sooner.above(LOCALISED)]
    if moved == [False, False]:
        moved = [None, None]
    return Finding(
        decide([*unchanged, *moved]),
        f"largest |ΔF°| to λ=0 in layers 0–{early[-1]} of {layers}: quintic {number(stays.mean, 3)}, linear "
        f"{number(sooner.mean, 3)}; in the last layer: quintic {number(localises.mean, 3)}; largest |ΔH°| of "
        f"quintic in layers 0–{early[-1]}: {number(entropy.mean, 2)} bits",
        f"quintic early {interval(stays, 3)}, last {interval(localises, 3)}; linear early {interval(sooner, 3)}; "
        f"{seeds_text(stays.n)}",
        f"A layer counts as unchanged below {LOCALISED} in F° and {_UNCHANGED_BITS} bits in H°, and as localised above "
        f"{LOCALISED} in F°, all without the sink.",
    )


@claim("C5", "Does a small α for many epochs beat a large α for few, and what does each change do alone?")
def _c5(suite: Suite) -> Finding:
    """Cubic's four cells. Supported: perplexity of (small α, long) ÷ (large α, short) has its 95% interval below 1.

    Not supported: it is above 1. Each change alone is reported beside it and decides nothing.
    """
    names = cells(suite)
    alphas, epochs = sorted({alpha for alpha, _ in names}), sorted({count for _, count in names})
    if len(alphas) < 2 or len(epochs) < 2:
        return without("cubic at two values of α and two budgets")
    weak, strong, short, long = alphas[0], alphas[-1], epochs[0], epochs[-1]
    previous, optimised = (names.get(cell, "") for cell in ((strong, short), (weak, long)))
    both = perplexity_ratio(suite, optimised, previous)
    if not both.estimate.n:
        return without(
            f"cubic at α={strong:g}, {counted(short, 'epoch')}", f"cubic at α={weak:g}, {counted(long, 'epoch')}"
        )
    alpha_alone, epochs_alone = (
        percent(perplexity_ratio(suite, names.get(cell, ""), previous).estimate)
        for cell in ((weak, short), (strong, long))
    )
    before, after = means(aligned(suite, (previous, optimised), measured("fidelity_no_sink")))
    longer = perplexity_ratio(suite, optimised, names.get((weak, short), "")).estimate
    return Finding(
        decide([_not(both.estimate.above(1))]),
        f"improvement of perplexity over α={strong:g} for {counted(short, 'epoch')}: α={weak:g} for "
        f"{counted(long, 'epoch')} {percent(both.estimate)}, α alone {alpha_alone}, epochs alone (at α={strong:g}) "
        f"{epochs_alone}",
        f"ratio {ratio(both.estimate)}, {p_text(both.p)}, {seeds_text(both.estimate.n)}",
        f"F° is {number(before, 3)} and {number(after, 3)}. At α={weak:g} the longer training has {ratio(longer)} the "
        f"perplexity of the shorter{'' if longer.above(1) is False else ': there it is α that does it, not length'}.",
    )


@claim("C6", "Are gradient norms stable, and do they fall as β rises?")
def _c6(suite: Suite) -> Finding:
    """Two parts, on the global norm before clipping. Supported: both. Not supported: either fails.

    Falls: the slope over β of the run's mean norm has its 95% interval over seeds below 0 (fails: above 0).
    Stable: no step of any of these runs is above ten times its run's mean. One seed decides neither.
    """
    names = list(NAMED_POLYNOMIALS)
    rows = aligned(suite, names, trained("gradient_norm_mean"))
    if not rows[0]:
        return without(*names)
    runs = [run for name in names for run in suite.by_name[name].values()]
    spike = max(run.trained("gradient_norm_max") / run.trained("gradient_norm_mean") for run in runs)
    clipped = mean_interval(run.trained("clipped_share") for run in runs).mean
    slope = trend(rows)
    return Finding(
        decide([_goes(slope, rising=False), spike <= _SPIKE if len(rows[0]) > 1 else None]),
        f"mean norm before clipping {listed(names, rows, 4)}; largest step {spike:.1f} times its run's mean; "
        f"{clipped:.0%} of steps clipped",
        f"quintic ÷ linear {ratio(paired_ratio(rows[-1], rows[0]).estimate)}, slope over β {_slope(slope, 4)}, "
        f"{seeds_text(len(rows[0]))}",
        f"Stable: no step above {_SPIKE:g} times its run's mean; that clipped norms are below the threshold is none.",
    )


@claim("C7", "Can moderate locality improve perplexity?")
def _c7(suite: Suite) -> Finding:
    """Supported: some localised model's gap has its interval (95%, divided among the models) below 1.

    Not supported: every one's 95% interval is above 1.
    """
    gaps = {name: gap(suite, name).estimate for name in suite.localised}
    gaps = {name: estimate for name, estimate in gaps.items() if not math.isnan(estimate.mean)}
    if not gaps:
        return without("distributed", "any localised architecture")
    level = 1 - SIGNIFICANT / len(gaps)
    better = [name for name in gaps if gap(suite, name, level).estimate.above(1) is False]
    worse = all(estimate.above(1) for estimate in gaps.values())
    best = min(gaps, key=lambda name: gaps[name].mean)
    return Finding(
        decide([not worse, bool(better) or None]),
        f"the smallest gap is {best}'s, {number(gaps[best].mean, 3)}×; resolved below 1: {', '.join(better) or 'none'}",
        f"{best} {ratio(gaps[best])}, {seeds_text(gaps[best].n)}",
        "A gap below 1 is better than fine-tuning without a penalty, on the same data, budget and seed.",
    )


@claim("C8", "Do semantic blocks cost less than fixed ones at equal fidelity?")
def _c8(suite: Suite) -> Finding:
    """The gap of each semantic partitioner ÷ that of its control, in the middle of the F° that both reach.

    Control: the fixed blocks whose chance F° is nearest, and within a twentieth of its own; larger blocks are cheaper
    whatever they are made of, so a partitioner without one decides nothing. Both reach: in every seed, with the same
    schedules; the gap between runs is interpolated, nothing is extrapolated. And again at equal F° above chance,
    (F° − chance)/(1 − chance), for what is left of a difference in size. Supported: most of those with a control
    have both ratios' intervals (95%, divided among them) below 1; one kind of block does not speak for all. Not
    supported: every one has a control and either ratio's 95% interval above 1.
    """
    return semantic_against_fixed(suite)


def layers_kept(lambdas: Sequence[float]) -> int:
    """Return how many layers keep more than `KEPT` of their capacity, which is (1−λ)² of that without locality."""
    return sum((1 - value) ** 2 > KEPT for value in lambdas)


@claim("C9", "Do 90% of the layers keep more than 95% of their capacity (1−λ)² for β ≥ 4?")
def _c9(suite: Suite) -> Finding:
    """Arithmetic: the share of layers with (1−λ(ℓ))² > 0.95 for β = 4 and 5, with 12 layers and with this model's.

    Supported: each of these shares is at least 0.9; otherwise not supported.
    """
    held, figures = [], []
    for layers in dict.fromkeys((12, len(suite.runs[0].lambdas))):
        for name in ("quartic", "quintic"):
            kept = layers_kept(parse_schedule(name)(layers))
            held.append(kept / layers >= MOST)
            figures.append(f"{name}, {kept} of {counted(layers, 'layer')} ({kept / layers:.0%})")
    bound = 1 - KEPT**0.5
    return Finding(
        decide([all(held)]),
        "; ".join(figures),
        "none: arithmetic",
        f"95% of (1−λ)² needs λ < {bound:.4f}: in a deep model the first {bound ** (1 / 4):.0%} of the depth at β = 4, "
        f"{bound ** (1 / 5):.0%} at β = 5, and 90% only from β ≈ {math.log(bound) / math.log(MOST):.0f} on.",
    )


@claim("C10", "Do localised late layers show what the output rested on?")
def _c10(suite: Suite) -> Finding:
    """Audits of every run on the same held-out passages: ρ of sources' mass (no sink) with what losing one costs.

    Passages × seeds are the sample: intervals and p are of a crossed bootstrap. Supported: in every localised row, with
    sources removed in place and with the text closed up, the interval of ρ is above 0.7; ρ is above that of λ=0 on the
    same blocks (p < 0.05 after Holm over rows and both ways), above that of the model before localising, and above
    what recency, being the last block, and length have. Not supported: any of these is reversed.
    """
    return faithful(suite)
