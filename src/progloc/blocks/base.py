"""What a partitioner is: a map from a tokenised text to block ids (method.md §8).

To add one, subclass `Partitioner` in a file of its own beside this one and decorate it::

    @register_partitioner("lines")
    class Lines(Partitioner):
        causal = True

        def __call__(self, text: TokenisedText) -> IntArray:
            return np.array([text.text.count("\\n", 0, start) for start, _ in text.offsets])
"""

from __future__ import annotations

__all__ = ["NO_BLOCK", "FloatArray", "IntArray", "Partitioner", "TokenisedText", "partitioner", "register_partitioner"]

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
    """What `prepared` keeps of the embeddings, (V, d): a model is saved with it, so that its blocks stay."""
    version: int | None = None
    """Where set, block ids are kept in the cache; raise it whenever the same text would be divided otherwise."""

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise ProglocError(f"the partitioner '{type(self).__name__}' takes no argument; given '{argument}'")

    def __repr__(self) -> str:
        return f"<partitioner {self.name or type(self).__name__}>"

    @abstractmethod
    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the block ids of a sequence, (T,) integers ≥ 0; (T, G) with several granularities."""

    def prepared(self, embeddings: FloatArray) -> Self:
        """Return the same for a model whose input embeddings are (V, D); itself where it needs none."""
        return self

    def with_table(self, table: FloatArray | None) -> Self:
        """Return the same with another `table`."""
        other = copy.copy(self)
        other.table = table
        return other

    def from_positions(self, positions: Tensor) -> Tensor | None:
        """Return block ids (B, T), or (B, T, G), from token positions (B, T) alone; None where the text is needed."""
        return None

    def starts_afresh(self, text: str) -> int:
        """Return a position from which on the text is divided as if it began there; 0 where none but that is known.

        A token that stands there opens a block, and blocks before it take up no token after it, whatever comes after
        the character there. It spares dividing what is long past at every step of a generation; the later the better.
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
