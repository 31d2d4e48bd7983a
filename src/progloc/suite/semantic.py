"""Semantic blocks against fixed ones at equal locality: what claim C8 asks."""

from __future__ import annotations

__all__ = ["is_fixed", "semantic_against_fixed"]

from progloc.suite.comparisons import measured
from progloc.suite.frontier import Matched, above_chance, matched, paired_curves
from progloc.suite.rendering import number, p_text, ratio
from progloc.suite.results import Suite
from progloc.suite.statistics import LEVEL
from progloc.suite.verdicts import SIGNIFICANT, Finding, decide, seeds_text, without

_LOCALITIES = {"F°": measured("fidelity_no_sink"), "F° above chance": above_chance}


def is_fixed(blocks: str) -> bool:
    """Whether a partitioner cuts by count alone."""
    return blocks.partition(":")[0] == "fixed"


def _at_equal_locality(suite: Suite, blocks: str, fixed: str, confidence: float) -> dict[str, Matched | None]:
    """Return a partitioner's gap against that of fixed blocks, at equal F° and at equal F° above chance."""
    return {
        label: matched(*paired_curves(suite, blocks, fixed, locality), confidence)
        for label, locality in _LOCALITIES.items()
    }


def _above_one(found: Matched | None) -> bool | None:
    return None if found is None else found.ratio.estimate.above(1)


def _figure(label: str, found: Matched | None) -> str:
    if found is None:
        return f"no {label} that both reach"
    return f"{number(found.ratio.estimate.mean, 3)}× at {label} {number(found.level, 3)}"


def _interval(label: str, found: Matched) -> str:
    reached = f"both reach {label} {number(found.low, 3)} to {number(found.high, 3)}"
    return f"{ratio(found.ratio.estimate)}, {p_text(found.ratio.p)} ({reached})"


def semantic_against_fixed(suite: Suite) -> Finding:
    """Return what claim C8 finds; the rule is the claim's docstring."""
    fixed = next(filter(is_fixed, suite.partitioners), None)
    semantic = [blocks for blocks in suite.partitioners if not is_fixed(blocks)]
    if fixed is None or not semantic:
        return without("several schedules with fixed blocks", "the same with semantic blocks")
    plain = {blocks: _at_equal_locality(suite, blocks, fixed, LEVEL) for blocks in semantic}
    strict = 1 - SIGNIFICANT / len(semantic)
    cheaper = [
        blocks
        for blocks in semantic
        if all(_above_one(each) is False for each in _at_equal_locality(suite, blocks, fixed, strict).values())
    ]
    dearer = [blocks for blocks in semantic if True in map(_above_one, plain[blocks].values())]
    shown = {blocks: {label: each for label, each in plain[blocks].items() if each} for blocks in semantic}
    seeds = [each.ratio.estimate.n for found in shown.values() for each in found.values()]
    intervals = [
        f"{blocks}: {'; '.join(_interval(label, each) for label, each in found.items())}"
        for blocks, found in shown.items()
        if found
    ]
    return Finding(
        decide([len(dearer) < len(semantic), bool(cheaper) or None]),
        f"gap ÷ that of {fixed}: "
        + "; ".join(
            f"{blocks} {', '.join(_figure(label, each) for label, each in found.items())}"
            for blocks, found in plain.items()
        ),
        ". ".join([*intervals, seeds_text(min(seeds))]) if seeds else "—",
        f"Cheaper at equal F° and at equal F° above chance: {', '.join(cheaper) or 'none that is resolved'}; dearer at "
        f"one of them: {', '.join(dearer) or 'none that is resolved'}. Larger blocks have more F° by chance alone.",
    )
