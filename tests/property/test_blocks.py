from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progloc.attention.segments import documents_in, segments, tokens_before
from progloc.blocks import TokenisedText, partitioner
from progloc.blocks.partitioning import _registry

EVERY = (
    "fixed:5", "sentences", "paragraphs", "phrases", "phrases:punctuation", "entities", "arguments",
    "similarity", "similarity-clusters", "recruited",
)  # fmt: skip
"""Each registered partitioner at least once; what holds for all of them is tested on these."""

EMBEDDINGS = np.random.default_rng(0).normal(size=(512, 8)).astype(np.float32)
READY = {name: partitioner(name).prepared(EMBEDDINGS) for name in EVERY}

every_partitioner = pytest.mark.parametrize("name", EVERY)

sizes = st.integers(1, 40)
lengths = st.integers(1, 200)


def text_of(tokens: int) -> TokenisedText:
    starts = np.arange(tokens)
    return TokenisedText("x" * tokens, input_ids=starts, offsets=np.stack([starts, starts + 1], axis=-1))


@given(sizes, lengths)
def test_fixed_blocks_partition_the_sequence_into_runs_of_n(size, tokens):
    ids = partitioner(f"fixed:{size}")(text_of(tokens))
    assert ids.shape == (tokens,)
    assert ids[0] == 0
    assert set(np.diff(ids)) <= {0, 1}  # contiguous, and no number left out
    counts = np.bincount(ids)
    assert all(counts[:-1] == size)
    assert 1 <= counts[-1] <= size


@given(sizes, lengths, st.data())
def test_a_causal_partitioner_gives_a_prefix_the_same_blocks(size, tokens, data):
    fixed = partitioner(f"fixed:{size}")
    prefix = data.draw(st.integers(1, tokens))
    assert fixed.causal
    assert np.array_equal(fixed(text_of(prefix)), fixed(text_of(tokens))[:prefix])


@given(sizes, lengths)
def test_blocks_from_positions_are_those_from_the_text(size, tokens):
    fixed = partitioner(f"fixed:{size}")
    from_positions = fixed.from_positions(torch.arange(tokens)[None])
    assert from_positions.dtype == torch.int64
    assert np.array_equal(from_positions[0].numpy(), fixed(text_of(tokens)))


@given(sizes, lengths, st.integers(0, 50), st.integers(0, 50))
def test_padding_on_either_side_moves_no_token_to_another_block(size, tokens, left, right):
    fixed = partitioner(f"fixed:{size}")
    mask = torch.tensor([[0] * left + [1] * tokens + [0] * right])
    positions = tokens_before(segments(documents_in(mask)))
    ids = fixed.from_positions(positions)[0, left : left + tokens]
    assert np.array_equal(ids.numpy(), fixed(text_of(tokens)))


UGLY = (
    " ", "  ", "\t", "\n", "\n\n", "\r\n", "\u3000", "\u2028", "\ufeff", "\x00",
    ".", "...", "…", "?!", ",", ": ", "—", " - ", '"', "“", "”", "(", ")", "[", "「", "」", "。", "、", "|",
    "```", "```python\n", "~~~", "# ", "- ", "* ", "1. ", "(a) ", "Dr", "e.g", "U.S.", "3.14", "5 km", "3 May 2021",
    "a@b.org", "https://a.org/b?c=d.", "The", "New York", "in", "of the", "because", "if", "so that",
    "on the other hand", "don't", "x = f(a, b)", "今天", "です", "한국어", "यह।", "مرحبا؟", "👩‍👩‍👧",
    "🎉", "é", "e\u0301", "\U0001f1eb\U0001f1f7",
    "\n> ", "\n>> ", "\n>>> ", "\n>\n", ">", "\n—", "\n– ", "\na) ", "\nb) ", "\ni. ", "\nii. ", "\n    ", "\n2", "(b",
    "</s>", "<|im_end|>\n",
    "````", "\n~~~~\n",
    ".[3]", "¹", "²", "†", "* ", ".12 ", "« ", " »", "»", "“", "Inc. ", "p.m. ", "He", "m", "am 3. ",
    "vom ", "II. ", "Mai", "max. ",
    "།", " །", "։", "፧", "．", "。[", "]", "Τι; ", "ია. ", ":",
)  # fmt: skip
ugly_texts = st.lists(st.sampled_from(UGLY) | st.text(max_size=4), max_size=30).map("".join)


@st.composite
def byte_level(draw: st.DrawFn, text: str) -> TokenisedText:
    """The text in tokens of any bytes: those that share a character share its span, as in byte-level BPE."""
    owners = np.repeat(np.arange(len(text)), [len(character.encode()) for character in text])  # (bytes,)
    cuts = draw(st.sets(st.integers(1, max(len(owners) - 1, 1)), max_size=40))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(owners)), len(owners)] if text else []
    spans = [(owners[start], owners[end - 1] + 1) for start, end in pairwise(bounds)]
    return TokenisedText(text, np.arange(len(spans)), np.array(spans, dtype=np.int64).reshape(-1, 2))


tokenised = ugly_texts.flatmap(byte_level)


def test_every_registered_partitioner_is_tested_here():
    assert {name.split(":")[0] for name in EVERY} == set(_registry) - {"mixture"}


@pytest.mark.slow
@given(text=tokenised)
def test_a_mixture_is_its_parts_side_by_side(text):
    ids = partitioner("mixture:paragraphs+sentences+fixed:5")(text)
    parts = [READY[name](text) for name in ("paragraphs", "sentences", "fixed:5")]
    assert np.array_equal(ids, np.stack(parts, axis=-1))


@pytest.mark.slow
@every_partitioner
@given(text=tokenised)
def test_every_token_is_in_one_block_the_same_on_every_call(name, text):
    ids = READY[name](text)
    assert ids.shape == (len(text),)
    assert np.issubdtype(ids.dtype, np.integer)
    assert all(ids >= 0)
    assert np.array_equal(ids, READY[name](text))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY if READY[name].causal])
@given(prefix=tokenised, suffix=tokenised)
def test_no_suffix_changes_the_blocks_of_a_causal_partitioner(name, prefix, suffix):
    chosen = READY[name]
    text = TokenisedText(
        prefix.text + suffix.text,
        np.concatenate([prefix.input_ids, suffix.input_ids]),
        np.concatenate([prefix.offsets, suffix.offsets + len(prefix.text)]),
    )
    assert np.array_equal(chosen(text)[: len(prefix)], chosen(prefix))


@every_partitioner
def test_nothing_has_no_blocks_and_one_token_has_one(name):
    chosen = READY[name]
    assert chosen(TokenisedText("", np.arange(0), np.zeros((0, 2), dtype=np.int64))).shape == (0,)
    for one in ("a", " ", "\n", "🎉", "(", "```", "Dr."):
        assert chosen(TokenisedText(one, np.arange(1), np.array([(0, len(one))]))).shape == (1,)
