"""The one verdict on an answer's picture, by a rule that can be read here and in docs/audit.md."""

from __future__ import annotations

__all__ = ["NOT_FAITHFUL", "SUPPORTED", "TOO_LITTLE", "VERDICTS", "WEAK", "verdict"]

from collections.abc import Iterator, Sequence

from progloc.accounts.schema import OPERATORS, Correlation, Faithfulness, LeadingSource
from progloc.report.statistics import holm

SUPPORTED, WEAK, NOT_FAITHFUL, TOO_LITTLE = VERDICTS = ("supported", "weak", "not faithful here", "too little to tell")
DECIDES = (NOT_FAITHFUL, TOO_LITTLE, WEAK, SUPPORTED)
"""The first of these that any reason comes to is the verdict."""

LEAST = 0.01
"""Nats a token that an answer has to lose with all of its sources for there to be anything to explain."""
SOURCES, SOURCES_FOR_ONE = 10, 5
"""The least that are ranked; and that one is told from, where it alone has the effect."""
ALONE, CLEAR = 0.8, 2.0
"""The share of the effect above which a source has it alone; how many times another's share of the picture is clear."""
GOOD_RHO, GOOD_OVERLAP = 0.5, 0.5
POOR_OVERLAP, POOR_BEATEN = 0.25, 0.5
ONE_BY_ONE = 0.1
"""The least part of what losing all sources costs that losing them one by one has to come to, for that to tell."""
SETS, CHANCE = 199, 0.05
"""Random sets that a p-value takes; the p, after Holm's correction, below which it was not chance."""

IN_WORDS = {"removal": "Removed in place", "deletion": "Deleted, so that the rest moves up"}
BASELINE_WORDS = {"recency": "how late they come", "last_block": "being the last", "length": "their length"}
Reason = tuple[str, str]
"""What it comes to, and a sentence."""


def verdict(found: Faithfulness | None, answer_tokens: int) -> tuple[str, tuple[str, ...]]:
    """Return the verdict, and its reasons in sentences, those that decided first.

    It is judged by the mass without the sink, over sources, against the effects of two operators, removal at kept
    positions and deletion; a picture has to hold under both. For either:

    - Where one source has more than 80% of the effect, ranks of the others are noise. *Supported*: the picture puts it
      first, with at least twice the share of any other. *Not faithful here*: another is first, with at least twice
      its share. *Weak* in between, and *too little to tell* with fewer than 5 sources, where chance would do.
    - *Too little to tell* where the answer needs its sources but none alone: one by one they cost less than a tenth.
    - Otherwise *too little to tell* with fewer than 10 sources, where the interval of ρ holds 0 and ρ is above 0, or
      where it holds 0.5 as well as ρ ≤ 0, or where fewer than 199 random sets can be drawn.
    - *Not faithful here* where ρ ≤ 0 and its interval ends below 0.5; where less than a quarter of the picture is where
      the effects are; or where the blocks that it shows first cost no more to lose than half of the random sets.
    - *Supported* where all of these hold: ρ ≥ 0.5, and more than that of recency, last block and length; at least half
      of the picture is where the effects are, and more than of one that shades blocks by length; and neither ρ nor
      what the blocks shown first cost is chance, p < 0.05 after Holm's correction over these tests.
    - *Weak* otherwise.

    Where reasons come to different verdicts, *not faithful here* goes before *too little to tell*, that before *weak*,
    and that before *supported*.

    Args:
        found: what was tested; None where the prompt has fewer than two sources.
        answer_tokens: n.
    """
    reasons = sorted(_reasons(found, answer_tokens), key=lambda reason: DECIDES.index(reason[0]))
    return reasons[0][0], tuple(sentence for _, sentence in reasons)


def _reasons(found: Faithfulness | None, answer_tokens: int) -> Iterator[Reason]:
    if found is None:
        yield TOO_LITTLE, "The prompt has fewer than two whole blocks before the answer, so nothing could be tested."
        return
    together = found.log_prob - found.log_prob_without
    one_by_one = sum(each.nats / each.effect_share for each in found.leading if each.effect == OPERATORS[0])
    if together < LEAST * answer_tokens:
        yield TOO_LITTLE, f"The answer hardly rests on the prompt: without it, all of it loses {together:.3f} nats."
        return
    if found.sources < SOURCES_FOR_ONE:
        yield TOO_LITTLE, f"The prompt has {found.sources} whole blocks before the answer; it takes {SOURCES}."
        return
    if one_by_one < ONE_BY_ONE * together:
        sums = f"{together:.2f} nats together, and {one_by_one:.2f} one by one"
        yield TOO_LITTLE, f"Losing its blocks costs the answer {sums}: they stand in for each other."
        return
    leading = {each.effect: each for each in found.leading if each.effect_share > ALONE}
    yield from (_of_one(each, found.sources) for each in leading.values())
    by_order = [effect for effect in OPERATORS if effect not in leading]
    if by_order and found.sources < SOURCES:
        yield TOO_LITTLE, f"The order of {found.sources} blocks tells too little; it takes {SOURCES}."
    elif by_order:
        yield from _of_all(found, by_order)


def _of_one(leading: LeadingSource, sources: int) -> Reason:
    """Judge by whether the picture puts the one source first that has the effect."""
    own, rival = leading.picture_share, leading.rival_share
    judged = SUPPORTED if own >= CLEAR * rival else NOT_FAITHFUL if rival >= CLEAR * own else WEAK
    return judged, (
        f"{IN_WORDS[leading.effect]}, one block has {leading.effect_share:.0%} of the effect. The picture gives it "
        f"{own:.0%}, and no other more than {rival:.0%}; that it comes first by chance is 1 in {sources}."
    )


def _of_all(found: Faithfulness, effects: Sequence[str]) -> Iterator[Reason]:
    """Judge by the order of the blocks, by where the effects are, and by random sets."""
    correlations = [found.correlation(effect=effect) for effect in effects]
    chance, *chances = holm([found.p_random, *(each.p_shuffled for each in correlations)])
    for each, p in zip(correlations, chances, strict=True):
        yield from _of_order(found, each, p)
    if found.beaten is None or len(found.random) < SETS:
        yield TOO_LITTLE, f"There were {len(found.random)} random sets of as many tokens; it takes {SETS}."
        return
    judged = NOT_FAITHFUL if found.beaten <= POOR_BEATEN else SUPPORTED if _below(chance) else WEAK
    sentence = (
        f"Losing the blocks it shows first costs {found.top.effect:.2f} nats, more than losing "
        f"{round(found.beaten * len(found.random))} of {len(found.random)} random sets of as many tokens; {_p(chance)}."
    )
    yield judged, sentence


def _of_order(found: Faithfulness, own: Correlation, p: float | None) -> Iterator[Reason]:
    words = IN_WORDS[own.effect]
    if own.rho is None or own.low is None or own.high is None or own.overlap is None:
        yield TOO_LITTLE, f"{words}, or in the picture, the blocks do not differ."
        return
    if own.rho <= 0:
        judged, cost = NOT_FAITHFUL if own.high < GOOD_RHO else TOO_LITTLE, "do not cost"
    elif own.rho < GOOD_RHO:
        judged, cost = WEAK, "only partly cost"
    else:
        judged, cost = SUPPORTED if _below(p) else WEAK, "cost"
    if own.low <= 0 < own.rho:
        judged = TOO_LITTLE
    interval = f"{own.rho:.2f} [{own.low:.2f}, {own.high:.2f}]"
    yield judged, f"{words}, blocks with more attention {cost} more to lose: rank correlation {interval}, {_p(p)}."
    rivals = [(found.correlation(name, own.effect).rho, said) for name, said in BASELINE_WORDS.items()]
    best, said = max((rho, said) for rho, said in rivals if rho is not None)
    if best >= own.rho:
        yield WEAK, f"{words}, ordering blocks by {said} does as well: {best:.2f}."
    by_length = found.correlation("length", own.effect).overlap or 0.0
    fine = own.overlap >= GOOD_OVERLAP and own.overlap > by_length
    sentence = (
        f"{words}, {own.overlap:.0%} of the picture is where that makes the answer less likely; by length alone "
        f"it would be {by_length:.0%}."
    )
    yield NOT_FAITHFUL if own.overlap < POOR_OVERLAP else SUPPORTED if fine else WEAK, sentence


def _below(chance: float | None) -> bool:
    return chance is not None and chance < CHANCE


def _p(chance: float | None) -> str:
    return "p unknown" if chance is None else f"corrected p = {chance:.3f}"
