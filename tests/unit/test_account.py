"""Accounts: effects against the plain definition, one whole pass a subset; what is written, shown and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from progloc import Account, LocalityConfig, ProglocError, account, isolate, localize
from progloc.accounts.account import NO_PRICE, Interaction, _times
from progloc.accounts.sources import AnswerValues, SourcedText, lay_out
from small_models import small_model
from toy_tokenizers import beginning_with
from wired_models import copier, words, words_tokenizer

NATS = 1e-4  # a token; what an account promises of cached sources
SOURCES = [
    ("a <cat>", "The cat walked because of it."),
    ("map", "New York is in the U.S. (1. The map)"),
    ("empty-handed", "don't! don't!"),
    ("again", "The cat walked because of it."),
]
QUESTION, ANSWER = "In the end, the", " cat walked."
TOKENIZER = beginning_with("byte_level", "<s>")


def model_of(family: str = "llama", **changes: Any) -> Any:
    return localize(
        small_model(family, vocab_size=400, max_position_embeddings=256, **changes),
        LocalityConfig("distributed", "fixed:4"),
        TOKENIZER,
    )


def layout() -> SourcedText:
    text = lay_out(TOKENIZER, [text for _, text in SOURCES], QUESTION)
    return text.answered(TOKENIZER(ANSWER, add_special_tokens=False)["input_ids"])


def log_prob(model: Any, present: list[bool], isolated: bool) -> float:
    """By definition: one pass over the whole text, without the tokens of the sources that are absent."""
    text = layout()
    there = torch.tensor([*present, True, True])[text.roles]  # −1 shared, −2 reader
    with torch.no_grad(), isolate(model, text.roles, 1 if isolated else 0):
        logits = model(text.ids[None], attention_mask=there[None].long(),
                       position_ids=torch.arange(len(text.ids))[None], use_cache=False).logits[0]  # fmt: skip
    written: Tensor = logits.log_softmax(-1)[text.answer_start - 1 : -1].gather(-1, text.answer_ids[:, None])
    return float(written.double().sum())


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "plain"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "minicpm3", "gemma", "mistral", "gemma3_text"])
def test_effects_are_those_of_one_whole_pass_a_subset(family: str, isolated: bool) -> None:
    model, n = model_of(family), len(SOURCES)
    result = account(model, SOURCES, QUESTION, ANSWER, isolate=isolated)
    everything = [True] * n
    assert result.log_prob == pytest.approx(log_prob(model, everything, isolated), abs=n * NATS)
    assert result.log_prob_without == pytest.approx(log_prob(model, [False] * n, isolated), abs=n * NATS)
    assert result.log_prob_plain == pytest.approx(log_prob(model, everything, False), abs=n * NATS)
    assert result.price_nats == (result.log_prob_plain - result.log_prob if isolated else 0)
    for number, source in enumerate(result.sources):
        without = log_prob(model, [place != number for place in range(n)], isolated)
        assert source.effect == pytest.approx(result.log_prob - without, abs=n * NATS)
    pair = result.interactions[0]
    assert (pair.first, pair.second) == ("a <cat>", "map")
    left = log_prob(model, [False, False, True, True], isolated)
    expected = result.effects[pair.first] + result.effects[pair.second] - (result.log_prob - left)
    assert pair.nats == pytest.approx(expected, abs=3 * n * NATS)
    assert sum(source.shapley or 0 for source in result.sources) == pytest.approx(
        result.log_prob - result.log_prob_without
    )
    assert max(abs(source.effect) for source in result.sources) > 0.01


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "plain"])
def test_isolation_around_an_account_does_not_reach_into_it(isolated: bool) -> None:
    model = model_of()
    expected = account(model, SOURCES, QUESTION, ANSWER, isolate=isolated)
    with isolate(model, [-1, 0, 0, 1], 0.5):
        result = account(model, SOURCES, QUESTION, ANSWER, isolate=isolated)
    assert result.effects == expected.effects
    assert result.log_prob_plain == expected.log_prob_plain


def test_what_is_told_beforehand_is_what_is_read() -> None:
    read: list[int] = []
    told: list[int] = []
    account(model_of(), SOURCES, QUESTION, ANSWER, announce=told.append, progress=read.append)
    assert told == [sum(read)] == [2 + 4 + 6 + 14]


def test_no_subset_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    as_it_was = AnswerValues._log_probs

    def counting(self: AnswerValues, stays: Tensor, *rest: Any) -> Tensor:
        rows.extend([len(stays)] * (not rest))
        return as_it_was(self, stays, *rest)

    monkeypatch.setattr(AnswerValues, "_log_probs", counting)
    result = account(model_of(), SOURCES, QUESTION, ANSWER)
    assert result.passes == 2**4  # every subset of four sources: those without one or two are among them
    assert sum(rows) == 2**4 + 1  # and the answer by the plain model


def test_without_shapley_values_there_are_none() -> None:
    result = account(model_of(), SOURCES, QUESTION, ANSWER, shapley=0)
    assert set(result.shapley.values()) == {None}
    assert result.interactions == ()
    assert result.passes == 2 + 4
    assert "fair share" not in result.to_html().lower()
    assert list(result.worth.values()) == sorted(result.effects.values(), reverse=True)


def test_an_answer_is_what_the_isolated_model_writes() -> None:
    model = model_of()
    result = account(model, SOURCES, QUESTION, max_new_tokens=6)
    assert not result.given
    assert result.answer_tokens == 6
    text = lay_out(TOKENIZER, [text for _, text in SOURCES], QUESTION)
    with isolate(model, text.roles):
        ids = model.generate(text.ids[None], attention_mask=torch.ones_like(text.ids)[None], max_new_tokens=6,
                             min_new_tokens=6, do_sample=False, pad_token_id=0)  # fmt: skip
    assert TOKENIZER.decode(ids[0, len(text.ids) :]) == result.answer
    assert account(model, SOURCES, QUESTION, max_new_tokens=6, isolate=False).answer != result.answer


def test_a_source_is_tokenised_alone_and_what_comes_first_is_shared() -> None:
    text = layout()
    assert text.roles[0] == -1
    assert text.roles.tolist().count(-1) == 1
    parts = [TOKENIZER.decode(text.ids[text.roles == number]) for number in range(len(SOURCES))]
    assert parts == [f"{text}\n\n" for _, text in SOURCES]
    assert TOKENIZER.decode(text.ids[text.roles == -2]) == QUESTION + ANSWER


def wired(*sources: tuple[str, str]) -> Account:
    """The answer w7, by a model wired to copy that word from wherever it stands."""
    model = copier(copies=7, looks_at=7, in_last_layer=True)
    model = localize(model, LocalityConfig("distributed", "fixed:4"), words_tokenizer())
    return account(model, sources, words(10, 11), " w7")


def test_the_source_that_is_copied_has_the_effect_and_the_others_have_none() -> None:
    result = wired(("first", words(1, 2, 3)), ("second", words(4, 7, 5)), ("third", words(8, 9)))
    assert result.effects["second"] > 1
    assert abs(result.effects["first"]) < 1e-2
    assert abs(result.effects["third"]) < 1e-2
    mass = {name: share or 0.0 for name, share in result.mass.items()}
    assert mass["second"] > mass["first"] + mass["third"]  # of two layers, the one that is not wired looks everywhere
    assert result.sentence().startswith("The answer rests most on second: without it the answer is ")
    assert result.sentence().endswith("less likely. Nothing else matters much.")


def test_two_sources_that_say_the_same_stand_in_for_each_other() -> None:
    result = wired(("one", words(1, 7, 3)), ("two", words(4, 7, 5)), ("three", words(8, 9)))
    assert abs(result.effects["one"]) < 0.1
    assert (result.shapley["one"] or 0) > 0.5
    assert "one and two can stand in for each other: without both the answer is " in result.sentence()


def test_what_comes_next_are_sources_without_which_the_answer_is_less_likely_or_that_stand_in() -> None:
    result = wired(*((name, words(1, 2)) for name in ("most", "against", "one", "two")))
    worth = {"most": (10.0, 10.0), "against": (-0.2, 2.0), "one": (0.1, 3.0), "two": (0.1, 3.0)}
    sources = tuple(
        replace(source, effect=worth[source.name][0], shapley=worth[source.name][1]) for source in result.sources
    )
    result = replace(result, sources=sources, log_prob=-1.0, log_prob_without=-19.0)
    apart = replace(result, interactions=(Interaction("one", "two", 0.0),))
    assert apart.sentence().endswith("Next: one, two.")  # each makes it somewhat more likely
    assert "against" not in apart.sentence()
    sources = tuple(replace(source, effect=min(source.effect, -0.01)) if source.name in ("one", "two") else source
                    for source in sources)  # fmt: skip
    assert replace(apart, sources=sources).sentence().endswith("Nothing else matters much.")
    together = replace(apart, sources=sources, interactions=(Interaction("one", "two", -6.0),))
    assert together.sentence().endswith("Next: one, two.")


def test_a_source_that_matters_alone_has_no_stand_in() -> None:
    result = wired(("one", words(1, 7, 3)), ("two", words(4, 6, 5)), ("three", words(8, 9)))
    assert "stand in" not in result.sentence()


def test_json_frame_and_page() -> None:
    result = account(model_of(), SOURCES, QUESTION, ANSWER)
    data = json.loads(result.to_json())
    assert [source["name"] for source in data["sources"]] == [name for name, _ in SOURCES]
    assert data["sources"][0]["effect"] == result.effects["a <cat>"]
    assert data["price_nats"] == result.price_nats
    assert Account.from_dict(data).to_dict() == data
    frame = result.to_frame()
    assert frame["shapley"].is_monotonic_decreasing
    assert set(frame.index) == set(result.effects)
    page = result.to_html()
    assert "a &lt;cat&gt;" in page
    assert "<cat>" not in page
    for nats in (result.effects["map"], result.shapley["map"], result.interactions[0].nats):
        assert f"{nats:+.2f}".replace("-", "\N{MINUS SIGN}") + " nats" in page
    assert "srcdoc" in result._repr_html_()


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (2.4, "see each other, finds this answer 11 times more likely (2.4 nats, 0.6 a token)."),
        (-0.8, "finds this answer 2.2 times less likely (0.8 nats, 0.2 a token)."),
        (0.008, "That cost nothing: the plain model finds the answer as likely (0.008 nats, 0.002 a token)."),
    ],
)
def test_the_price_in_words(price: float, expected: str) -> None:
    result = wired(("one", words(1, 7, 3)))
    result = replace(result, log_prob_plain=result.log_prob + price, answer_tokens=4)
    assert result.price_sentence().endswith(expected)
    assert ("The price: " in result.price_sentence()) == (price > NO_PRICE)
    assert "exact" not in replace(result, isolated=False).price_sentence()


def test_a_page_shows_short_texts_and_opens_long_ones() -> None:
    long = words(*range(3, 9)) * 20
    page = wired(("short", words(1, 7, 3)), ("long", long)).to_html()
    assert f">{words(1, 7, 3)}</p>" in page
    assert page.count("<details>") == 1
    assert f"<blockquote>{long}</blockquote>" in page
    assert "This answer was given" in page


@pytest.mark.parametrize(
    ("nats", "expected"), [(0.7, "2 times"), (2.303, "10 times"), (5.3, "200 times"), (9.0, "more than 1,000 times")]
)
def test_factors_in_words(nats: float, expected: str) -> None:
    assert _times(nats) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "no sources; expected at least one"),
        ({"sources": ["text"]}, "sources are not pairs"),
        ({"sources": [("a", "x"), ("a", "y")]}, "two sources are named 'a'"),
        ({"sources": [("a", "x"), ("b", " \n")]}, "source 2 is empty"),
        ({"question": " "}, "the question is empty"),
        ({"answer": ""}, "the answer is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"shapley": -1}, "shapley=-1"),
        ({"shapley": 3}, "at least 4 subsets, or 0"),
        ({"sources": [("a", "cat " * 300)]}, "the model has a context of 256"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = {"sources": SOURCES, "question": QUESTION, "answer": ANSWER, **changes}
    with pytest.raises(ProglocError, match=message) as refusal:
        account(model_of(), settings.pop("sources"), settings.pop("question"), **settings)
    assert "\n" not in str(refusal.value)


def test_a_model_that_was_not_localised_is_refused() -> None:
    with pytest.raises(ProglocError, match="no locality"):
        account(small_model("llama"), SOURCES, QUESTION, ANSWER)
