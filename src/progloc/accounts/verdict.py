"""The verdict on an answer's picture; docs/audit.md states the rule, with these constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from progloc.accounts.schema import OPERATORS, Correlation, Faithfulness, LeadingSource
from progloc.report.formats import counted
from progloc.report.statistics import holm

SUPPORTED, WEAK, NOT_FAITHFUL, TOO_LITTLE = VERDICTS = ("supported", "weak", "not faithful here", "too little to tell")
DECIDES = (NOT_FAITHFUL, TOO_LITTLE, WEAK, SUPPORTED)
"""The verdict is the first of these that any reason gives."""

LEAST = 0.01
"""Nats per token that the answer has to lose without any source; below that there is nothing to explain."""
SOURCES, SOURCES_FOR_ONE = 10, 5
"""Sources that a ranking takes; and that it takes to judge by one source which has nearly all of the effect."""
ALONE, CLEAR = 0.8, 2.0
"""The share of the effect above which one source is judged alone; the ratio of picture shares that is a clear lead."""
GOOD_RHO, GOOD_OVERLAP = 0.5, 0.5
POOR_OVERLAP, POOR_BEATEN = 0.25, 0.5
ONE_BY_ONE = 0.1
"""The sum of single effects, as a share of the effect of losing all sources, below which no ranking is judged."""
SETS, CHANCE = 199, 0.05
"""Random sets that a p-value takes; the p, after Holm's correction, below which a result is not chance."""

IN_WORDS = {"removal": "Removed in place", "deletion": "Deleted, so that the rest moves up"}
BASELINE_WORDS = {"recency": "how late they come", "last_block": "being the last", "length": "their length"}
Reason = tuple[str, str]
"""The verdict that it gives, and a sentence."""


def verdict(tests: Faithfulness | None, answer_tokens: int) -> tuple[str, tuple[str, ...]]:
    """Return the verdict and its reasons in sentences, the decisive ones first.

    The mass without the sink is compared, over sources, with the effects of two operators: removal with positions kept,
    and deletion. It has to hold under both. An operator under which one source has nearly all of the effect is judged
    by whether the picture puts that source first; otherwise by the order of the sources, by the overlap of picture and
    effects, and by random sets. Where reasons give different verdicts, the first in `DECIDES` wins.

    Args:
        tests: results of the tests; None where the prompt has fewer than two sources.
        answer_tokens: n.
    """
    reasons = sorted(_reasons(tests, answer_tokens), key=lambda reason: DECIDES.index(reason[0]))
    return reasons[0][0], tuple(sentence for _, sentence in reasons)


def _reasons(tests: Faithfulness | None, answer_tokens: int) -> Iterator[Reason]:
    if tests is None:
        yield TOO_LITTLE, "The prompt has fewer than two whole blocks before the answer, so nothing could be tested."
        return
    together = tests.log_prob - tests.log_prob_without
    one_by_one = sum(source.nats / source.effect_share for source in tests.leading if source.effect == OPERATORS[0])
    if together < LEAST * answer_tokens:
        yield TOO_LITTLE, f"The answer hardly rests on the prompt: without it, all of it loses {together:.3f} nats."
        return
    if tests.sources < SOURCES_FOR_ONE:
        yield TOO_LITTLE, f"The prompt has {tests.sources} whole blocks before the answer; it takes {SOURCES}."
        return
    if one_by_one < ONE_BY_ONE * together:
        sums = f"{together:.2f} nats together, and {one_by_one:.2f} one by one"
        yield TOO_LITTLE, f"Losing its blocks costs the answer {sums}: they stand in for each other."
        return
    dominant = {source.effect: source for source in tests.leading if source.effect_share > ALONE}
    yield from (_judge_dominant(source, tests.sources) for source in dominant.values())
    by_order = [effect for effect in OPERATORS if effect not in dominant]
    if by_order and tests.sources < SOURCES:
        yield TOO_LITTLE, f"The order of {counted(tests.sources, 'block')} tells too little; it takes {SOURCES}."
    elif by_order:
        yield from _judge_order(tests, by_order)


def _judge_dominant(leading: LeadingSource, sources: int) -> Reason:
    """Judge by whether the picture puts the source first that has nearly all of the effect."""
    own, rival = leading.picture_share, leading.rival_share
    judgement = SUPPORTED if own >= CLEAR * rival else NOT_FAITHFUL if rival >= CLEAR * own else WEAK
    return judgement, (
        f"{IN_WORDS[leading.effect]}, one block has {leading.effect_share:.0%} of the effect. The picture gives it "
        f"{own:.0%}, and no other more than {rival:.0%}; that it comes first by chance is 1 in {sources}."
    )


def _judge_order(tests: Faithfulness, effects: Sequence[str]) -> Iterator[Reason]:
    """Judge by the order of the blocks, by where the effects are, and by random sets."""
    correlations = [tests.correlation(effect=effect) for effect in effects]
    p_random, *p_orders = holm([tests.p_random, *(correlation.p_shuffled for correlation in correlations)])
    for correlation, p in zip(correlations, p_orders, strict=True):
        yield from _judge_correlation(tests, correlation, p)
    if tests.beaten is None or len(tests.random) < SETS:
        yield TOO_LITTLE, f"There were {len(tests.random)} random sets of as many tokens; it takes {SETS}."
        return
    beaten = round(tests.beaten * len(tests.random))
    yield (
        NOT_FAITHFUL if tests.beaten <= POOR_BEATEN else SUPPORTED if _significant(p_random) else WEAK,
        f"Losing the blocks it shows first costs {tests.top.effect:.2f} nats, more than losing {beaten} of "
        f"{len(tests.random)} random sets of as many tokens; {_p_text(p_random)}.",
    )


def _judge_correlation(tests: Faithfulness, own: Correlation, p: float | None) -> Iterator[Reason]:
    """Judge by the picture's correlation with one effect, by those of the baselines, and by the overlap."""
    words = IN_WORDS[own.effect]
    if own.rho is None or own.low is None or own.high is None or own.overlap is None:
        yield TOO_LITTLE, f"{words}, or in the picture, the blocks do not differ."
        return
    if own.rho <= 0:
        judgement, cost = NOT_FAITHFUL if own.high < GOOD_RHO else TOO_LITTLE, "do not cost"
    elif own.rho < GOOD_RHO:
        judgement, cost = WEAK, "only partly cost"
    else:
        judgement, cost = SUPPORTED if _significant(p) else WEAK, "cost"
    if own.low <= 0 < own.rho:
        judgement = TOO_LITTLE
    rho = f"{own.rho:.2f} [{own.low:.2f}, {own.high:.2f}]"
    yield judgement, f"{words}, blocks with more attention {cost} more to lose: rank correlation {rho}, {_p_text(p)}."
    rivals = [(tests.correlation(name, own.effect).rho, label) for name, label in BASELINE_WORDS.items()]
    best, label = max((rho, label) for rho, label in rivals if rho is not None)
    if best >= own.rho:
        yield WEAK, f"{words}, ordering blocks by {label} does as well: {best:.2f}."
    by_length = tests.correlation("length", own.effect).overlap or 0.0
    good = own.overlap >= GOOD_OVERLAP and own.overlap > by_length
    yield (
        NOT_FAITHFUL if own.overlap < POOR_OVERLAP else SUPPORTED if good else WEAK,
        f"{words}, {own.overlap:.0%} of the picture is where that makes the answer less likely; by length alone "
        f"it would be {by_length:.0%}.",
    )


def _significant(p: float | None) -> bool:
    return p is not None and p < CHANCE


def _p_text(p: float | None) -> str:
    return "p unknown" if p is None else f"corrected p = {p:.3f}"
