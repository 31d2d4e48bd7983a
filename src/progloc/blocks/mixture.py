"""Several granularities at once: coarse blocks in early layers, fine ones in late layers (docs/blocks.md)."""

from __future__ import annotations

__all__ = ["Mixture"]

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np

from progloc.blocks.base import FloatArray, IntArray, Partitioner, TokenisedText, partitioner, register_partitioner
from progloc.errors import ProglocError

if TYPE_CHECKING:
    from torch import Tensor


@register_partitioner("mixture")
class Mixture(Partitioner):
    """`mixture:A+B+…`: the first layers have the blocks of A, the last those of the last named, in equal shares.

    `mixture:paragraphs+sentences+phrases` gives each third of a model's layers blocks of its own. A token has a block
    id for each of the G partitioners. Causal if all of them are.
    """

    def __init__(self, argument: str = "") -> None:
        names = argument.split("+")
        if len(names) < 2 or not all(names) or any(name.partition(":")[0] == "mixture" for name in names):
            raise ProglocError(
                f"blocks 'mixture:{argument}'; expected two or more partitioners, those of early layers first, as in "
                "mixture:paragraphs+sentences"
            )
        self._take([partitioner(name) for name in names])

    def _take(self, parts: list[Partitioner]) -> None:
        self.parts = parts
        self.granularities = len(parts)
        self.causal = all(part.causal for part in parts)
        self.needs_embeddings = any(part.needs_embeddings for part in parts)
        self.table = next((part.table for part in parts if part.table is not None), None)  # one model's: all the same
        versions = [part.version for part in parts if part.version is not None]
        self.version = sum(versions) if len(versions) == len(parts) else None

    def _of(self, change: Callable[[Partitioner], Partitioner]) -> Self:
        other = copy.copy(self)
        other._take([change(part) for part in self.parts])
        return other

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids of every granularity, (T, G)."""
        return np.stack([part(text) for part in self.parts], axis=-1)

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return the same with every part prepared."""
        return self._of(lambda part: part.prepared(embeddings))

    def with_table(self, table: FloatArray | None) -> Self:
        """Return the same with the table given to those that need it."""
        return self._of(lambda part: part.with_table(table) if part.needs_embeddings else part)

    def from_positions(self, positions: Tensor) -> Tensor | None:
        """Return block ids (B, T, G); None where one of them needs the text."""
        import torch

        found = [part.from_positions(positions) for part in self.parts]
        known = [ids for ids in found if ids is not None]
        return torch.stack(known, -1) if len(known) == len(found) else None

    def starts_afresh(self, text: str) -> int:
        """Return where all parts start afresh, 0 where they differ."""
        found = {part.starts_afresh(text) for part in self.parts}
        return found.pop() if len(found) == 1 else 0
