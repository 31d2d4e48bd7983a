"""The audit: what it traces and what it takes away, against brute force; and answers whose grounds are known."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from progloc import LocalityConfig, ProglocError, audit, dial, localize, log_masses
from progloc.accounts.effects import knocked_out, passes_of, read, removals
from progloc.accounts.text import AuditedText, prompt_ids, read_text
from progloc.accounts.verdict import NOT_FAITHFUL, SUPPORTED, TOO_LITTLE
from progloc.measures.passes import evaluating
from wired_models import copier, words, words_tokenizer

PROMPT, ANSWER = 23, 6
LAYERS = (1, 2)
MODELS = ["gpt2", "llama"]


@pytest.fixture(params=MODELS)
def local(request: Any) -> Any:
    build = request.getfixturevalue(f"tiny_{request.param}")
    model = build() if request.param == "gpt2" else build(num_hidden_layers=3)
    return localize(model, LocalityConfig(schedule="linear", blocks="fixed:4"), words_tokenizer(101))


def text_of(model: Any) -> AuditedText:
    ids = torch.randint(1, 101, (PROMPT + ANSWER,), generator=torch.Generator().manual_seed(4)).tolist()
    return read_text(model, words_tokenizer(101), ids, PROMPT, LAYERS[-1])


def brute_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float, **asked: Any
) -> tuple[Tensor, Tensor]:
    """Attention as anyone would write it, with weights cut from some queries on, in some layers."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ repeat_kv(key, groups).mT * scaling
    scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = scores.softmax(-1)
    if asked.get("cut") is not None and module.layer_idx in LAYERS:
        block, renormalise, first_query = asked["cut"]
        weights = weights.clone()
        weights[:, :, first_query:, block] = 0.0
        if renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
    return (weights @ repeat_kv(value, groups)).transpose(1, 2), weights


def whole_mask(**asked: Any) -> Any:
    return sdpa_mask(**{**asked, "allow_is_causal_skip": False})


AttentionInterface.register("brute", brute_attention)
AttentionMaskInterface.register("brute", whole_mask)


def brute(model: Any, ids: Tensor, **asked: Any) -> Any:
    model.set_attn_implementation("brute")
    try:
        with torch.inference_mode():
            return model(ids[None], output_attentions=True, use_cache=True, **asked)
    finally:
        model.set_attn_implementation("progloc")


def answer_log_prob(logits: Tensor, answer: Tensor) -> float:
    chosen = logits[0, -len(answer) - 1 : -1].log_softmax(-1).gather(-1, answer[:, None])
    return float(chosen.double().sum())


def test_the_trace_is_the_matrix_added_up_by_block(local: Any) -> None:
    text = text_of(local)
    with evaluating(local):
        reading = read(local, text, LAYERS)
    expected = brute(local, text.ids)
    blocks = range(int(text.division.max()) + 1)  # the answer's tokens are the last
    assert torch.equal(text.division[:PROMPT], text.own[:PROMPT])
    assert (text.division[PROMPT:] == 6).all()
    for layer in LAYERS:
        weights = expected.attentions[layer][0, :, PROMPT - 1 : -1]  # (H, n, T)
        values = expected.past_key_values.layers[layer].values[0].norm(dim=-1)
        values = values.repeat_interleave(len(weights) // len(values), 0)[:, None]
        found = reading.traced[layer]
        for block in blocks:
            inside = text.division == block
            others = inside & (torch.arange(len(text.ids)) > 0)
            assert torch.allclose(found.mass[..., block], weights[..., others].sum(-1), atol=1e-6)
            assert torch.allclose(found.value[..., block], (weights * values)[..., inside].sum(-1), atol=1e-5)
        assert torch.allclose(found.sink, weights[..., 0], atol=1e-6)
        in_own_block = text.own[PROMPT - 1 : -1, None] == text.own
        in_own_block[:, 0] = False
        assert torch.allclose(found.inside, (weights * in_own_block).sum(-1), atol=1e-6)
        assert (found.guaranteed <= found.inside / (1 - found.sink) + 1e-5).all()
        assert found.guaranteed.max() > 0
    assert float(reading.log_probs.sum()) == pytest.approx(answer_log_prob(expected.logits, text.answer_ids), abs=1e-4)


SETS: list[list[int]] = [[0], [2], [5], [1, 3], [0, 1, 2, 3, 4, 5], [1], [1, 3, 4], [0, 5], [], [1, 3]]
"""Of a prompt of 23 tokens in blocks of four; the last has three of the prompt's, and goes on into the answer."""


@pytest.mark.parametrize("at_once", [4096, 100, 1])
def test_deletion_is_the_answer_to_the_shorter_prompt(
    local: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progloc.accounts.effects.TOKENS_AT_ONCE", at_once)
    text = text_of(local)
    done: list[int] = []
    with evaluating(local):
        past = read(local, text, LAYERS).past
        found = removals(local, text, past, SETS, closed=True, progress=done.append)
        for blocks, log_prob in zip(SETS, found, strict=True):
            gone = [n for n in range(1, PROMPT) if n // 4 in blocks]
            left = torch.tensor([int(text.ids[n]) for n in range(len(text.ids)) if n not in gone])
            expected = answer_log_prob(local(left[None]).logits, text.answer_ids)
            assert log_prob == pytest.approx(expected, abs=1e-5)
    assert sum(done) == passes_of(text, len(SETS))


@pytest.mark.parametrize("at_once", [4096, 100, 1])
def test_removal_in_place_is_the_shorter_prompt_with_the_positions_of_the_longer(
    local: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progloc.accounts.effects.TOKENS_AT_ONCE", at_once)
    text = text_of(local)
    with evaluating(local):
        found = removals(local, text, read(local, text, LAYERS).past, SETS)
        closed = removals(local, text, read(local, text, LAYERS).past, SETS, closed=True)
    for blocks, log_prob in zip(SETS, found, strict=True):
        left = torch.tensor([n for n in range(len(text.ids)) if not (1 <= n < PROMPT and n // 4 in blocks)])
        # with a mask given, gaps between positions do not begin another document
        asked = {"position_ids": left[None], "attention_mask": torch.ones_like(left)[None]}
        expected = answer_log_prob(brute(local, text.ids[left], **asked).logits, text.answer_ids)
        assert log_prob == pytest.approx(expected, abs=1e-5)
    assert max(abs(one - other) for one, other in zip(found, closed, strict=True)) > 1e-3


@pytest.mark.parametrize("closed", [False, True])
def test_what_a_dialled_model_loses_is_lost_as_it_is_dialled(local: Any, closed: bool) -> None:
    text = text_of(local)
    for delta, keep_sink in ((0.7, False), (1.0, True)):
        with evaluating(local), dial(local, delta, keep_sink=keep_sink):
            found = removals(local, text, read(local, text, LAYERS).past, SETS, closed=closed)
            for blocks, log_prob in zip(SETS, found, strict=True):
                left = torch.tensor([n for n in range(len(text.ids)) if not (1 <= n < PROMPT and n // 4 in blocks)])
                positions = torch.arange(len(left)) if closed else left
                outputs = local(
                    text.ids[left][None], block_ids=text.block_ids[left][None], position_ids=positions[None],
                    attention_mask=torch.ones_like(left)[None],
                )  # fmt: skip
                assert log_prob == pytest.approx(answer_log_prob(outputs.logits, text.answer_ids), abs=1e-5)


def test_knockout_is_weights_set_to_nothing(local: Any) -> None:
    text = text_of(local)
    cuts = [(block, renormalise) for block in (0, 2, 5) for renormalise in (True, False)]
    with evaluating(local):
        found = knocked_out(local, text, read(local, text, LAYERS).past, LAYERS, cuts)
    whole = answer_log_prob(brute(local, text.ids).logits, text.answer_ids)
    for (block, renormalise), log_prob in zip(cuts, found, strict=True):
        keys = [n for n in range(1, PROMPT) if int(text.division[n]) == block]
        outputs = brute(local, text.ids, cut=(keys, renormalise, PROMPT - 1))
        expected = answer_log_prob(outputs.logits, text.answer_ids)
        assert log_prob == pytest.approx(expected, abs=1e-4)
        assert abs(expected - whole) > 1e-3


def test_a_dialled_model_is_traced_and_cut_as_it_is_dialled(local: Any) -> None:
    text = text_of(local)
    with evaluating(local), dial(local, 0.7):
        reading = read(local, text, LAYERS)
        outputs = local(text.ids[None], block_ids=text.block_ids[None], output_attentions=True)
        cuts = [(block, renormalise) for block in (0, 2) for renormalise in (True, False)]
        together = knocked_out(local, text, reading.past, LAYERS, cuts)
        alone = [knocked_out(local, text, reading.past, LAYERS, [cut])[0] for cut in cuts]
        assert together == pytest.approx(alone, abs=1e-5)
    masses = log_masses(outputs)
    for layer in LAYERS:
        found = reading.traced[layer]
        assert torch.allclose(found.inside, masses[layer][0, :, PROMPT - 1 : -1, 0].exp(), atol=1e-5)


def test_a_text_read_in_parts_is_the_text(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(local)
    with evaluating(local):
        whole = read(local, text, LAYERS)
        monkeypatch.setattr("progloc.accounts.effects.READ_AT_ONCE", 5)
        monkeypatch.setattr("progloc.accounts.probes.CHUNK", 2)
        parts = read(local, text, LAYERS)
    assert torch.allclose(whole.log_probs, parts.log_probs, atol=1e-5)
    for layer in LAYERS:
        for name in ("mass", "sink", "value", "guaranteed"):
            one, other = (getattr(each.traced[layer], name) for each in (whole, parts))
            assert torch.allclose(one, other, atol=1e-5), name


@pytest.fixture(scope="module")
def prompt() -> str:
    """Ten blocks of four words; w7 is in the third block and w9 in the seventh."""
    filler = iter(range(10, 62))
    numbers = [next(filler) for _ in range(40)]
    numbers[9], numbers[26] = 7, 9
    return words(*numbers)


def planted(*, looks_at: int, in_last_layer: bool) -> Any:
    model = copier(copies=7, looks_at=looks_at, in_last_layer=in_last_layer)
    return localize(model, LocalityConfig(schedule="quintic", blocks="fixed:4"), words_tokenizer())


def test_an_answer_copied_from_the_block_that_is_shown_is_supported(prompt: str) -> None:
    found = audit(planted(looks_at=7, in_last_layer=True), prompt, max_new_tokens=1)
    assert found.answer.split() == ["w7"]
    assert found.examined.picture.mass_no_sink.argmax() == 2
    assert found.verdict == SUPPORTED


def test_an_answer_copied_from_elsewhere_is_not_faithful(prompt: str) -> None:
    found = audit(planted(looks_at=9, in_last_layer=False), prompt, max_new_tokens=1)
    assert found.answer.split() == ["w7"]
    assert found.examined.picture.mass_no_sink.argmax() == 6
    assert max(found.examined.tested, key=lambda each: each.deletion).block == 2
    assert found.verdict == NOT_FAITHFUL


def test_the_pictures_are_attention_on_the_prompt_and_the_answers_own_share_is_apart(local: Any) -> None:
    found = audit(local, words(*range(1, PROMPT + 1)), " " + words(*range(50, 50 + ANSWER)), layers=LAYERS)
    assert found.block_ids == (*(n // 4 for n in range(PROMPT)), *[6] * ANSWER)
    outputs = brute(local, torch.tensor([*range(1, PROMPT + 1), *range(50, 50 + ANSWER)]))
    weights = torch.stack(
        [outputs.attentions[layer][0, :, PROMPT - 1 : -1] for layer in LAYERS]
    ).double()  # (L, H, n, T)
    weights[..., 0] = 0  # the sink
    heads = weights.sum(2)
    heads /= heads.sum(-1, keepdim=True)  # (L, H, T)
    for place, expected in (
        (found.examined.picture, heads.mean((0, 1))),
        (found.examined.layers[1].picture, heads[1].mean(0)),
        (found.examined.layers[0].heads[1], heads[0, 1]),
        (found.examined.answer[2, 1], (weights / weights.sum(-1, keepdim=True))[1, :, 2].mean(0)),
    ):
        own = float(expected[PROMPT:].sum())
        on_prompt = [float(expected[start : min(start + 4, PROMPT)].sum()) / (1 - own) for start in range(0, PROMPT, 4)]
        assert place.mass_no_sink == pytest.approx(np.array(on_prompt), abs=1e-5)
        assert float(place.answer_share["mass_no_sink"]) == pytest.approx(own, abs=1e-5)


def test_a_block_that_goes_on_into_the_answer_is_no_source_and_has_nothing_of_the_answer(prompt: str) -> None:
    model = planted(looks_at=7, in_last_layer=True)
    answer = " " + words(7, 7, 7, 7, 7, 7)  # each looks at those before it as well
    found = audit(model, prompt + " " + words(60, 61), answer)
    mass = found.examined.picture.mass_no_sink
    assert len(mass) == 11
    assert mass[2] > 0.9  # the block that the first one was copied from
    assert mass[10] < 0.01  # four of its six tokens would be the answer's
    assert found.examined.picture.answer_share["mass_no_sink"] > 0.4
    *sources, cut = found.examined.tested
    assert [each.block for each in sources] == list(range(10))
    assert all(each.whole for each in sources)
    assert (cut.block, cut.whole) == (10, False)
    assert abs(cut.removal) < 1e-3
    faithfulness = found.examined.faithfulness
    assert faithfulness is not None
    assert faithfulness.sources == 10
    assert not any(10 in each.blocks for each in (faithfulness.top, faithfulness.rest, *faithfulness.random))
    assert found.verdict == SUPPORTED
    whole = audit(model, prompt, answer)
    assert all(each.whole for each in whole.examined.tested)
    assert len(whole.examined.tested) == 10


@pytest.mark.parametrize(
    ("prompt", "answer", "sources", "cut"),
    [
        ("One fell . Two ran . What must three see ?", " Four fell .", 3, None),
        ("One fell . Two ran . What must three", " see ? Four fell .", 2, 2),
        ("One fell . Two ran . What must three see", " ? Four fell .", 2, 2),
        ("One fell . Two ran .", " What must three see ?", 2, None),
        ("One fell . Two ran .", "\nWhat must three see ?", 2, None),  # the line break is the second sentence's
        ("One fell . Two ran", "\nand fell . What must three see ?", 1, 1),
        ("What must three", " see ? One fell .", 0, 0),
    ],
)
def test_whether_a_prompt_ends_with_a_sentence_is_told_by_what_follows(
    tiny_gpt2: Any, prompt: str, answer: str, sources: int, cut: int | None
) -> None:
    vocabulary = {piece: n for n, piece in enumerate(dict.fromkeys(re.findall(r"\n| ?[^ \n]+", prompt + answer)))}
    made = Tokenizer(models.WordLevel({**vocabulary, "?": len(vocabulary)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?[^ \n]+"), "isolated")
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)
    model = localize(tiny_gpt2(), LocalityConfig("linear", "sentences"), tokenizer)
    ids, answer_start = prompt_ids(tokenizer, prompt, answer)
    text = read_text(model, tokenizer, ids, answer_start, 2)
    assert (len(text.sources), text.cut) == (sources, cut)


def test_with_three_blocks_there_is_too_little_to_tell() -> None:
    for looks_at, in_last_layer in ((7, True), (9, False)):
        found = audit(
            planted(looks_at=looks_at, in_last_layer=in_last_layer),
            words(10, 11, 7, 12, 13, 14, 9, 15, 16, 17, 18, 19),
            max_new_tokens=1,
        )
        assert found.verdict == TOO_LITTLE
        assert "3 whole blocks" in found.examined.reasons[0]


def test_where_two_blocks_say_the_same_losing_either_tells_too_little(prompt: str) -> None:
    twice = prompt.split()
    twice[33] = "w7"
    found = audit(planted(looks_at=7, in_last_layer=True), " ".join(twice), max_new_tokens=1)
    assert found.answer.split() == ["w7"]
    assert found.examined.picture.mass_no_sink[[2, 8]] == pytest.approx([0.5, 0.5], abs=0.01)
    assert found.verdict == TOO_LITTLE
    assert "stand in for each other" in found.examined.reasons[0]


@pytest.mark.slow
def test_pictures_of_a_model_that_knows_nothing_are_not_supported(local: Any) -> None:
    for seed in range(4):
        drawn = torch.randint(1, 101, (90,), generator=torch.Generator().manual_seed(seed)).tolist()
        found = audit(local, words(*drawn[:84]), " " + words(*drawn[84:]), layers=LAYERS)
        assert found.verdict != SUPPORTED
        faithfulness = found.examined.faithfulness
        assert faithfulness is not None
        assert (faithfulness.sources, len(faithfulness.random)) == (21, 199)


@pytest.mark.slow
def test_an_audit_is_what_was_asked_for_and_costs_what_it_said(local: Any) -> None:
    text, continuation, costs, done = words(*range(1, 40)), " " + words(50, 51, 52), [], []
    found = audit(local, text, continuation, base=local, announce=costs.append, progress=done.append)
    assert found.given
    assert found.prompt + found.answer == text + continuation == "".join(found.tokens)
    assert sum(done) == costs[0].passes == found.cost.passes
    assert found.base is not None
    assert found.base.to_dict(heads=True) == found.examined.to_dict(heads=True)
    document = json.loads(found.to_json())
    assert document["verdict"] == found.verdict
    for layer in document["layers"]:
        assert sum(layer["mass_no_sink"]) == pytest.approx(1, abs=1e-3)
    again = audit(local, text, continuation)
    assert json.loads(again.to_json())["faithfulness"] == document["faithfulness"]


def test_an_audit_can_be_ended_while_the_answer_is_written(local: Any) -> None:
    seen: list[int] = []

    def stop(passes: int) -> None:
        seen.append(passes)
        if len(seen) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        audit(local, words(*range(1, 20)), max_new_tokens=40, progress=stop)
    assert seen == [0, 0, 0]


def test_at_most_so_many_blocks_are_taken_away(local: Any) -> None:
    found = audit(local, words(*range(1, 60)), " " + words(50, 51), most_blocks=4, random_sets=0)
    assert len(found.examined.tested) == 4
    faithfulness = found.examined.faithfulness
    assert faithfulness is not None
    assert faithfulness.random == ()
    assert faithfulness.beaten is None
    order = found.examined.picture.mass_no_sink.argsort()[::-1]
    most_shown = [block for block in order if 4 * block < 59][:2]
    assert set(most_shown) <= {each.block for each in found.examined.tested}


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_where_layers_differ_in_blocks_those_of_the_last_traced_layer_are_shown(tiny_gpt2: Any, delta: float) -> None:
    model = localize(tiny_gpt2(), LocalityConfig("linear", "mixture:fixed:8+fixed:4"), words_tokenizer(101))
    text = words(*range(1, 21))
    for layers, size in (([0], 8), ([2], 4)):
        found = audit(model, text, " " + words(50, 51, 52), layers=layers, dial=delta)
        before = tuple(n // size for n in range(20))
        assert found.block_ids == (*before, *[before[-1] + 1] * 3)


def test_blocks_that_depend_on_what_follows_are_shown_and_said_to_be(tiny_gpt2: Any) -> None:
    model = localize(tiny_gpt2(), LocalityConfig("linear", "similarity"), words_tokenizer(101))
    found = audit(model, words(*range(1, 60)), " " + words(50, 51, 52))
    assert not found.causal
    assert found.block_ids[0] == 0
    assert max(found.block_ids) == len(set(found.block_ids)) - 1


def test_with_one_block_there_is_nothing_to_test(local: Any) -> None:
    found = audit(local, words(1, 2, 3), " " + words(4, 5))
    assert found.examined.faithfulness is None
    assert found.verdict == TOO_LITTLE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "w1"}, "at least two tokens"),
        ({"continuation": ""}, "continuation is empty"),
        ({"most_blocks": 1}, "most_blocks=1"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"layers": [7]}, "expected some of 0 to 2"),
        ({"dial": 2.0}, "a dial of 2"),
        ({"prompt": words(*[3] * 130)}, "132 tokens of prompt and answer; the model has a context of 128"),
    ],
)
def test_what_cannot_be_audited_is_said(local: Any, changes: Any, said: str) -> None:
    settings = {"prompt": words(1, 2, 3, 4), "continuation": " " + words(5, 6), **changes}
    with pytest.raises(ProglocError, match=said):
        audit(local, settings.pop("prompt"), settings.pop("continuation"), **settings)
