"""What partitioners that read token embeddings share: few directions, kept once a model (docs/embedding-blocks.md)."""

from __future__ import annotations

__all__ = ["DIRECTIONS", "EmbeddingPartitioner", "directions", "whole_number"]

from typing import Self

import numpy as np

from progloc.blocks.base import FloatArray, Partitioner, TokenisedText
from progloc.errors import ProglocError

DIRECTIONS = 128
"""How many principal directions of the vocabulary are kept, at most: the table is V × 128 instead of V × D."""


def directions(embeddings: FloatArray) -> FloatArray:
    """Return unit vectors (V, d), d ≤ min(D, 128), float32: embeddings less their mean, half whitened.

    Each principal direction is divided by the square root of its deviation. The first few of a language model's
    embeddings tell frequent tokens from rare ones and would decide every comparison as they are; whitened wholly, the
    last would count as much, and they are noise. A token at the vocabulary's mean stays 0.
    """
    centred = embeddings - embeddings.mean(axis=0)  # (V, D)
    variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))  # (D,), (D, D)
    kept = np.flatnonzero(variances > 1e-9 * variances[-1])[-DIRECTIONS:]
    scaled = centred @ (axes[:, kept] / variances[kept] ** 0.25)  # (V, d)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32)


class EmbeddingPartitioner(Partitioner):
    """A partitioner that compares tokens by a model's input embeddings.

    They are read once, when a model is localised, and kept as `table` with the model: its blocks do not move while its
    embeddings train, nor afterwards.
    """

    needs_embeddings = True

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return the same for a model whose input embeddings are (V, D).

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
