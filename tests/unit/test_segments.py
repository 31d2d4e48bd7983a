"""Segments of labelled tokens, and documents told apart by padding and positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from progloc.attention.segments import documents_in, first_tokens, segments, tokens_before


def earlier_of_the_same(labels: list[list[int]], token: int) -> list[int]:
    return [t for t in range(token) if all(row[t] == row[token] for row in labels)]


@given(st.integers(1, 24).flatmap(lambda n: st.lists(st.lists(st.integers(-1, 3), min_size=n, max_size=n), min_size=1,
                                                      max_size=3)))  # fmt: skip
def test_tokens_that_agree_in_every_label_are_one_segment(labels: list[list[int]]) -> None:
    found = segments(*(torch.tensor([row, row[::-1]]) for row in labels))
    before, first = tokens_before(found)[0], first_tokens(found)[0]
    for token in range(len(labels[0])):
        same = earlier_of_the_same(labels, token)
        assert before[token] == len(same)
        assert first[token] == (same[0] if same else token)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=24))
def test_every_place_lies_in_its_segment(labels: list[int]) -> None:
    found = segments(torch.tensor([labels]))
    assert found.order.dtype == found.start.dtype == found.end.dtype == torch.int32
    order, start, end = (part[0].tolist() for part in found)
    assert sorted(order) == list(range(len(labels)))
    for place, token in enumerate(order):
        there = order[start[place] : end[place]]
        assert there == [t for t, label in enumerate(labels) if label == labels[token]]


@pytest.mark.parametrize(
    ("mask", "positions", "documents"),
    [
        ([1, 1, 1, 1], None, [0, 0, 0, 0]),
        ([0, 0, 1, 1], None, [-1, -1, 0, 0]),
        ([1, 1, 0, 0], None, [0, 0, -1, -1]),
        ([1, 0, 1, 1], None, [0, -1, 0, 0]),
        ([0, 0, 0, 0], None, [-1, -1, -1, -1]),
        ([1, 1, 1, 1], [5, 6, 7, 8], [0, 0, 0, 0]),
        ([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1]),
        ([1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 2, 2]),
    ],
)
def test_documents(mask: list[int], positions: list[int] | None, documents: list[int]) -> None:
    given_positions: Tensor | None = None if positions is None else torch.tensor([positions])
    assert documents_in(torch.tensor([mask]), given_positions).tolist() == [documents]
