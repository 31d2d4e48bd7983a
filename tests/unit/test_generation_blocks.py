"""Blocks while a model writes: those of the whole text, token by token, whatever became of the rows in between."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from progloc.blocks import NO_BLOCK, TextFromIds, TokenisedText, encode, partitioner
from progloc.blocks.so_far import BlocksSoFar
from progloc.errors import ProglocError
from toy_tokenizers import PIECES, TOKENIZERS, beginning_with

CAUSAL = (
    "sentences", "paragraphs", "phrases", "phrases:punctuation",
    "mixture:paragraphs+sentences+phrases", "mixture:sentences+fixed:3",
)  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)

broken_texts = st.lists(texts, max_size=4).map("\n\n".join)


def encoded(kind: str, text: str) -> TokenisedText:
    """Return the text as training has it: the tokenizer's own ids and spans."""
    found = TOKENIZERS[kind](text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return TokenisedText(text, np.array(found["input_ids"], dtype=np.int64), offsets)


def read_back(kind: str, text: str) -> TokenisedText:
    """Return the text that the ids of ``text`` say: some tokenizers drop a space before it, or characters."""
    backend = TOKENIZERS[kind].backend_tokenizer
    whole = encoded(kind, backend.decode(encoded(kind, text).input_ids.tolist()).lstrip(" "))
    assume(backend.decode(whole.input_ids.tolist(), skip_special_tokens=False) == whole.text)
    return whole


def unfinished(text: TokenisedText, count: int) -> int:
    """Return how many of the first ``count`` tokens are, at the end, of a character that goes on after them."""
    starts, ends = text.offsets.T
    if count == len(text) or starts[count] >= ends[count - 1]:
        return 0
    return int(np.count_nonzero(ends[:count] == ends[count - 1]))


def blocks_of(so_far: BlocksSoFar, *rows: np.ndarray) -> list[np.ndarray]:
    """Return the block ids of rows of any lengths, padded on the left, as a batch."""
    longest = max(map(len, rows))
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, ids, real in zip(rows, padded, mask, strict=True):
        ids[longest - len(row) :] = torch.tensor(row)
        real[longest - len(row) :] = 1
    found = so_far(padded, mask)
    assert found.dtype == torch.int64
    assert (found[mask == 0] == NO_BLOCK).all()
    return [ids[longest - len(row) :].numpy() for row, ids in zip(rows, found, strict=True)]


every_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)
every_causal = pytest.mark.parametrize("name", CAUSAL)


@every_tokenizer
@settings(deadline=None)
@given(text=broken_texts)
def test_text_and_spans_are_the_tokenizers_own(kind, text):
    whole = read_back(kind, text)
    found = TextFromIds(TOKENIZERS[kind])(whole.input_ids)
    assert found.text == whole.text
    assert np.array_equal(found.offsets, whole.offsets)


@pytest.mark.slow
@every_tokenizer
@every_causal
@settings(deadline=None, max_examples=15)
@given(text=broken_texts)
def test_token_by_token_blocks_are_those_of_the_text(name, kind, text):
    whole = read_back(kind, text)
    expected = partitioner(name)(whole)
    so_far = BlocksSoFar(partitioner(name), TOKENIZERS[kind])
    for count in range(1, len(whole) + 1):
        found = so_far(torch.tensor(whole.input_ids[None, :count]))[0].numpy()
        known = count - unfinished(whole, count)
        assert np.array_equal(found[:known], expected[:known])


def in_characters(text: str) -> TokenisedText:
    starts = np.arange(len(text))
    return TokenisedText(text, starts, np.stack([starts, starts + 1], axis=-1))


@pytest.mark.slow
@every_causal
@settings(deadline=None, max_examples=100)
@given(text=broken_texts, suffix=texts)
@example(text="It ends.\n\n🎉 ", suffix="The cat")  # a sentence may end after the emoji
@example(text="Plan B.\n\n1", suffix=". We do it.")  # the number may be read as one after an abbreviation
def test_text_is_divided_from_a_fresh_start_as_if_it_began_there(name, text, suffix):
    chosen = partitioner(name)
    start = chosen.starts_afresh(text)
    if start:
        whole = chosen(in_characters(text + suffix))
        assert np.array_equal(whole[start:], whole[start - 1] + 1 + chosen(in_characters((text + suffix)[start:])))


@pytest.mark.slow
@every_tokenizer
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_rows_come_and_go_and_tokens_are_taken_back(kind, data):
    beginning = data.draw(broken_texts)
    streams = [
        encoded(kind, f"{beginning}\n\n{end}").input_ids for end in ("The end. So", "1. First. The", "🎉 We. The")
    ]
    streams[2] = np.insert(streams[2], len(streams[2]) // 2, TOKENIZERS[kind].bos_token_id)
    so_far = BlocksSoFar(partitioner("sentences"), TOKENIZERS[kind])
    for _ in range(6):  # steps, each of beams that may be any, as long as before or not
        rows = []
        for stream in data.draw(st.lists(st.sampled_from(streams), min_size=1, max_size=3)):
            rows.append(stream[: data.draw(st.integers(max(len(stream) - 9, 1), len(stream)))])
        for row, found in zip(rows, blocks_of(so_far, *rows), strict=True):
            alone = BlocksSoFar(partitioner("sentences"), TOKENIZERS[kind])
            assert np.array_equal(found, alone(torch.tensor(row[None]))[0].numpy())


def test_what_is_settled_for_one_continuation_is_not_for_another():
    tokenizer, chosen = TOKENIZERS["byte_level"], partitioner("sentences")
    letter, number = (encoded("byte_level", f"This is plan B.\n\n{end}") for end in ("So do it.", "1. We do it."))
    so_far = BlocksSoFar(chosen, tokenizer)
    for _ in range(3):
        assert np.array_equal(blocks_of(so_far, letter.input_ids)[0], chosen(letter))
        assert np.array_equal(blocks_of(so_far, number.input_ids)[0], chosen(number))
        so_far(torch.tensor(letter.input_ids[None]))


def test_turns_of_a_chat_share_no_block():
    tokenizer = TOKENIZERS["byte_level"]
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [{"role": "user", "content": "```\nx = f(a)"}, {"role": "assistant", "content": "the cat walked"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    found = BlocksSoFar(partitioner("paragraphs"), tokenizer)(torch.tensor([ids]))[0].tolist()
    turn, turns = 0, []
    for token in ids:
        turn += token == tokenizer.convert_tokens_to_ids("<|im_start|>")
        turns.append(turn)
    assert set(turns) == {1, 2, 3}
    assert len(set(zip(turns, found, strict=True))) == len(set(found))  # no block is in two turns
    assert found == partitioner("paragraphs")(encoded("byte_level", text)).tolist()  # as training has it


CHATS = (
    "<|im_start|>user\nIs it so? Tell me.<|im_end|>\n<|im_start|>assistant\nYes. It is.<|im_end|>\n",
    "<s>The cat walked.</s><s> In the end, because of it: don't!</s>",
    "<|im_start|>user\n# New York\n\n1. The map\n2. 今天 🎉<|im_end|>\n\n<|im_start|>\n```\nx = f(a)<|im_end|>- So",
)


@pytest.mark.slow
@every_tokenizer
@every_causal
@pytest.mark.parametrize("text", CHATS)
def test_special_tokens_are_divided_in_training_as_in_generation(name, kind, text):
    tokenizer = TOKENIZERS[kind]
    whole = encoded(kind, text)
    found = TextFromIds(tokenizer)(whole.input_ids)
    assert found.text == text
    assert np.array_equal(partitioner(name)(whole), partitioner(name)(found))
    so_far = BlocksSoFar(partitioner(name), tokenizer)
    for count in range(1, len(whole) + 1):
        blocks = so_far(torch.tensor(whole.input_ids[None, :count]))[0].numpy()
        known = count - unfinished(whole, count)
        assert np.array_equal(blocks[:known], partitioner(name)(whole)[:known])


@every_tokenizer
@every_causal
@pytest.mark.parametrize("before", ["<s>", "<|im_start|>"])
@pytest.mark.parametrize("text", ["# The cat\nIt walked. In the end: don't!", "- New York\n- the map\n\nSo"])
def test_what_is_put_before_a_text_moves_no_block(name, kind, before, text):
    tokenizer = beginning_with(kind, before)
    assert tokenizer(text)["input_ids"][0] == tokenizer.convert_tokens_to_ids(before)
    chosen = partitioner(name)
    for whole in (encode(tokenizer, text), encode(tokenizer, before + text)):
        assert whole.text == text
        assert whole.input_ids.tolist().count(tokenizer.convert_tokens_to_ids(before)) == 1
        assert whole.offsets[0].tolist() == [0, 0]
        found = BlocksSoFar(chosen, tokenizer)(torch.tensor(whole.input_ids[None]))[0].numpy()
        assert np.array_equal(found, chosen(whole))
        assert (found[0] == found[1]).all()  # it is in the first block
        if "fixed" not in name:
            assert np.array_equal(found[1:], chosen(TextFromIds(tokenizer)(whole.input_ids[1:])))


def test_padding_on_either_side_moves_nothing():
    ids = torch.tensor(encoded("byte_level", "The cat walked. In the end, because.").input_ids)
    so_far = BlocksSoFar(partitioner("mixture:sentences+phrases"), TOKENIZERS["byte_level"])
    plain = so_far(ids[None])
    assert plain.shape == (1, len(ids), 2)
    padding = torch.full((3,), TOKENIZERS["byte_level"].pad_token_id)
    nothing, real = torch.zeros(3, dtype=torch.int64), torch.ones_like(ids)
    left, right = torch.cat([padding, ids]), torch.cat([ids, padding])
    found = so_far(torch.stack([left, right]), torch.stack([torch.cat([nothing, real]), torch.cat([real, nothing])]))
    assert torch.equal(found[0, 3:], plain[0])
    assert torch.equal(found[1, :-3], plain[0])
    assert (found[0, :3] == NO_BLOCK).all()
    assert (found[1, -3:] == NO_BLOCK).all()


def test_positions_are_enough_for_fixed_blocks():
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    found = BlocksSoFar(partitioner("fixed:2"), tokenizer=None)(torch.zeros(2, 6, dtype=torch.int64), mask)
    assert found.tolist() == [[NO_BLOCK, NO_BLOCK, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]


def test_ids_that_make_no_text_have_blocks_all_the_same():
    tokenizer = TOKENIZERS["byte_level"]
    lead = tokenizer.convert_tokens_to_ids("ð")  # the first byte of four, again and again
    found = BlocksSoFar(partitioner("sentences"), tokenizer)(torch.tensor([[lead, lead, len(tokenizer) + 7, lead]]))
    assert found.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["entities", "arguments", "similarity", "mixture:sentences+entities"])
def test_blocks_that_are_not_causal_are_refused(name):
    with pytest.raises(
        ProglocError, match=f"'{re.escape(name)}' are not causal.*expected fixed:N, sentences"
    ) as raised:
        BlocksSoFar(partitioner(name), TOKENIZERS["byte_level"])
    assert "\n" not in str(raised.value)


def test_what_is_said_to_be_causal_is():
    with pytest.raises(ProglocError) as raised:
        BlocksSoFar(partitioner("entities"), None)
    for name in ("fixed:5", "sentences", "paragraphs", "phrases", "phrases:punctuation"):
        assert partitioner(name).causal
        assert name.split("5")[0] in str(raised.value)


def test_text_needs_a_fast_tokenizer():
    with pytest.raises(ProglocError, match="NoneType for blocks of generated text; expected a fast one"):
        BlocksSoFar(partitioner("sentences"), None)


@pytest.mark.parametrize("mask", [torch.ones(1, 4), torch.ones(1, 1, 3, 3)])
def test_a_mask_of_another_shape_is_refused(mask):
    with pytest.raises(ProglocError, match=r"pass all tokens so far"):
        BlocksSoFar(partitioner("fixed:5"), None)(torch.zeros(1, 3, dtype=torch.int64), mask)
