"""`account`: what each named source was worth to an answer, by leaving it out.

With isolation the effects are exact: what a source says reaches the answer through the reader's attention and by no
other way, and leaving it out is the same as cutting it off (method.md §14). What isolation costs on this very answer is
measured beside it.
"""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from progloc.accounts.shapley import shapley_values, subsets_needed
from progloc.accounts.source_cache import SourceCache
from progloc.accounts.sources import AnswerValues, SourcedText, lay_out, split_sources, tokenizer_of
from progloc.accounts.text import write_answer
from progloc.blocks import TextFromIds, encode_after
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.generation import check_context
from progloc.hub import name_of
from progloc.isolating import isolate as isolated
from progloc.measures.passes import evaluating, locality_of

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
INTERACTING = 6
"""Of how many sources, those worth most, all pairs are tested."""
MATTERS = 0.1
"""The share of the largest from which a source, or an interaction, is worth a word."""
STANDS_IN = 2
"""Two sources stand in for each other where leaving out both costs so many times what leaving out either does."""

NO_PRICE = 0.05
"""Nats up to which the plain model finds an answer as likely: a factor of 1.05."""


@dataclass(frozen=True)
class SourceAccount:
    """What one source was worth, in nats of log p(answer): positive where it made the answer more likely."""

    name: str
    text: str
    tokens: int
    effect: float
    """log p(answer) with all sources less that without this one."""
    shapley: float | None
    """Its fair share of what all sources were worth together; None where it was not asked for."""
    shapley_error: float | None
    """The standard error of that estimate; 0 where it is exact."""
    mass: float | None
    """The answer's mean attention on it, over layers, heads and tokens; None where layers see a part of the text."""


@dataclass(frozen=True)
class Interaction:
    """How much more two sources are worth together than apart: below 0 each says in part what the other says."""

    first: str
    second: str
    nats: float


@dataclass(frozen=True)
class Account:
    """What an answer rested on, source by source."""

    sources: tuple[SourceAccount, ...]
    """In the order in which they were given."""
    interactions: tuple[Interaction, ...]
    """Of the sources worth most, all pairs; none without Shapley values."""
    model: str
    """The folder or hub name that it was had from."""
    question: str
    answer: str
    given: bool
    """Whether the answer was given, and not written by the model."""
    isolated: bool
    """Whether sources were kept apart, so that effects are exact; else a source's words may live on in later ones."""
    log_prob: float
    """log p(answer) with all sources, nats."""
    log_prob_without: float
    """log p(answer) without any source."""
    log_prob_plain: float
    """log p(answer) with all sources by the plain model, which does not isolate."""
    answer_tokens: int
    passes: int
    """Subsets of the sources that the answer was read with."""
    seconds: float
    environment: dict[str, Any]

    @property
    def effects(self) -> dict[str, float]:
        """Each source's effect, nats."""
        return {source.name: source.effect for source in self.sources}

    @property
    def shapley(self) -> dict[str, float | None]:
        """Each source's Shapley value, nats."""
        return {source.name: source.shapley for source in self.sources}

    @property
    def mass(self) -> dict[str, float | None]:
        """The answer's mean attention on each source."""
        return {source.name: source.mass for source in self.sources}

    @property
    def worth(self) -> dict[str, float]:
        """Each source's Shapley value, or its effect where there are none, the largest first."""
        worth = {source.name: source.effect if source.shapley is None else source.shapley for source in self.sources}
        return dict(sorted(worth.items(), key=lambda item: -item[1]))

    @property
    def price_nats(self) -> float:
        """What isolation cost this answer: log p(answer) plain less isolated, nats in all; 0 without isolation."""
        return self.log_prob_plain - self.log_prob

    def sentence(self) -> str:
        """Return in plain words what the answer rests on: by fair shares where there are any, else by effects."""
        first, *others = self.worth
        most, effect = self.worth[first], self.effects[first]
        if most <= 0:
            return "No source makes the answer more likely."
        without = f": without it the answer is {_times(effect)} less likely" if effect > 0 else ""
        # a fair share alone is not enough: without some sources that have one, the answer is more likely
        further = [
            name
            for name in others
            if self.worth[name] > MATTERS * most and (self.effects[name] > 0 or self._stand_in(name))
        ][:3]
        rest = f"Next: {', '.join(further)}." if further else "Nothing else matters much."
        return f"The answer rests most on {first}{without}. {rest}{self._in_place_of(first)}"

    def price_sentence(self) -> str:
        """Return in plain words what keeping the sources apart cost this answer."""
        if not self.isolated:
            return (
                "The sources could see each other: what one says may live on in a later one, and leaving it out shows "
                "only what no other carries."
            )
        exact = (
            "These effects are exact: the sources could not see each other, so leaving one out takes away all that it "
            "said."
        )
        nats = f"({abs(self.price_nats):.2g} nats, {abs(self.price_nats) / self.answer_tokens:.2g} a token)"
        if abs(self.price_nats) < NO_PRICE:
            return f"{exact} That cost nothing: the plain model finds the answer as likely {nats}."
        compared = f"{_times(abs(self.price_nats))} {'more' if self.price_nats > 0 else 'less'} likely"
        cost = "The price" if self.price_nats > 0 else "That cost nothing"
        return f"{exact} {cost}: the plain model, whose sources see each other, finds this answer {compared} {nats}."

    def _stand_in(self, name: str) -> tuple[Interaction, float] | None:
        """Return a source and another that can stand in for it, with what leaving out both costs, in nats."""
        pairs = [pair for pair in self.interactions if name in (pair.first, pair.second)]
        pair = min(pairs, key=lambda pair: pair.nats, default=None)
        if pair is None:
            return None
        alone = self.effects[pair.first], self.effects[pair.second]
        loss = sum(alone) - pair.nats
        if loss < STANDS_IN * max(*alone, MATTERS * (self.log_prob - self.log_prob_without)):
            return None
        return pair, loss

    def _in_place_of(self, name: str) -> str:
        """Return which source can stand in for another, in words, or nothing."""
        stand_in = self._stand_in(name)
        if stand_in is None:
            return ""
        pair, loss = stand_in
        return (
            f" {pair.first} and {pair.second} can stand in for each other: without both the answer is "
            f"{_times(loss)} less likely."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the account as JSON holds it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "question": self.question,
            "answer": self.answer,
            "answer_given": self.given,
            "answer_tokens": self.answer_tokens,
            "isolated": self.isolated,
            "sources": [vars(source) for source in self.sources],
            "interactions": [vars(interaction) for interaction in self.interactions],
            "log_prob": self.log_prob,
            "log_prob_without": self.log_prob_without,
            "log_prob_plain": self.log_prob_plain,
            "price_nats": self.price_nats,
            "passes": self.passes,
            "seconds": round(self.seconds, 2),
            "environment": self.environment,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Account:
        """Return the account that `to_dict` returned as this."""
        plain = {field.name for field in fields(cls)} - {"sources", "interactions", "given"}
        return cls(
            sources=tuple(SourceAccount(**source) for source in data["sources"]),
            interactions=tuple(Interaction(**pair) for pair in data["interactions"]),
            given=data["answer_given"],
            **{name: data[name] for name in plain},
        )

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_frame(self) -> pd.DataFrame:
        """Return a row a source, the one worth most first."""
        import pandas as pd

        rows = pd.DataFrame([vars(source) for source in self.sources])
        return rows.set_index("name").loc[list(self.worth)]

    def to_html(self) -> str:
        """Return a page of its own, which loads nothing."""
        from progloc.accounts.account_page import page  # which imports this module

        return page(self)

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" sandbox style="width: 100%; height: 36em; border: 0"></iframe>'


def _times(nats: float) -> str:
    """Return by what factor a loss of nats makes an answer less likely, in words."""
    factor = math.exp(min(nats, 7))
    return (
        "more than 1,000 times" if factor > 1000 else f"{factor:.0f} times" if factor >= 10 else f"{factor:.2g} times"
    )


def account(
    model: PreTrainedModel,
    sources: Sequence[tuple[str, str]],
    question: str,
    answer: str | None = None,
    *,
    isolate: bool = True,
    cache: SourceCache | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 64,
    shapley: int = 64,
    seed: int = 0,
    announce: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Account:
    """Account for an answer: what each source was worth to it, exactly, and what that exactness cost.

    The model reads the sources one after the other, then the question, and writes the answer or is given one. Then
    sources are left out, their positions kept, and the fall of log p(answer) is each one's effect.

    Args:
        model: from `localize` or `load`; it needs no training.
        sources: pairs of a name and a text, at least one.
        question: what stands after them; the answer follows it.
        answer: joined to the question as it is; by default the model writes one, greedily.
        isolate: keep the sources apart while they are read and answered, strictly in every layer. Without, effects are
            of the plain model, where a source's words may live on in what later sources made of them.
        cache: where keys and values of the sources are taken from, and kept for the next account.
        tokenizer: the model's; by default the one given to `localize`, else that of its folder.
        max_new_tokens: the most tokens that the model writes.
        shapley: how many subsets Shapley values may take (all are taken, and the values exact, where they are no more);
            0 leaves them and the interactions out.
        seed: of the draws.
        announce: called before the tests with how many subsets they ask for; each is read once.
        progress: called with how many subsets were just read, and with 0 at each token that the model writes.

    Raises:
        ProglocError: a model that was not localised, two sources of one name, an empty text, numbers out of range, or
            more tokens than the model's context.
    """
    locality_of(model)
    names, texts = split_sources(sources)
    if answer == "":
        raise ProglocError("the answer is empty; expected some text, or none for the model to write it")
    for name, value, least in (("max_new_tokens", max_new_tokens, 1), ("shapley", shapley, 0)):
        if value < least:
            raise ProglocError(f"{name}={value}; expected a whole number ≥ {least}")
    if 0 < shapley < 4:
        raise ProglocError(f"shapley={shapley}; expected at least 4 subsets, or 0 for none")
    if cache is not None and (cache.model is not model or not isolate):
        raise ProglocError(
            "the cache is of another model; expected SourceCache(model)" if isolate else
            "a cache has sources that were read apart; expected isolate=True, or no cache"
        )  # fmt: skip
    tokenizer = tokenizer_of(model, tokenizer)
    started = time.monotonic()
    announce, progress = announce or (lambda _: None), progress or (lambda _: None)
    n = len(names)
    pairs = math.comb(min(INTERACTING, n), 2) if shapley else 0
    text = lay_out(tokenizer, texts, question)
    with evaluating(model):
        text = _answered(model, tokenizer, text, question, answer, isolate, cache, max_new_tokens, lambda: progress(0))
        announce(2 + n + pairs + (subsets_needed(n, shapley) if shapley else 0))
        values = AnswerValues(
            model, text, layers=None if isolate else 0, past=None if cache is None else cache.past(text),
            progress=progress,
        )  # fmt: skip
        everyone = torch.ones(1, n, dtype=torch.bool)
        with_all, without_any = values(torch.cat([everyone, ~everyone])).tolist()
        effects = with_all - values(~torch.eye(n, dtype=torch.bool)).numpy()
        worth: Sequence[float | None] = [None] * n
        errors: Sequence[float | None] = [None] * n
        interactions: tuple[Interaction, ...] = ()
        if shapley:
            estimate = shapley_values(
                lambda subsets: values(torch.from_numpy(subsets)).numpy(), with_all, without_any, effects,
                budget=shapley, seed=seed,
            )  # fmt: skip
            worth, errors = estimate.values.tolist(), estimate.standard_errors.tolist()
            interactions = _interactions(values, names, with_all, effects.tolist(), estimate.values.tolist())
        mass = values.mass()
        plain = with_all
        if isolate:
            plain = float(AnswerValues(model, text, layers=0).all_tokens().sum())
    counts = torch.bincount(text.roles[text.roles >= 0], minlength=n).tolist()
    masses = [None] * n if mass is None else mass.tolist()
    return Account(
        tuple(map(SourceAccount, names, texts, counts, effects.tolist(), worth, errors, masses)),
        interactions,
        model=name_of(model),
        question=question,
        answer=TextFromIds(tokenizer).added(text.ids[: text.answer_start].tolist(), text.answer_ids.tolist()),
        given=answer is not None,
        isolated=isolate,
        log_prob=with_all,
        log_prob_without=without_any,
        log_prob_plain=plain,
        answer_tokens=len(text.answer_ids),
        passes=values.read,
        seconds=time.monotonic() - started,
        environment=describe_environment(),
    )


def _answered(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: SourcedText,
    question: str,
    answer: str | None,
    isolate: bool,
    cache: SourceCache | None,
    max_new_tokens: int,
    every_token: Callable[[], None],
) -> SourcedText:
    """Return a text with its answer, the one given or the one that the model writes."""
    if answer is not None:
        text = text.answered(encode_after(tokenizer, question, answer))
        check_context(model, len(text.ids))
        return text
    past = {} if cache is None else {"past_key_values": cache.past(text)}
    with isolated(model, text.roles, None if isolate else 0):
        return text.answered(write_answer(model, tokenizer, text.ids.tolist(), max_new_tokens, every_token, **past))


def _interactions(
    values: AnswerValues, names: Sequence[str], with_all: float, effects: Sequence[float], ranking: Sequence[float]
) -> tuple[Interaction, ...]:
    """Return the interactions of all pairs of the sources that a ranking puts furthest from 0."""
    tested = sorted(sorted(range(len(names)), key=lambda source: -abs(ranking[source]))[:INTERACTING])
    pairs = list(combinations(tested, 2))
    if not pairs:
        return ()
    there = torch.ones(len(pairs), len(names), dtype=torch.bool)
    there.scatter_(1, torch.tensor(pairs), False)
    losses = with_all - values(there)
    return tuple(
        Interaction(names[i], names[j], effects[i] + effects[j] - loss)
        for (i, j), loss in zip(pairs, losses.tolist(), strict=True)
    )
