"""Blocks of tokens whose embeddings are alike: stretches of the text, or clusters anywhere in it.

Here is also what partitioners that read token embeddings share: a few directions of the vocabulary, kept once a model
(docs/embedding-blocks.md), and the best division of a sequence into contiguous blocks, by dynamic programming.
"""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import scipy  # its parts are loaded when they are first used

from progloc.blocks.partitioning import FloatArray, IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.errors import ProglocError

DIRECTIONS = 128
"""How many principal directions of the vocabulary are kept, at most: the table is V × 128 instead of V × D."""
CHUNK = 1024
"""Tokens at a time, so that the working set stays in the processor's cache."""
LONGEST = 3
"""The longest block of `similarity`, in target sizes."""
ITERATIONS = 10
"""Of k-means."""


def directions(embeddings: FloatArray) -> FloatArray:
    """Return unit vectors (V, d), d ≤ min(D, 128), float32: embeddings less their mean, half whitened.

    Each principal direction is divided by the square root of its deviation. The first few of a language model's
    embeddings tell frequent tokens from rare ones and would decide every comparison as they are; whitened wholly, the
    last would count as much, and they are noise. A token at the vocabulary's mean stays 0.
    """
    centred = embeddings - embeddings.mean(axis=0)  # (V, D)
    variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))  # (D,), (D, D)
    largest = np.flatnonzero(variances > 1e-9 * variances[-1])[-DIRECTIONS:]
    scaled = centred @ (axes[:, largest] / variances[largest] ** 0.25)  # (V, d)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32)


class EmbeddingPartitioner(Partitioner):
    """A partitioner that compares tokens by a model's input embeddings.

    They are read once, when a model is localised, and kept as `table` with the model: its blocks do not move while its
    embeddings train, nor afterwards.
    """

    needs_embeddings = True

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return a copy for a model whose input embeddings are (V, D).

        Raises:
            ProglocError: embeddings that are not a matrix of finite numbers, or are the same for every token.
        """
        usable = embeddings.ndim == 2 and embeddings.size > 0 and np.isfinite(embeddings).all()
        if not usable or not np.ptp(embeddings, axis=0).any():
            raise ProglocError(
                f"input embeddings of shape {embeddings.shape} for the blocks '{self.name}'; "
                "expected a matrix (V, D) of finite numbers, not all tokens alike"
            )
        return self.with_table(directions(embeddings))

    def vectors(self, text: TokenisedText) -> FloatArray:
        """Return the tokens' vectors, (T, d), of unit length or 0.

        Raises:
            ProglocError: it was not prepared, or for a smaller vocabulary.
        """
        if self.table is None:
            raise ProglocError(
                f"the blocks '{self.name}' need a model's input embeddings; use model.locality.partitioner of a "
                "localised model, or partitioner(name).prepared(embeddings)"
            )
        if len(text) and text.input_ids.max() >= len(self.table):
            raise ProglocError(
                f"token {text.input_ids.max()} for blocks '{self.name}' that know {len(self.table)} tokens; "
                "expected the tokenizer of the model they were prepared for"
            )
        return self.table[text.input_ids]


def whole_number(name: str, argument: str, default: int, least: int, most: int) -> int:
    """Return the number in `name:argument`, the default if there is none; ProglocError if it is not in the range."""
    if not argument:
        return default
    if not argument.isdecimal() or not least <= int(argument) <= most:
        raise ProglocError(
            f"blocks '{name}:{argument}'; expected {name}:N with N a whole number from {least} to {most}, "
            f"as in {name}:{default}"
        )
    return int(argument)


def squared_sums(vectors: FloatArray, longest: int) -> FloatArray:
    """Return |Σ x|² of every block of at most ``longest`` tokens, (T, longest).

    Row t holds the blocks that end with token t, the longest first: column j is the block of ``longest`` − j tokens.
    Where that would begin before the sequence the entry is 0.
    """
    tokens = len(vectors)
    products = np.zeros((tokens, longest))  # [t, lag]: x_t · x_(t-lag)
    for begin in range(0, tokens, CHUNK):
        end = min(begin + CHUNK, tokens)
        for lag in range(min(longest, end)):
            first = max(begin, lag)
            products[first:end, lag] = np.vecdot(vectors[first:end], vectors[first - lag : end - lag])
    added = 2 * np.cumsum(products, axis=1) - products[:, :1]  # by token t to the block that it makes lag + 1 long
    sums = np.zeros((tokens, longest))
    before = np.zeros(tokens)
    for lag in range(min(longest, tokens)):
        before = before[: tokens - lag] + added[lag:, lag]  # (tokens - lag,), by the block's first token
        sums[lag:, longest - 1 - lag] = before
    return sums


def best_blocks(costs: FloatArray) -> IntArray:
    """Return the block ids (T,), from 0 upwards, of the contiguous blocks whose costs sum to the least.

    Args:
        costs: (T, longest), of every block that may be chosen, laid out as by `squared_sums`. Blocks that would begin
            before the sequence are not looked at. Of equal divisions the one with the longest last blocks is taken.
    """
    tokens, longest = costs.shape
    least = np.full(longest + tokens, np.inf)  # [longest + t]: of the tokens up to t; infinite before the sequence
    least[longest - 1] = 0
    columns = np.empty(tokens, dtype=np.int64)
    for token, row in enumerate(costs):
        totals = least[token : token + longest] + row
        column = columns[token] = totals.argmin()
        least[longest + token] = totals[column]
    opens = np.zeros(tokens, dtype=np.int64)
    end = tokens
    while end > 0:
        end -= longest - int(columns[end - 1])
        opens[end] = 1
    return np.cumsum(opens) - 1


@register_partitioner("similarity")
class Similarity(EmbeddingPartitioner):
    """`similarity:N` (12 if none is given): contiguous blocks of about N alike tokens, at most 3N.

    Of all divisions it takes the one with the greatest sum over blocks of

        Σ_{i≠j} x_i·x_j / n − (n/N − 1)²

    with x the tokens' unit vectors and n the block's size: every token counts its mean similarity to the others of its
    block, and a block pays for being of another size than asked for. Between unrelated tokens the first term is 0 on
    average whatever n is, so that it favours no size of itself. Not causal: where a block ends shows in what follows.
    """

    version = 1

    def __init__(self, argument: str = "") -> None:
        self.size = whole_number("similarity", argument, default=12, least=2, most=100)

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids, (T,)."""
        longest = LONGEST * self.size
        sizes = np.arange(longest, 0, -1)
        similarity = (squared_sums(self.vectors(text), longest) - sizes) / sizes  # (T, 3N)
        return best_blocks((sizes / self.size - 1) ** 2 - similarity)


@register_partitioner("similarity-clusters")
class SimilarityClusters(EmbeddingPartitioner):
    """`similarity-clusters:K` (10 if none is given): k-means of the sequence's distinct tokens, at most K clusters.

    A block is the tokens of a cluster, wherever they stand; equal tokens share one. Not causal: clusters are made of
    the whole sequence.
    """

    version = 1

    def __init__(self, argument: str = "") -> None:
        self.clusters = whole_number("similarity-clusters", argument, default=10, least=1, most=1000)

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids, (T,), numbered as the blocks come up in the sequence."""
        vectors = self.vectors(text)
        if not len(text):
            return np.zeros(0, dtype=np.int64)
        _, firsts, type_of = np.unique(text.input_ids, return_index=True, return_inverse=True)
        types = vectors[firsts].astype(np.float64)  # (distinct tokens, d)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a cluster came out empty: then there is one fewer
            centres = types[_far_apart(types, min(self.clusters, len(types)))]
            _, cluster_of = scipy.cluster.vq.kmeans2(types, centres, iter=ITERATIONS, minit="matrix")
        _, opened, block_of = np.unique(cluster_of[type_of], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(opened))[block_of].astype(np.int64)


def _far_apart(vectors: FloatArray, count: int) -> list[int]:
    """Return ``count`` of (n, d): the first, then each time the one least similar to all those chosen."""
    chosen, closest = [0], vectors @ vectors[0]
    while len(chosen) < count:
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, vectors @ vectors[chosen[-1]])
    return chosen
