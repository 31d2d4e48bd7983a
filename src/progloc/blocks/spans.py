"""From places in the text to tokens: which token opens a block, and the numbers of the blocks (docs/blocks.md).

A token stands where the first character of its span stands that is not white space, whatever else the span holds. So
the space that byte-level tokenizers put before a word moves no word, and tokens that are bytes of one character, and
share its span, stay together. A token of white space alone goes with the token before it, or, before any other, with
what follows.

Partitioners that read text find the places where blocks open as positions of characters. Where the decision about a
position needs no more than the text up to its `Reach`, the tokens up to the one that would open the block are enough:
that is what makes a partitioner causal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from progloc.blocks.partitioning import IntArray, Partitioner, TokenisedText

BoolArray = NDArray[np.bool_]
Reach = Callable[[str, int], int]
"""From a text and a position to how far the text may be read to decide whether a block opens there."""

_BEYOND = 0x3001
"""No character from here on is white space."""
_IS_SPACE: BoolArray = np.array([chr(code).isspace() for code in range(_BEYOND)] + [False])


def token_places(text: TokenisedText) -> IntArray:
    """Return where each token stands, (T,): its first character that is not white space.

    A token without one has the place of the token before it, or -1 where there is none.
    """
    codes = np.frombuffer(text.text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)  # (characters,)
    is_space = _IS_SPACE[np.minimum(codes, _BEYOND)]
    starts, ends = text.offsets[:, 0], text.offsets[:, 1]  # (T,), (T,)
    visible = np.flatnonzero(~is_space)
    next_visible = np.append(visible, len(codes))[np.searchsorted(visible, starts)]
    return np.maximum.accumulate(np.where(next_visible < ends, next_visible, -1))


def opens_block(places: IntArray, positions: IntArray) -> BoolArray:
    """Return which tokens are the first at or after one of ``positions``, (T,).

    Args:
        places: of the tokens, (T,), as from `token_places`.
        positions: where blocks open, ascending, any number of characters.
    """
    return np.diff(np.searchsorted(positions, places, side="right"), prepend=0) > 0


def whole_text(text: str, position: int) -> int:
    """The reach of partitioners that may look ahead."""
    return len(text)


def reach_of(text: TokenisedText, places: IntArray) -> Reach:
    """Return the reach of causal partitioners: the end of the token that would open the block, the first from there on.

    Args:
        text: the tokens.
        places: theirs, (T,), as from `token_places`.
    """
    ends = text.offsets[:, 1]

    def reach(characters: str, position: int) -> int:
        token = int(np.searchsorted(places, position))
        return max(int(ends[token]), position) if token < len(ends) else position

    return reach


class TextPartitioner(Partitioner):
    """A partitioner that finds in the text which tokens open a block."""

    version: int | None = 3

    @abstractmethod
    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a block, (T,); ``places`` are the tokens', as from `token_places`."""

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return block ids, (T,): 0 from the start, and one more from every token that opens a block.

        The first token that is no white space opens none, for the white space before it is of its block.
        """
        places = token_places(text)
        leading = np.count_nonzero(places < 0)
        return np.cumsum(self.opens(text, places) & (np.arange(len(places)) > leading), dtype=np.int64)
