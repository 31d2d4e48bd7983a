"""One model looked at on one text: trace, take parts away, compare, decide."""

from __future__ import annotations

__all__ = ["examine", "planned"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from progloc.auditing.agreement import correlation, overlap, random_sets, top_blocks
from progloc.auditing.effects import KNOCKOUTS_AT_ONCE, Reading, deletions, knocked_out, read
from progloc.auditing.pictures import by_token, margins, of_answer
from progloc.auditing.report import (
    PICTURES,
    Cost,
    Examination,
    Faithfulness,
    Picture,
    Removal,
    TestedBlock,
    TracedLayer,
)
from progloc.auditing.text import AuditedText
from progloc.auditing.verdict import verdict
from progloc.blocks import FloatArray

EFFECTS = ("deletion", "knockout", "knockout_raw")


def planned(text: AuditedText, most_blocks: int, sets: int) -> Cost:
    """Return what `examine` takes at most."""
    whole, answer = len(text.ids), len(text.answer_ids)
    tested = min(len(text.removable), most_blocks)
    if tested < 2:
        return Cost(1, whole)
    removals = 3 + sets  # all blocks, the first ones, the others, and what is drawn
    knockouts = 2 * tested
    batches = -(-knockouts // KNOCKOUTS_AT_ONCE)
    return Cost(1 + tested + batches + removals, whole * (1 + tested + removals) + knockouts * (answer + 1))


def examine(
    name: str,
    model: Any,
    text: AuditedText,
    layers: Sequence[int],
    *,
    most_blocks: int,
    sets: int,
    seed: int,
    progress: Callable[[int], None],
) -> Examination:
    """Look at a model on a text, and test what is seen. The model is in evaluation mode, and dialled as it is to be.

    Args:
        name: what the model is called.
        model: a localised model.
        text: the text.
        layers: those traced.
        most_blocks: how many blocks are taken away, at most.
        sets: how many random sets of blocks.
        seed: of what is drawn.
        progress: called with a number of forward passes done.
    """
    reading = read(model, text, layers)
    progress(1)
    traced = [reading.traced[layer] for layer in layers]
    heads, sinks = by_token(traced)  # (n, layers, H, M), (n, layers, H)
    whole = of_answer(traced)  # (layers, H, M)
    by_layer = whole.mean(1)
    picture = by_layer.mean(0)
    tested, faithfulness = _tested(
        model, text, layers, reading, picture, most_blocks=most_blocks, sets=sets, seed=seed, progress=progress
    )
    found, reasons = verdict(faithfulness, len(text.answer_ids))
    lambdas = model.locality.lambdas
    guaranteed, inside = margins(traced, text)
    return Examination(
        model=name,
        verdict=found,
        reasons=reasons,
        picture=picture,
        sink_mass=float(sinks.mean()),
        layers=tuple(
            TracedLayer(
                layer, lambdas[layer], by_layer[n], float(sinks[:, n].mean()), whole[n],
                tuple(sinks[:, n].mean(0).tolist()), guaranteed[n], inside[n],
            )
            for n, layer in enumerate(layers)
        ),
        answer=heads.mean(2),
        answer_sink_mass=sinks.mean(2),
        answer_heads=heads,
        log_probs=tuple(reading.log_probs.tolist()),
        tested=tested,
        faithfulness=faithfulness,
    )  # fmt: skip


def _chosen(text: AuditedText, masses: FloatArray, most: int) -> list[int]:
    """Return which blocks are taken away: all, or those with the most mass and as many spread over the rest."""
    blocks = text.removable
    if len(blocks) <= most:
        return blocks
    order = sorted(blocks, key=lambda block: -masses[block])
    top, rest = order[: most // 2], sorted(order[most // 2 :])
    spread = np.linspace(0, len(rest) - 1, most - len(top)).round().astype(int)
    return sorted([*top, *(rest[place] for place in spread)])


def _tested(
    model: Any,
    text: AuditedText,
    layers: Sequence[int],
    reading: Reading,
    picture: Picture,
    *,
    most_blocks: int,
    sets: int,
    seed: int,
    progress: Callable[[int], None],
) -> tuple[tuple[TestedBlock, ...], Faithfulness | None]:
    """Take blocks away, one by one and in sets, and compare with the picture."""
    blocks = _chosen(text, picture.mass_no_sink, most_blocks)
    if len(blocks) < 2:
        return (), None
    log_prob = float(reading.log_probs.sum())

    cuts = [(block, renormalise) for renormalise in (True, False) for block in blocks]
    cut: list[float] = []
    for start in range(0, len(cuts), KNOCKOUTS_AT_ONCE):
        cut += knocked_out(model, text, reading.past, layers, cuts[start : start + KNOCKOUTS_AT_ONCE])
        progress(1)

    sizes = text.prompt_sizes[blocks]
    top = top_blocks(picture.mass_no_sink[blocks].tolist(), sizes.tolist())
    others = [place for place in range(len(blocks)) if place not in top]
    drawn = random_sets(others, sizes.tolist(), int(sizes[top].sum()), sets, seed)
    progress(sets - len(drawn))  # planned for, and there are no more
    first = [blocks[place] for place in top]
    taken = [
        *([block] for block in blocks),
        text.removable,
        first,
        [block for block in text.removable if block not in first],
        *([blocks[place] for place in places] for places in drawn),
    ]
    left = deletions(model, text, reading.past, taken, progress)
    removals = [
        Removal(tuple(chosen), int(text.prompt_sizes[chosen].sum()), log_prob - without)
        for chosen, without in zip(taken, left, strict=True)
    ]
    alone, (everything, shown, rest, *at_random) = removals[: len(blocks)], removals[len(blocks) :]
    effects = np.stack([[each.effect for each in alone], *(log_prob - np.asarray(cut)).reshape(2, -1)])  # (3, N)

    masses = {name: getattr(picture, name)[blocks] for name in PICTURES}
    return (
        tuple(TestedBlock(block, *effects[:, n].tolist()) for n, block in enumerate(blocks)),
        Faithfulness(
            log_prob=log_prob,
            log_prob_without=log_prob - everything.effect,
            correlations=tuple(
                correlation(name, effect, masses[name], effects[row], sizes.astype(float), seed)
                for name in PICTURES
                for row, effect in enumerate(EFFECTS)
            ),
            top=shown,
            rest=rest,
            random=tuple(at_random),
            overlap=overlap(masses["mass_no_sink"], effects[0]),
            overlap_by_length=overlap(sizes.astype(float), effects[0]),
        ),
    )
