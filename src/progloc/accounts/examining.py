"""Examine one model on one text: trace its attention, take blocks away, compare, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from progloc.accounts.agreement import baselines, correlation, leading_source, random_sets, top_blocks
from progloc.accounts.effects import KNOCKOUTS_AT_ONCE, Reading, knocked_out, passes_of, read, removals
from progloc.accounts.pictures import PICTURES, Picture, margin_masses, pictures
from progloc.accounts.schema import (
    EFFECTS,
    OPERATORS,
    Cost,
    Examination,
    Faithfulness,
    Removal,
    TestedBlock,
    TracedLayer,
)
from progloc.accounts.text import AuditedText
from progloc.accounts.verdict import verdict
from progloc.blocks import FloatArray
from progloc.measures.passes import locality_of


@dataclass(frozen=True)
class Tests:
    """How a picture is tested."""

    most_blocks: int
    """The most blocks that are taken away one by one."""
    random_sets: int
    """How many random sets of blocks are taken away."""
    seed: int
    """Of all random draws."""


def estimate_cost(text: AuditedText, tests: Tests) -> Cost:
    """Return the most that `examine` costs."""
    length, answer = len(text.ids), len(text.answer_ids)
    if len(text.sources) < 2:
        return Cost(1, length)
    tested = _count_ranked(text, tests.most_blocks) + (text.cut is not None)
    together = 3 + tests.random_sets  # all sources, the top ones, the rest, and random sets
    knockouts = 2 * tested
    passes = 1 + -(-knockouts // KNOCKOUTS_AT_ONCE) + passes_of(text, tested + together) + passes_of(text, tested)
    return Cost(passes, length * (1 + 2 * tested + together) + knockouts * (answer + 1))


def examine(
    name: str,
    model: PreTrainedModel,
    text: AuditedText,
    layers: Sequence[int],
    tests: Tests,
    progress: Callable[[int], None],
) -> Examination:
    """Trace a model's attention on a text, and test the picture. The caller sets evaluation mode and the dial.

    Args:
        name: the model's name, for the result.
        model: a localised model.
        text: prompt and answer.
        layers: the layers to trace.
        tests: how the picture is tested.
        progress: called with the number of forward passes just done.
    """
    reading = read(model, text, layers)
    progress(1)
    traced = [reading.traced[layer] for layer in layers]
    by_token, by_head, sinks = pictures(traced)  # (n, layers, H, M), (layers, H, M), (n, layers, H)
    by_layer = by_head.mean(1)
    picture = by_layer.mean(0)
    tested, faithfulness = _test_picture(model, text, layers, reading, picture, tests, progress)
    judgement, reasons = verdict(faithfulness, len(text.answer_ids))
    lambdas = locality_of(model).lambdas
    guaranteed, inside = margin_masses(traced)
    return Examination(
        model=name,
        verdict=judgement,
        reasons=reasons,
        picture=picture,
        sink_mass=float(sinks.mean()),
        layers=tuple(
            TracedLayer(
                layer, lambdas[layer], by_layer[index], float(sinks[:, index].mean()), by_head[index],
                tuple(sinks[:, index].mean(0).tolist()), guaranteed[index], inside[index],
            )
            for index, layer in enumerate(layers)
        ),
        answer=by_token.mean(2),
        answer_sink_mass=sinks.mean(2),
        answer_heads=by_token,
        log_probs=tuple(reading.log_probs.tolist()),
        tested=tested,
        faithfulness=faithfulness,
    )  # fmt: skip


def _count_ranked(text: AuditedText, most_blocks: int) -> int:
    """Return how many sources are ranked. A block that continues into the answer is tested, but not ranked."""
    return min(len(text.sources), max(2, most_blocks - (text.cut is not None)))


def _choose_ranked(text: AuditedText, masses: FloatArray, count: int) -> list[int]:
    """Return which sources are ranked: all, or those with the most mass and as many spread evenly over the rest."""
    order = sorted(text.sources, key=lambda block: -masses[block])
    if len(order) == count:
        return text.sources
    half = -(-count // 2)
    top, rest = order[:half], sorted(order[half:])
    spread = np.linspace(0, len(rest) - 1, count - len(top)).round().astype(int)
    return sorted([*top, *(rest[index] for index in spread)])


def _test_picture(
    model: PreTrainedModel,
    text: AuditedText,
    layers: Sequence[int],
    reading: Reading,
    picture: Picture,
    tests: Tests,
    progress: Callable[[int], None],
) -> tuple[tuple[TestedBlock, ...], Faithfulness | None]:
    """Take blocks away, one by one and in sets, and compare the effects with the picture."""
    if len(text.sources) < 2:
        return (), None
    ranked = _choose_ranked(text, picture.mass_no_sink, _count_ranked(text, tests.most_blocks))
    blocks = ranked if text.cut is None else [*ranked, text.cut]
    sizes = text.prompt_sizes[ranked].astype(float)
    masses = {name: getattr(picture, name)[ranked] for name in PICTURES}
    top_indices = top_blocks(masses["mass_no_sink"].tolist(), sizes.tolist())
    random_indices = random_sets(sizes.tolist(), top_indices, tests.random_sets, tests.seed)
    top = [ranked[index] for index in top_indices]
    together = [
        text.sources,
        top,
        [block for block in text.sources if block not in top],
        *([ranked[index] for index in indices] for indices in random_indices),
    ]
    # passes of the estimate that are not needed: there may be fewer random sets than asked for
    progress(passes_of(text, len(blocks) + 3 + tests.random_sets) - passes_of(text, len(blocks) + len(together)))
    alone = [[block] for block in blocks]
    removed = removals(model, text, reading.past, [*alone, *together], progress=progress)
    deleted = removals(model, text, reading.past, alone, closed=True, progress=progress)
    cuts = [(block, renormalise) for renormalise in (True, False) for block in blocks]
    cut = knocked_out(model, text, reading.past, layers, cuts, progress)
    log_prob = float(reading.log_probs.sum())
    effects = log_prob - np.array([removed[: len(alone)], deleted, *np.reshape(cut, (2, -1))])  # (4, N)
    all_sources, top_removal, rest, *random_removals = (
        Removal(tuple(removed_blocks), int(text.prompt_sizes[removed_blocks].sum()), log_prob - without)
        for removed_blocks, without in zip(together, removed[len(alone) :], strict=True)
    )
    by_effect = dict(zip(EFFECTS, effects[:, : len(ranked)], strict=True))
    leading = (leading_source(effect, ranked, masses["mass_no_sink"], by_effect[effect]) for effect in OPERATORS)
    compared = [(*pair, EFFECTS) for pair in masses.items()] + [(*pair, OPERATORS) for pair in baselines(sizes).items()]
    tested = tuple(
        TestedBlock(block, whole=block != text.cut, **dict(zip(EFFECTS, block_effects, strict=True)))
        for block, block_effects in zip(blocks, effects.T.tolist(), strict=True)
    )
    return tested, Faithfulness(
        log_prob=log_prob,
        log_prob_without=log_prob - all_sources.effect,
        correlations=tuple(
            correlation(name, effect, mass, by_effect[effect], sizes, tests.seed)
            for name, mass, effect_names in compared
            for effect in effect_names
        ),
        leading=tuple(source for source in leading if source is not None),
        top=top_removal,
        rest=rest,
        random=tuple(random_removals),
        sources=len(ranked),
    )
