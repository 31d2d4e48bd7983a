"""Prompt and answer are one text: read and written with what is on the left, and the same when they are given again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from progloc.accounts.text import insert_space, prompt_ids
from progloc.blocks import TextFromIds, encode, encode_after, prefix_ids
from progloc.errors import ProglocError
from toy_tokenizers import PIECES, TOKENIZERS, beginning_with

EVERY = {**TOKENIZERS, **{f"{kind}, after <s>": beginning_with(kind, "<s>") for kind in TOKENIZERS}}
texts = st.lists(st.sampled_from((*PIECES, "<|im_start|>", "<|im_end|>")), min_size=1, max_size=8).map("".join)
every_tokenizer = pytest.mark.parametrize("kind", EVERY)


@pytest.mark.slow
@every_tokenizer
@settings(deadline=None, max_examples=200)
@given(prompt=texts, continuation=texts)
def test_a_continuation_is_read_with_the_prompt_before_it(kind, prompt, continuation):
    tokenizer, prompt = EVERY[kind], prompt.lstrip()
    read = TextFromIds(tokenizer)
    ids, start = prompt_ids(tokenizer, prompt, continuation)
    assert ids[:start] == encode(tokenizer, prompt).input_ids.tolist() == prompt_ids(tokenizer, prompt)[0]
    assume(read(np.array(ids)).text == prompt + continuation)  # some tokenizers drop characters
    assert read.added(ids[:start], ids[start:]) == continuation
    assert prompt_ids(tokenizer, prompt, read.added(ids[:start], ids[start:])) == (ids, start)


@every_tokenizer
@pytest.mark.parametrize(
    ("prompt", "continuation"),
    [("The cat", " walked."), ("The c", "at walked."), ("The cat ", "walked."), ("The end:\n", "New York"),
     ("The cat walked. 🎉", "🎉 The"), ("今天", "今天 é"), ("<|im_start|>The cat", ": don't!<|im_end|>")],
)  # fmt: skip
def test_nothing_is_lost_at_the_border(kind, prompt, continuation):
    ids, start = prompt_ids(EVERY[kind], prompt, continuation)
    assert TextFromIds(EVERY[kind]).added(ids[:start], ids[start:]) == continuation
    assert len(ids) > start


@every_tokenizer
def test_where_no_token_lies_across_the_border_the_ids_are_those_of_the_whole(kind):
    prompt, continuation = "It is in the end. Because I", " walked the cat: x of y!"
    ids, start = prompt_ids(EVERY[kind], prompt, continuation)
    assert ids == EVERY[kind](prompt + continuation)["input_ids"]
    assert encode_after(EVERY[kind], prompt, continuation) == ids[start:]


@every_tokenizer
def test_ids_end_with_a_whole_character(kind):
    read = TextFromIds(EVERY[kind])
    ids = encode(EVERY[kind], "The cat 🎉").input_ids.tolist()
    for count in range(len(ids) + 1):
        whole = read.whole(ids[:count])
        assert "�" not in read(np.array(ids[:whole], dtype=np.int64)).text
        assert whole == count or "�" in read(np.array(ids[: whole + 1])).text
    assert read.whole(ids) == len(ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_put_before_a_text_is_the_tokenizers_own(kind):
    assert prefix_ids(TOKENIZERS[kind]) == ()
    made = beginning_with(kind, "<s>")
    assert prefix_ids(made) == (made.bos_token_id,)
    ends_too = beginning_with(kind, "<s>", "</s>")
    assert ends_too("The cat")["input_ids"][-1] == ends_too.eos_token_id
    assert prefix_ids(ends_too) == (ends_too.bos_token_id,)
    assert encode(ends_too, "The cat").input_ids.tolist() == made("The cat")["input_ids"]  # it goes on from there


def test_half_a_character_is_no_text():
    with pytest.raises(ProglocError, match="half a character at position 4 of the text"):
        encode(TOKENIZERS["byte_level"], "The \ud83c cat")


@pytest.mark.parametrize(
    ("prompt", "continuation", "joined"),
    [
        ("One day she", "was sad.", "One day she| was sad."),
        ("One day she", " was sad.", "One day she| was sad."),
        ("One day she ", "was sad.", "One day she| was sad."),
        ("One day she ", " was sad.", "One day she | was sad."),
        ("She was sad.", "Then", "She was sad.| Then"),
        ("She was sad.\n", "Then", "She was sad.\n|Then"),
        ("She said", "“No.”", "She said| “No.”"),
        ("She was sad", ".", "She was sad|."),
        ("It is the cat", "'s", "It is the cat|'s"),
        ("She said “", "No.", "She said “|No."),
        ("f(", "x)", "f(|x)"),
        ("今天", "天气", "今天|天气"),
        ("한국어", "텍스트", "한국어| 텍스트"),
        ("हिन्दी", "में", "हिन्दी| में"),
        ("In", "1999", "In| 1999"),
        ("   ", "was", "   |was"),
    ],
)
def test_a_space_is_put_where_people_leave_it_out(prompt, continuation, joined):
    assert insert_space(prompt, continuation) == tuple(joined.split("|"))
    assert insert_space(*insert_space(prompt, continuation)) == insert_space(prompt, continuation)
    assert insert_space(prompt, None) == (prompt, None)
