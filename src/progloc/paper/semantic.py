"""Semantic blocks against fixed ones of the same size at equal locality: what claim C8 asks.

Size alone moves the price: larger blocks hold more attention by chance, and are cheaper. So a semantic partitioner is
compared with nothing but fixed blocks whose chance F° is its own, its control.
"""

from __future__ import annotations

import math

import numpy as np

from progloc.blocks import is_fixed
from progloc.paper.comparisons import gap, measured
from progloc.paper.frontier import Matched, above_chance, matched, paired_curves
from progloc.paper.suite import Figure, Suite
from progloc.paper.verdicts import SIGNIFICANT, Finding, decide, seeds_text, without
from progloc.report.formats import number, p_text, ratio
from progloc.report.statistics import LEVEL

MATCHED = 0.05
"""How far the logarithms of two chance levels of F° may be apart in blocks of one size."""
LOCALITIES: dict[str, Figure] = {"F°": measured("fidelity_no_sink"), "F° above chance": above_chance}
"""At what two partitioners are compared: equal F°, and equal F° beyond chance."""


def chance_level(suite: Suite, blocks: str) -> float:
    """Return F° of uniform attention on a partitioner's blocks, on validation: the measure of their size."""
    return next(run for run in suite.compared if run.blocks == blocks).measure("chance_fidelity_no_sink")


def control_of(suite: Suite, blocks: str) -> str | None:
    """Return the fixed partitioner whose chance F° is nearest; None where none is within `MATCHED`.

    Chance is that on the training text, where the plan has chosen a control by it; otherwise that on validation.
    """
    planned = next((control for control in suite.plan.get("controls", []) if control["blocks"] == blocks), None)
    if planned is not None and planned["control"] in suite.partitioners:
        own = planned["chance_fidelity_no_sink"]
        levels = {planned["control"]: planned["control_chance_fidelity_no_sink"]}
    else:
        own = chance_level(suite, blocks)
        levels = {other: chance_level(suite, other) for other in suite.partitioners if is_fixed(other)}
    apart = {other: abs(math.log(level / own)) for other, level in levels.items()}
    nearest = min(apart, key=apart.__getitem__, default=None)
    return nearest if nearest is not None and apart[nearest] <= MATCHED else None


def size_correlations(suite: Suite) -> dict[str, float]:
    """Return Pearson's r of log gap with log chance F° over the partitioners, by schedule; of three or more alone."""
    points: dict[str, dict[str, tuple[float, float]]] = {}
    for run in suite.compared:
        if not run.is_distributed:
            price = gap(suite, run.name).estimate.mean
            point = math.log(chance_level(suite, run.blocks)), math.log(price)
            points.setdefault(run.schedule, {})[run.blocks] = point
    samples = {schedule: np.array(list(by_blocks.values())) for schedule, by_blocks in points.items()}
    return {
        schedule: float(np.corrcoef(sample.T)[0, 1])
        for schedule, sample in samples.items()
        if len(sample) > 2 and np.isfinite(sample).all() and sample.std(0).all()
    }


def at_equal_locality(suite: Suite, blocks: str, locality: Figure, confidence: float = LEVEL) -> Matched | None:
    """Return a partitioner's gap against its control's where both are as local; None where both are so nowhere."""
    control = control_of(suite, blocks)
    return None if control is None else matched(*paired_curves(suite, blocks, control, locality), confidence)


def size_alone(suite: Suite) -> str:
    """Write how closely the price goes with size alone, as a sentence after others; nothing with few partitioners."""
    correlations = ", ".join(f"{schedule} {number(r, 3)}" for schedule, r in size_correlations(suite).items())
    if not correlations:
        return ""
    return f" r of log gap with log chance F° over all {len(suite.partitioners)} partitioners: {correlations}."


def semantic_against_fixed(suite: Suite) -> Finding:
    """Return what claim C8 finds; the rule is the claim's docstring."""
    semantic = [blocks for blocks in suite.partitioners if not is_fixed(blocks)]
    if len(suite.partitioners) < 2 or not semantic:
        return without("several schedules with semantic blocks", "the same with fixed blocks of their size")
    controls = {blocks: control for blocks in semantic if (control := control_of(suite, blocks)) is not None}

    def level(blocks: str) -> str:
        return number(chance_level(suite, blocks), 3)

    if not controls:
        return Finding(
            "cannot tell from this run",
            "no fixed control of matched size; F° by chance: "
            + ", ".join(f"{blocks} {level(blocks)}" for blocks in suite.partitioners),
            "—",
            f"Larger blocks are cheaper whatever they are made of.{size_alone(suite)}",
        )

    def both(blocks: str, confidence: float) -> dict[str, Matched | None]:
        return {label: at_equal_locality(suite, blocks, figure, confidence) for label, figure in LOCALITIES.items()}

    strict = 1 - SIGNIFICANT / len(controls)
    matches = {blocks: both(blocks, LEVEL) for blocks in controls}
    cheaper = [blocks for blocks in controls if all(_above_one(m) is False for m in both(blocks, strict).values())]
    dearer = [blocks for blocks in controls if any(map(_above_one, matches[blocks].values()))]
    alone = [blocks for blocks in semantic if blocks not in controls]
    intervals = {
        blocks: "; ".join(_interval(label, match) for label, match in by_label.items() if match is not None)
        for blocks, by_label in matches.items()
    }
    seeds = [match.ratio.estimate.n for by_label in matches.values() for match in by_label.values() if match]
    shown = [f"{blocks}: {text}" for blocks, text in intervals.items() if text]
    return Finding(
        decide([len(dearer) < len(semantic), 2 * len(cheaper) > len(controls) or None]),
        "gap ÷ that of fixed blocks of the same size: "
        + "; ".join(
            f"{blocks} ({level(blocks)} by chance) ÷ {control} ({level(control)}) "
            + ", ".join(_figure(label, match) for label, match in matches[blocks].items())
            for blocks, control in controls.items()
        ),
        ". ".join([*shown, seeds_text(min(seeds))]) if seeds else "—",
        f"Cheaper at equal F° and at equal F° above chance: {', '.join(cheaper) or 'none that is resolved'}; dearer at "
        f"one of them: {', '.join(dearer) or 'none that is resolved'}; without a control of matched size: "
        f"{', '.join(alone) or 'none'}.{size_alone(suite)}",
    )


def _above_one(match: Matched | None) -> bool | None:
    return None if match is None else match.ratio.estimate.above(1)


def _figure(label: str, match: Matched | None) -> str:
    if match is None:
        return f"no {label} that both reach"
    return f"{number(match.ratio.estimate.mean, 3)}× at {label} {number(match.level, 3)}"


def _interval(label: str, match: Matched) -> str:
    reached = f"both reach {label} {number(match.low, 3)} to {number(match.high, 3)}"
    return f"{ratio(match.ratio.estimate)}, {p_text(match.ratio.p)} ({reached})"
