"""What a partitioner is, a map from a tokenised text to block ids (method.md §8); the simplest, and mixtures of them.

To add one, subclass `Partitioner` in a file of its own beside this one and decorate it::

    @register_partitioner("lines")
    class Lines(Partitioner):
        causal = True

        def __call__(self, text: TokenisedText) -> IntArray:
            return np.array([text.text.count("\\n", 0, start) for start, _ in text.offsets])
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from progloc.errors import ProglocError
from progloc.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.floating[Any]]
NO_BLOCK = -1
"""The block id of padding: block ids of tokens are ≥ 0."""


@dataclass(frozen=True)
class TokenisedText:
    """One sequence: its text, its T tokens, and the half-open character span (start, end) of each token in the text."""

    text: str
    input_ids: IntArray
    """(T,)"""
    offsets: IntArray
    """(T, 2)"""

    def __len__(self) -> int:
        return len(self.input_ids)


class Partitioner(ABC):
    """Assigns every token of a sequence to a block.

    Blocks are numbered from 0; ids need not be contiguous nor ordered. One call sees one document or sequence, so ids
    never mean anything across documents.
    """

    name: str = ""
    """The name it was asked for by, argument included (`fixed:5`)."""
    causal: bool = False
    """Whether a token's block depends only on the tokens up to it. Only causal partitioners may serve generation."""
    granularities: int = 1
    """G: how many block ids it gives a token, for as many groups of layers. With more than one, shapes end in G."""
    needs_embeddings: bool = False
    """Whether it has to be `prepared` with a model's input embeddings before it is called."""
    table: FloatArray | None = None
    """What `prepared` keeps of the embeddings, (V, d); saved with the model, so that its blocks stay the same."""
    version: int | None = None
    """Where set, block ids are cached; raise it whenever the same text would be divided otherwise."""

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise ProglocError(f"the partitioner '{type(self).__name__}' takes no argument; given '{argument}'")

    def __repr__(self) -> str:
        return f"<partitioner {self.name or type(self).__name__}>"

    @abstractmethod
    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids of a sequence, (T,) integers ≥ 0; (T, G) with several granularities."""

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return this partitioner for a model whose input embeddings are (V, D); itself where it needs none."""
        return self

    def with_table(self, table: FloatArray | None) -> Self:
        """Return a copy with another `table`."""
        duplicate = copy.copy(self)
        duplicate.table = table
        return duplicate

    def from_positions(self, positions: Tensor) -> Tensor | None:
        """Return block ids (B, T), or (B, T, G), from token positions (B, T) alone; None where the text is needed."""
        return None

    def starts_afresh(self, text: str) -> int:
        """Return a position from which the text is divided as if it began there; 0 where no other is known.

        A token that stands there opens a block, and no earlier block takes up a token after it, whatever follows the
        character there. Generation then need not divide the text before it again at every step: the later the better.
        """
        return 0


_registry: Registry[type[Partitioner]] = Registry("partitioner", "progloc.partitioners")

P = TypeVar("P", bound=type[Partitioner])


def register_partitioner(name: str) -> Callable[[P], P]:
    """Decorator: file a Partitioner class under a name; `name:argument` then builds it with that argument."""

    def add(cls: P) -> P:
        _registry.register(name)(cls)
        return cls

    return add


def partitioner(name: str | Partitioner) -> Partitioner:
    """Return the partitioner that a name (`fixed:5`) stands for; a Partitioner is returned as it is.

    Raises:
        ProglocError: an unknown name (the known ones are listed) or an argument it cannot use.
    """
    if isinstance(name, Partitioner):
        return name
    key, _, argument = name.strip().partition(":")
    built = _registry[key](argument)
    built.name = name.strip()
    return built


@register_partitioner("fixed")
class Fixed(Partitioner):
    """`fixed:N`, the paper's own blocks: token i is in block i // N, counted from the start of its sequence."""

    causal = True

    def __init__(self, argument: str = "") -> None:
        if not argument.isdecimal() or not 1 <= int(argument) < 2**31:
            raise ProglocError(f"blocks 'fixed:{argument}'; expected fixed:N with N a whole number ≥ 1, as in fixed:5")
        self.size = int(argument)

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return i // N for every token, (T,)."""
        return np.arange(len(text), dtype=np.int64) // self.size

    def from_positions(self, positions: Tensor) -> Tensor:
        """Return positions // N, (B, T)."""
        return positions // self.size


def is_fixed(blocks: str) -> bool:
    """Return whether a partitioner's name is one of `fixed`."""
    return blocks.partition(":")[0] == "fixed"


@register_partitioner("mixture")
class Mixture(Partitioner):
    """`mixture:A+B+…`: the first layers have the blocks of A, the last those of the last named, in equal shares.

    `mixture:paragraphs+sentences+phrases` gives each third of a model's layers blocks of its own. A token has a block
    id for each of the G partitioners. Causal if all of them are (docs/blocks.md).
    """

    def __init__(self, argument: str = "") -> None:
        names = argument.split("+")
        if len(names) < 2 or not all(names) or any(name.partition(":")[0] == "mixture" for name in names):
            raise ProglocError(
                f"blocks 'mixture:{argument}'; expected two or more partitioners, those of early layers first, as in "
                "mixture:paragraphs+sentences"
            )
        self._set_parts([partitioner(name) for name in names])

    def _set_parts(self, parts: list[Partitioner]) -> None:
        self.parts = parts
        self.granularities = len(parts)
        self.causal = all(part.causal for part in parts)
        self.needs_embeddings = any(part.needs_embeddings for part in parts)
        self.table = next((part.table for part in parts if part.table is not None), None)  # one model's: all the same
        versions = [part.version for part in parts if part.version is not None]
        self.version = sum(versions) if len(versions) == len(parts) else None

    def _map(self, change: Callable[[Partitioner], Partitioner]) -> Self:
        duplicate = copy.copy(self)
        duplicate._set_parts([change(part) for part in self.parts])
        return duplicate

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids of every granularity, (T, G)."""
        return np.stack([part(text) for part in self.parts], axis=-1)

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return a copy with every part prepared."""
        return self._map(lambda part: part.prepared(embeddings))

    def with_table(self, table: FloatArray | None) -> Self:
        """Return a copy with the table given to the parts that need it."""
        return self._map(lambda part: part.with_table(table) if part.needs_embeddings else part)

    def from_positions(self, positions: Tensor) -> Tensor | None:
        """Return block ids (B, T, G); None where a part needs the text."""
        import torch

        by_part = [part.from_positions(positions) for part in self.parts]
        known = [ids for ids in by_part if ids is not None]
        return torch.stack(known, -1) if len(known) == len(by_part) else None

    def starts_afresh(self, text: str) -> int:
        """Return where all parts start afresh, 0 where they differ."""
        positions = {part.starts_afresh(text) for part in self.parts}
        return positions.pop() if len(positions) == 1 else 0
