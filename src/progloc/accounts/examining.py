"""One model looked at on one text: trace, take parts away, compare, decide."""

from __future__ import annotations

__all__ = ["examine", "planned"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from progloc.accounts.agreement import baselines, correlation, leading_source, random_sets, top_blocks
from progloc.accounts.effects import KNOCKOUTS_AT_ONCE, Reading, knocked_out, passes_of, read, removals
from progloc.accounts.pictures import by_token, margins, of_answer
from progloc.accounts.schema import (
    EFFECTS,
    OPERATORS,
    PICTURES,
    Correlation,
    Cost,
    Examination,
    Faithfulness,
    Picture,
    Removal,
    TestedBlock,
    TracedLayer,
)
from progloc.accounts.text import AuditedText
from progloc.accounts.verdict import verdict
from progloc.blocks import FloatArray


def planned(text: AuditedText, most_blocks: int, sets: int) -> Cost:
    """Return what `examine` takes at most."""
    whole, answer = len(text.ids), len(text.answer_ids)
    if len(text.sources) < 2:
        return Cost(1, whole)
    tested = _ranked(text, most_blocks) + (text.cut is not None)
    together = 3 + sets  # all sources, the first ones, the others, and what is drawn
    knockouts = 2 * tested
    passes = 1 + -(-knockouts // KNOCKOUTS_AT_ONCE) + passes_of(text, tested + together) + passes_of(text, tested)
    return Cost(passes, whole * (1 + 2 * tested + together) + knockouts * (answer + 1))


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
    guaranteed, inside = margins(traced)
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


def _ranked(text: AuditedText, most_blocks: int) -> int:
    """Return how many sources are ranked; a block that goes on into the answer is measured besides."""
    return min(len(text.sources), max(2, most_blocks - (text.cut is not None)))


def _chosen(text: AuditedText, masses: FloatArray, count: int) -> list[int]:
    """Return which sources are ranked: all, or those with the most mass and as many spread over the rest."""
    order = sorted(text.sources, key=lambda block: -masses[block])
    if len(order) == count:
        return text.sources
    half = -(-count // 2)
    top, rest = order[:half], sorted(order[half:])
    spread = np.linspace(0, len(rest) - 1, count - len(top)).round().astype(int)
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
    if len(text.sources) < 2:
        return (), None
    ranked = _chosen(text, picture.mass_no_sink, _ranked(text, most_blocks))
    log_prob = float(reading.log_probs.sum())
    blocks = ranked if text.cut is None else [*ranked, text.cut]
    sizes = text.prompt_sizes[ranked].astype(float)
    masses = {name: getattr(picture, name)[ranked] for name in PICTURES}
    top = top_blocks(masses["mass_no_sink"].tolist(), sizes.tolist())
    drawn = random_sets(sizes.tolist(), top, sets, seed)
    first = [ranked[place] for place in top]
    together = [
        text.sources,
        first,
        [block for block in text.sources if block not in first],
        *([ranked[place] for place in places] for places in drawn),
    ]
    progress(
        passes_of(text, len(blocks) + 3 + sets) - passes_of(text, len(blocks) + len(together))
    )  # there are no more
    alone = [[block] for block in blocks]
    removed = removals(model, text, reading.past, [*alone, *together], progress=progress)
    deleted = removals(model, text, reading.past, alone, closed=True, progress=progress)
    cuts = [(block, renormalise) for renormalise in (True, False) for block in blocks]
    cut = knocked_out(model, text, reading.past, layers, cuts, progress)
    effects = log_prob - np.array([removed[: len(alone)], deleted, *np.reshape(cut, (2, -1))])  # (4, N)
    everything, shown, rest, *at_random = (
        Removal(tuple(chosen), int(text.prompt_sizes[chosen].sum()), log_prob - without)
        for chosen, without in zip(together, removed[len(alone) :], strict=True)
    )
    by_effect = dict(zip(EFFECTS, effects[:, : len(ranked)], strict=True))
    leading = (leading_source(effect, ranked, masses["mass_no_sink"], by_effect[effect]) for effect in OPERATORS)
    return (
        tuple(
            TestedBlock(block, whole=block != text.cut, **dict(zip(EFFECTS, each, strict=True)))
            for block, each in zip(blocks, effects.T.tolist(), strict=True)
        ),
        Faithfulness(
            log_prob=log_prob,
            log_prob_without=log_prob - everything.effect,
            correlations=tuple(_correlations(masses, by_effect, sizes, seed)),
            leading=tuple(each for each in leading if each is not None),
            top=shown,
            rest=rest,
            random=tuple(at_random),
            sources=len(ranked),
        ),
    )


def _correlations(
    masses: Mapping[str, FloatArray], effects: Mapping[str, FloatArray], sizes: FloatArray, seed: int
) -> Iterator[Correlation]:
    """Compare every picture with every effect, and pictures that know nothing with those of the operators."""
    for name, mass in masses.items():
        for effect in EFFECTS:
            yield correlation(name, effect, mass, effects[effect], sizes, seed)
    for name, mass in baselines(sizes).items():
        for effect in OPERATORS:
            yield correlation(name, effect, mass, effects[effect], sizes, seed)
