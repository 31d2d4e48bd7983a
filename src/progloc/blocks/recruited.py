"""Blocks that are opened only where a shorter description of the text pays for them (docs/embedding-blocks.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from progloc.blocks.embeddings import EmbeddingPartitioner, best_blocks, squared_sums, whole_number
from progloc.blocks.partitioning import FloatArray, IntArray, TokenisedText, register_partitioner

LAGS = range(2, 17)
"""The distances at which tokens are compared to estimate ρ; neighbours are left out, being grammar."""
LEAST_SHARE, MOST_SHARE = 0.002, 0.5


@dataclass(frozen=True)
class DescriptionLength:
    """What a division of a sequence into K contiguous blocks costs, block by block, in bits; each array is (K,).

    Tokens are real vectors, so their bits are those of a density, at unit precision; a finer precision adds the same to
    every division.
    """

    opening_bits: FloatArray
    """Of the block's length."""
    parameter_bits: FloatArray
    """Of its mean."""
    token_bits: FloatArray
    """Of its tokens, given its mean."""
    saved_bits: FloatArray
    """The criterion: by how much opening the block shortens the whole, against continuing the one before; 0 for the
    first block, which is no choice. Less than 0 only where the one before had to end, being at its longest."""

    @property
    def bits(self) -> FloatArray:
        """The sum of the three parts, (K,)."""
        return self.opening_bits + self.parameter_bits + self.token_bits


@dataclass(frozen=True)
class BlockCode:
    """A two-part code for the tokens of a sequence: every block has a mean of its own, normally distributed.

    Vectors are coded relative to the sequence's mean, in units of its deviation, which every division shares. A block's
    mean is N(0, ρ) and a token N(mean, 1 − ρ) in every direction. With the mean integrated out, n tokens cost

        n·d/2 log2(2π(1 − ρ)) + (Σ|x|² − |Σx|² / (n + 1/r)) / (2(1 − ρ) ln 2)  +  d/2 log2(1 + n·r),    r = ρ/(1 − ρ)

    the last of which pays for the mean: nothing where ρ is 0, and more the more tokens there are to make it precise.
    """

    mean: FloatArray
    """(d,)"""
    deviation: float
    """The root of the mean square over tokens and directions."""
    share: float
    """ρ: how much of the variance lies between blocks, from 0.002 to 0.5."""

    @classmethod
    def of(cls, vectors: FloatArray) -> BlockCode:
        """Return the code of a sequence (T, d): ρ is the mean product of its tokens 2 to 16 apart."""
        if not len(vectors):
            return cls(np.zeros(vectors.shape[1]), 1.0, LEAST_SHARE)
        mean = vectors.mean(axis=0)
        spread = float((vectors - mean).std())
        deviation = spread if spread > 1e-6 else 1.0  # of tokens that are all the same
        coded = (vectors - mean) / deviation
        lags = [lag for lag in LAGS if lag < len(coded)]
        products = [float(np.vecdot(coded[lag:], coded[:-lag]).mean()) / len(mean) for lag in lags] or [LEAST_SHARE]
        return cls(mean, deviation, float(np.clip(np.mean(products), LEAST_SHARE, MOST_SHARE)))

    @property
    def ratio(self) -> float:
        """r: the variance between blocks over that within."""
        return self.share / (1 - self.share)

    def standardised(self, vectors: FloatArray) -> FloatArray:
        """Return vectors (T, d) less the mean, over the deviation."""
        return (vectors - self.mean) / self.deviation

    def parameter_bits(self, sizes: IntArray) -> FloatArray:
        """Return what a block's mean costs, by the block's number of tokens (any shape)."""
        return len(self.mean) / 2 * np.log2(1 + sizes * self.ratio)

    def token_bits(self, sizes: IntArray, squares: FloatArray, squares_of_sums: FloatArray) -> FloatArray:
        """Return what the tokens of blocks cost given their means, from n, Σ|x|² and |Σx|² (shapes that broadcast)."""
        within = 1 - self.share
        spread = squares - squares_of_sums / (sizes + 1 / self.ratio)
        return sizes * len(self.mean) / 2 * np.log2(2 * np.pi * within) + spread / (2 * within * np.log(2))


@register_partitioner("recruited")
class Recruited(EmbeddingPartitioner):
    """`recruited:M` (32 if none is given): the contiguous blocks, of at most M tokens, with the shortest description.

    A block costs log2 M bits for its length, and its mean and its tokens as in `BlockCode`. The division of the least
    total is found exactly, so a block is opened only where that saves more than it costs, or where the one before is at
    its longest: in a text whose tokens share nothing at a distance most blocks are M long. Not causal: what a block
    saves shows in what follows.
    """

    version = 1

    def __init__(self, argument: str = "") -> None:
        self.longest = whole_number("recruited", argument, default=32, least=2, most=512)

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids, (T,)."""
        vectors = self.vectors(text)
        code = BlockCode.of(vectors)
        sums = squared_sums(code.standardised(vectors), self.longest)  # (T, M)
        sizes = np.arange(self.longest, 0, -1)
        # Σ|x|² is left out: over the blocks of a division it sums to the same whatever the division
        bits = code.parameter_bits(sizes) + code.token_bits(sizes, np.zeros(1), sums)
        return best_blocks(np.log2(self.longest) + bits)

    def description_length(self, text: TokenisedText, block_ids: IntArray | None = None) -> DescriptionLength:
        """Return what a sequence costs, block by block.

        Args:
            text: the sequence.
            block_ids: (T,), of another division into contiguous blocks, ascending, to be coded likewise; by default
                its own.
        """
        vectors = self.vectors(text)
        code = BlockCode.of(vectors)
        coded = code.standardised(vectors)
        ids = self(text) if block_ids is None else block_ids
        starts = np.flatnonzero(np.diff(ids, prepend=-1))  # (K,)
        sizes = np.diff(starts, append=len(coded))
        squares = np.add.reduceat(np.einsum("td,td->t", coded, coded), starts)
        sums = np.add.reduceat(coded, starts)  # (K, d)
        opening = np.full(len(starts), np.log2(self.longest))
        parameters, tokens = code.parameter_bits(sizes), code.token_bits(sizes, squares, (sums**2).sum(axis=1))
        bits = opening + parameters + tokens
        both, joined = sizes[1:] + sizes[:-1], ((sums[1:] + sums[:-1]) ** 2).sum(axis=1)
        carried_on = opening[1:] + code.parameter_bits(both) + code.token_bits(both, squares[1:] + squares[:-1], joined)
        saved = np.concatenate([np.zeros(min(len(bits), 1)), carried_on - bits[1:] - bits[:-1]])
        return DescriptionLength(opening, parameters, tokens, saved)
