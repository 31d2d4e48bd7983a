"""What holds of blocks made of embeddings, whatever the tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progloc.blocks import TokenisedText, partitioner
from progloc.blocks.embeddings import directions

VOCABULARY = 30
EMBEDDINGS = np.random.default_rng(0).normal(size=(VOCABULARY, 8)).astype(np.float32)
NAMES = ["similarity", "similarity:3", "similarity-clusters", "similarity-clusters:3", "recruited", "recruited:5"]
PARTITIONERS = {name: partitioner(name).prepared(EMBEDDINGS) for name in NAMES}
CONTIGUOUS = [name for name in NAMES if "clusters" not in name]

every = pytest.mark.parametrize("name", NAMES)
tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=120)


def text_of(ids: list[int]) -> TokenisedText:
    starts = np.arange(len(ids))
    return TokenisedText("x" * len(ids), np.array(ids, dtype=np.int64), np.stack([starts, starts + 1], axis=-1))


@pytest.mark.slow
@every
@given(ids=tokens)
def test_every_token_is_in_one_block_and_the_same_on_every_call(name, ids):
    blocks = PARTITIONERS[name](text_of(ids))
    assert blocks.shape == (len(ids),)
    assert blocks.dtype == np.int64
    assert set(blocks) == set(range(len(set(blocks))))
    assert np.array_equal(blocks, PARTITIONERS[name](text_of(ids)))


@pytest.mark.parametrize("name", CONTIGUOUS)
@given(ids=tokens)
def test_blocks_are_runs_no_longer_than_the_longest(name, ids):
    blocks = PARTITIONERS[name](text_of(ids))
    assert set(np.diff(blocks)) <= {0, 1}
    longest = {"similarity": 36, "similarity:3": 9, "recruited": 32, "recruited:5": 5}[name]
    assert max(np.bincount(blocks), default=0) <= longest


@given(ids=tokens)
def test_equal_tokens_share_a_cluster(ids):
    blocks = PARTITIONERS["similarity-clusters:3"](text_of(ids))
    assert len(set(zip(ids, blocks, strict=True))) == len(set(ids))
    assert len(set(blocks)) <= 3


@given(scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_neither_the_embeddings_mean_nor_their_scale_matters(scale, shift):
    table = directions(EMBEDDINGS)
    moved = directions((EMBEDDINGS.astype(np.float64) + shift) * scale)
    assert np.allclose(moved @ moved.T, table @ table.T, atol=1e-4)  # directions themselves have no sign


@pytest.mark.slow
@given(ids=tokens)
def test_a_descriptions_parts_are_not_negative_where_they_pay_for_something(ids):
    length = PARTITIONERS["recruited:5"].description_length(text_of(ids))
    assert len(length.bits) == len(set(PARTITIONERS["recruited:5"](text_of(ids))))
    assert (length.opening_bits == np.log2(5)).all()
    assert (length.parameter_bits > 0).all()
