import numpy as np
import pytest
import torch

from progloc.blocks import Fixed, Partitioner, TokenisedText, partitioner
from progloc.errors import ProglocError


def text_of(tokens: int) -> TokenisedText:
    starts = np.arange(tokens)
    return TokenisedText("x" * tokens, input_ids=starts, offsets=np.stack([starts, starts + 1], axis=-1))


def test_fixed_blocks_of_five():
    ids = partitioner("fixed:5")(text_of(12))
    assert ids.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    assert ids.dtype == np.int64


def test_chance_fidelity_of_five_token_blocks_at_128_is_the_methods_0_110():
    ids = partitioner("fixed:5")(text_of(128))
    in_block = (ids[:, None] == ids[None, :]) & np.tri(128, dtype=bool)
    assert (in_block.sum(-1) / np.arange(1, 129)).mean() == pytest.approx(0.110, abs=5e-4)


def test_128_tokens_are_26_blocks():
    assert partitioner("fixed:5")(text_of(128)).max() + 1 == 26


def test_an_empty_text_has_no_blocks():
    assert partitioner("fixed:5")(text_of(0)).shape == (0,)


def test_a_partitioner_keeps_the_name_it_was_asked_for_by():
    five = partitioner(" fixed:5 ")
    assert (five.name, five.causal, type(five)) == ("fixed:5", True, Fixed)
    assert partitioner(five) is five


@pytest.mark.parametrize("argument", ["", ":", ":0", ":-1", ":2.5", ":five"])
def test_a_size_that_is_none_is_refused(argument):
    with pytest.raises(ProglocError, match="expected fixed:N with N a whole number ≥ 1"):
        partitioner(f"fixed{argument}")


def test_an_unknown_partitioner_brings_the_known_ones():
    with pytest.raises(ProglocError, match=r"unknown partitioner 'fix'; did you mean 'fixed'\? known: .*fixed"):
        partitioner("fix:5")


class Whole(Partitioner):
    """Everything in one block; takes no argument and needs the text."""

    def __call__(self, text):
        return np.zeros(len(text), dtype=np.int64)


def test_a_partitioner_is_taken_to_need_the_text_and_the_future_unless_it_says_otherwise():
    assert Whole.causal is False
    assert Whole().from_positions(torch.arange(4)[None]) is None
    with pytest.raises(ProglocError, match="'Whole' takes no argument; given '3'"):
        Whole("3")
