"""Roles from what a text is made of."""

from __future__ import annotations

import pytest
import torch

from progloc import READER, SHARED, ProglocError
from progloc.roles import roles_from_blocks

BLOCKS = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 1, 3, 3, 3]])


def test_the_last_block_reads() -> None:
    expected = [[SHARED, 0, 1, 1, 1, READER], [SHARED, 1, 1, READER, READER, READER]]
    assert roles_from_blocks(BLOCKS).tolist() == expected
    assert roles_from_blocks(BLOCKS[1]).tolist() == expected[1]


def test_a_reader_starts_where_it_is_told_to() -> None:
    starts = torch.tensor([2, 6])
    expected = [[SHARED, SHARED, READER, READER, READER, READER], [SHARED, SHARED, 1, 3, 3, 3]]
    assert roles_from_blocks(BLOCKS, starts, shared=2).tolist() == expected
    assert roles_from_blocks(BLOCKS, 0, shared=0).tolist() == [[READER] * 6] * 2


@pytest.mark.parametrize("start", [-1, 7])
def test_a_reader_outside_the_text_is_refused(start: int) -> None:
    with pytest.raises(ProglocError, match="expected 0 to 6"):
        roles_from_blocks(BLOCKS, start)


def test_several_granularities_are_refused() -> None:
    with pytest.raises(ProglocError, match="pick one granularity"):
        roles_from_blocks(BLOCKS[..., None])
