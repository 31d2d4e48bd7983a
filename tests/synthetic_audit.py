"""An audit made of invented numbers, of any size: the shapes and sums are an audit's, the findings are nobody's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from scipy.stats import spearmanr

from progloc.accounts.agreement import baselines, leading_source, overlap
from progloc.accounts.pictures import PICTURES, Picture
from progloc.accounts.schema import (
    EFFECTS,
    OPERATORS,
    Audit,
    Correlation,
    Cost,
    Examination,
    Faithfulness,
    Removal,
    TestedBlock,
    TracedLayer,
)
from progloc.blocks import FloatArray, IntArray

LEAFLET = """Package leaflet: information for the patient. Velorin 20 mg tablets.

Read all of this leaflet before you start taking this medicine. Keep it, for you may need to read it again. If you \
have any further questions, ask your doctor or pharmacist.

What Velorin is for. Velorin lowers high blood pressure. It widens the blood vessels, so that the heart has less \
work to do.

Before you take it. Do not take Velorin if you are allergic to it or if you are in the last six months of pregnancy. \
Tell your doctor if you have kidney disease. Potassium tablets and salt substitutes must not be taken with it: \
together they can raise the potassium in your blood to a dangerous level.

How to take it. The usual dose is one tablet a day, in the morning, with a glass of water. Patients over 75 start \
with half a tablet. If you forget a dose, leave it out; never take two tablets at once.

Possible side effects. Most people have none. A dry cough is common, and so is dizziness in the first days. Stop \
taking Velorin and see a doctor at once if your face or tongue swells.

How to store it. Keep it out of the reach of children, below 25 °C and in the original package.

Question: My mother is 80 and takes potassium tablets. How should she begin with Velorin?
"""
ANSWER = " She should not begin before asking her doctor: potassium tablets must not be taken with it. At 80 she would \
start with half a tablet a day."
AGREEMENT = {"supported": 1.0, "weak": 0.5, "not faithful here": 0.0, "too little to tell": 0.3}
"""How much of a tested block's effect is its mass; the rest is noise."""


def synthetic_audit(
    prompt: str = LEAFLET,
    answer: str = ANSWER,
    *,
    tokens: int | None = None,
    answer_tokens: int | None = None,
    blocks: int | None = None,
    layers: int = 2,
    heads: int = 3,
    most_blocks: int = 24,
    verdict: str = "supported",
    base: bool = False,
    causal: bool = True,
    seed: int = 0,
) -> Audit:
    """Return an audit whose tokens are the words of a text.

    Args:
        prompt: the text before the answer.
        answer: what follows.
        tokens: of the prompt, which is repeated or cut to that many; None: as it is.
        answer_tokens: likewise, of the answer.
        blocks: of the prompt, of equal length; None: its sentences. The answer is one more.
        layers: the last ones, traced, of a model that has ten times as many.
        heads: H.
        most_blocks: those with the most mass are tested, at most so many.
        verdict: of the localised model; effects follow the mass accordingly.
        base: whether the model before localising was audited too; it is not faithful.
        causal: whether the partitioner is said to be.
        seed: other numbers.
    """
    written, said = _words(prompt, tokens), _words(answer, answer_tokens)
    before = _sentences(written) if blocks is None else _equal(len(written), blocks)
    ids = np.concatenate([before, np.full(len(said), before[-1] + 1)])
    rng = np.random.default_rng(seed)

    def examination(model: str, verdict: str) -> Examination:
        return _examination(model, verdict, ids, len(written), layers, heads, most_blocks, rng)

    return Audit(
        examined=examination("SmolLM2-135M, localised", verdict),
        base=examination("SmolLM2-135M", "not faithful here") if base else None,
        prompt="".join(written),
        answer="".join(said),
        given=False,
        tokens=(*written, *said),
        block_ids=tuple(ids.tolist()),
        answer_start=len(written),
        blocks="sentences" if blocks is None else f"fixed:{-(-len(written) // blocks)}",
        causal=causal,
        schedule="quintic",
        dial=0.0,
        cost=Cost(passes=2 * min(most_blocks, int(before[-1]) + 1) + 12, tokens=40 * len(ids)),
        seconds=12.3,
        environment={
            "progloc": "0.0-synthetic", "torch": "0", "transformers": "0", "python": "0", "platform": "nowhere",
            "device": "cpu", "cpus": 2, "git": {"commit": "f00d", "dirty": True}, "date": "2000-01-01T00:00:00+00:00",
        },
    )  # fmt: skip


def _words(text: str, count: int | None) -> list[str]:
    """Cut into words, each with the blank before it."""
    words = re.findall(r"\s*\S+|\s+$", text)
    return words if count is None else list(itertools.islice(itertools.cycle(words), count))


def _sentences(words: Sequence[str]) -> IntArray:
    ends = np.array([word.endswith((".", "?", "!", ":")) for word in words])
    return np.concatenate([[0], np.cumsum(ends[:-1])])


def _equal(tokens: int, blocks: int) -> IntArray:
    return np.arange(tokens) * blocks // tokens


def _attention(
    ids: IntArray, start: int, layers: int, heads: int, rng: np.random.Generator
) -> tuple[Picture, FloatArray]:
    """Of every token of the answer, layer and head: a picture (n, L, H, M) and the mass of the sink (n, L, H)."""
    count = int(ids.max()) + 1  # M blocks of the prompt, and the answer
    shape = (len(ids) - start, layers, heads, count)
    share = softmax(2 * rng.normal(size=count) + rng.normal(size=shape), axis=-1)
    sink = rng.uniform(0.2, 0.6, shape[:-1])
    mass = share * (1 - sink[..., None])
    mass[..., 0] += sink
    value = share * rng.uniform(0.5, 1.5, count)
    return Picture(np.stack([mass, share, value / value.sum(-1, keepdims=True)])), sink


def _examination(
    model: str,
    verdict: str,
    ids: IntArray,
    start: int,
    layers: int,
    heads: int,
    most_blocks: int,
    rng: np.random.Generator,
) -> Examination:
    by_head, sink = _attention(ids, start, layers, heads, rng)
    layer_heads = by_head.mean(0)  # (L, H, M)
    whole = by_head.mean((0, 1, 2))
    guaranteed = rng.uniform(0.1, 0.5, layers)
    strengths = np.linspace(0.55, 1.0, layers)
    prompt_blocks = int(ids[start - 1]) + 1
    order = np.argsort(-whole.mass_no_sink[:prompt_blocks])[:most_blocks]
    tested = tuple(_tested(int(block), whole, AGREEMENT[verdict], rng) for block in sorted(order.tolist()))
    return Examination(
        model=model,
        verdict=verdict,
        reasons=(
            f"Invented reason for “{verdict}”: ρ of mass and deletion and its interval would stand here.",
            "A second one: losing the blocks with the most mass costs more than losing random ones of that size.",
        ),
        picture=whole,
        sink_mass=float(sink.mean()),
        layers=tuple(
            TracedLayer(
                layer=9 * layers + depth,
                strength=round(float(strengths[depth]), 3),
                picture=layer_heads[depth].mean(0),
                sink_mass=float(sink[:, depth].mean()),
                heads=layer_heads[depth],
                head_sink_mass=tuple(sink[:, depth].mean(0).tolist()),
                guaranteed_mass=float(guaranteed[depth]),
                in_block_mass=float(guaranteed[depth] + rng.uniform(0.0, 0.4)),
            )
            for depth in range(layers)
        ),
        answer=by_head.mean(2),
        answer_sink_mass=sink.mean(2),
        answer_heads=by_head,
        log_probs=tuple((-rng.exponential(0.7, len(ids) - start)).tolist()),
        tested=tested,
        faithfulness=_faithfulness(tested, whole, ids, rng) if len(tested) > 1 else None,
    )


def _tested(block: int, whole: Picture, agreement: float, rng: np.random.Generator) -> TestedBlock:
    effect = 20 * agreement * whole.mass_no_sink[block] + (1.05 - agreement) * rng.normal()
    return TestedBlock(
        block=block,
        removal=float(effect),
        deletion=float(0.9 * effect + 0.1 * rng.normal()),
        knockout=float(0.7 * effect + 0.1 * rng.normal()),
        knockout_raw=float(0.8 * effect + 0.1 * rng.normal()),
    )


def _faithfulness(
    tested: Sequence[TestedBlock], whole: Picture, ids: IntArray, rng: np.random.Generator
) -> Faithfulness:
    by_mass = sorted(tested, key=lambda each: -whole.mass_no_sink[each.block])
    few = max(1, len(tested) // 5)

    def removal(each: Sequence[TestedBlock]) -> Removal:
        chosen = tuple(sorted(one.block for one in each))
        return Removal(chosen, int(np.isin(ids, chosen).sum()), sum(one.removal for one in each))

    top, rest = removal(by_mass[:few]), removal(by_mass[few:])
    drawn = [rng.choice(len(tested) - few, few, replace=False) for _ in range(8)]
    log_prob = -0.7 * float(len(ids))
    blocks, sizes = [each.block for each in tested], np.bincount(ids)[[each.block for each in tested]].astype(float)
    effects = {effect: np.array([getattr(each, effect) for each in tested]) for effect in EFFECTS}
    pictures = {name: getattr(whole, name)[blocks] for name in PICTURES}
    leading = (leading_source(each, blocks, pictures["mass_no_sink"], effects[each]) for each in OPERATORS)
    return Faithfulness(
        log_prob=log_prob,
        log_prob_without=log_prob - max(1.0, 1.2 * (top.effect + rest.effect)),
        correlations=tuple(
            _correlation(name, effect, mass, effects[effect], sizes)
            for of, kinds in ((pictures, EFFECTS), (baselines(sizes), OPERATORS))
            for name, mass in of.items()
            for effect in kinds
        ),
        leading=tuple(each for each in leading if each is not None),
        top=top,
        rest=rest,
        random=tuple(removal([by_mass[few + i] for i in chosen]) for chosen in drawn),
        sources=len(tested),
    )


def _correlation(picture: str, effect: str, mass: FloatArray, effects: FloatArray, sizes: FloatArray) -> Correlation:
    shared = overlap(mass, effects)
    if len(mass) < 3 or mass.min() == mass.max():
        return Correlation(picture, effect, None, None, None, None, None, shared)
    found = spearmanr(mass, effects, alternative="greater")
    for_size = None if picture == "length" else float(spearmanr(mass / sizes, effects / sizes).statistic)
    half = 1.96 / np.sqrt(max(len(mass) - 3, 1))  # Fisher's interval in place of the bootstrap
    middle = np.arctanh(np.clip(found.statistic, -0.999, 0.999))
    low, high = np.tanh([middle - half, middle + half])
    return Correlation(
        picture, effect, *(float(x) for x in (found.statistic, low, high, found.pvalue)), for_size, shared
    )
