"""The one verdict on an answer's picture, by a rule that can be read here and in docs/audit.md."""

from __future__ import annotations

__all__ = ["NOT_FAITHFUL", "SUPPORTED", "VERDICTS", "WEAK", "verdict"]

from progloc.auditing.report import Faithfulness

SUPPORTED, WEAK, NOT_FAITHFUL = VERDICTS = ("supported", "weak", "not faithful here")
LEAST = 0.01
"""Nats a token that an answer has to lose with its whole prompt for there to be anything to explain."""
GOOD_RHO, GOOD_OVERLAP, GOOD_BEATEN = 0.5, 0.5, 0.9
POOR_RHO, POOR_OVERLAP, POOR_BEATEN = 0.0, 0.25, 0.5


def verdict(found: Faithfulness | None, answer_tokens: int) -> tuple[str, tuple[str, ...]]:
    """Return the verdict, and its reasons in sentences, those that decided first.

    - *not faithful here* where any of these holds: blocks with more mass are not those that cost more to lose
      (ρ ≤ 0); less than a quarter of the picture is where the effects are; the blocks that it shows first cost no
      more to lose than half of random sets of as many tokens.
    - *supported* where all of these hold: ρ ≥ 0.5; at least half of the picture is where the effects are, and more
      than of one that shades blocks by their length; the blocks shown first cost more than 9 in 10 random sets.
    - *weak* otherwise, and where there is nothing to tell it by.

    All by the mass without the sink, against deletion.

    Args:
        found: what was tested; None where the prompt has too few blocks.
        answer_tokens: n.
    """
    if found is None:
        return WEAK, ("The prompt has fewer than two blocks that can be taken away, so nothing could be tested.",)
    whole = (found.log_prob - found.log_prob_without) / answer_tokens
    if whole < LEAST:
        return WEAK, (
            f"The answer hardly rests on the prompt: without it, a token of the answer loses {whole:.3f} nats.",
        )
    if found.overlap is None or found.overlap_by_length is None:
        return WEAK, ("Deleting any one block makes the answer no less likely, so there is nothing to compare with.",)
    poor: list[str] = []
    middling: list[str] = []
    good: list[str] = []
    rho = found.correlation().rho
    if rho is not None:
        cost = "do not cost" if rho <= POOR_RHO else "cost" if rho >= GOOD_RHO else "only partly cost"
        said = f"Blocks with more mass {cost} more to lose: rank correlation {rho:.2f}."
        (poor if rho <= POOR_RHO else good if rho >= GOOD_RHO else middling).append(said)
    beyond_length = found.overlap > found.overlap_by_length
    said = (
        f"{found.overlap:.0%} of the picture is where deleting text does make the answer less likely; "
        f"shading by length alone would reach {found.overlap_by_length:.0%}."
    )
    fine = found.overlap >= GOOD_OVERLAP and beyond_length
    (poor if found.overlap < POOR_OVERLAP else good if fine else middling).append(said)
    if found.beaten is not None:
        said = (
            f"Losing the blocks it shows first costs {found.top.effect:.2f} nats, more than losing "
            f"{round(found.beaten * len(found.random))} of {len(found.random)} random sets of as many tokens."
        )
        (poor if found.beaten <= POOR_BEATEN else good if found.beaten >= GOOD_BEATEN else middling).append(said)
    if poor:
        return NOT_FAITHFUL, (*poor, *middling, *good)
    if middling:
        return WEAK, (*middling, *good)
    return SUPPORTED, tuple(good)
