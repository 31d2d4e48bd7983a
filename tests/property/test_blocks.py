import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from progloc.attention.segments import documents_in, segments, tokens_before
from progloc.blocks import TokenisedText, partitioner

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
