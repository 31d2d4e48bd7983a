"""Blocks of tokens whose embeddings are alike: stretches of the text, or clusters anywhere in it."""

from __future__ import annotations

__all__ = ["Similarity", "SimilarityClusters"]

import warnings

import numpy as np
import scipy  # its parts are loaded when they are first used

from progloc.blocks.base import FloatArray, IntArray, TokenisedText, register_partitioner
from progloc.blocks.embeddings import EmbeddingPartitioner, whole_number
from progloc.blocks.segmentation import best_blocks, squared_sums

LONGEST = 3
"""The longest block, in target sizes."""


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


def _far_apart(vectors: FloatArray, count: int) -> list[int]:
    """Return ``count`` of (n, d): the first, and each time the one least similar to all those taken."""
    taken, closest = [0], vectors @ vectors[0]
    while len(taken) < count:
        taken.append(int(closest.argmin()))
        closest = np.maximum(closest, vectors @ vectors[taken[-1]])
    return taken


@register_partitioner("similarity-clusters")
class SimilarityClusters(EmbeddingPartitioner):
    """`similarity-clusters:K` (10 if none is given): k-means of the sequence's distinct tokens, at most K clusters.

    A block is the tokens of a cluster, wherever they stand; equal tokens share one. Not causal: clusters are made of
    the whole sequence.
    """

    version = 1
    ITERATIONS = 10

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
            _, cluster_of = scipy.cluster.vq.kmeans2(types, centres, iter=self.ITERATIONS, minit="matrix")
        labels = cluster_of[type_of]  # (T,)
        _, opened, block_of = np.unique(labels, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(opened))[block_of].astype(np.int64)
