"""The dial: one checkpoint from distributed to local at inference, by the odds of attention outside a token's block.

method.md §9. Out-of-block odds are multiplied by w = 1 − δ, layer by layer. Nothing of the model changes: while it is
dialled, calls of it carry w and block ids to attention, and `generate` works out the blocks of its tokens as they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from progloc.attention.dial import Dial
from progloc.blocks import Partitioner
from progloc.blocks.so_far import BlocksSoFar
from progloc.errors import ProglocError
from progloc.hub import pretrained
from progloc.scoped import Scoped


@dataclass
class Dialled:
    """How a model is dialled."""

    outside: tuple[float, ...]
    """w(ℓ) = 1 − δ(ℓ), L numbers in [0, 1]: what the odds outside the block are multiplied by."""
    keep_sink: bool
    """Whether the first token's odds stay as they are."""
    partitioner: Partitioner
    tokenizer: Any
    """The model's, or the name to load it by."""

    @property
    def turns(self) -> bool:
        """Whether it changes anything."""
        return min(self.outside) < 1

    @cached_property
    def blocks(self) -> BlocksSoFar:
        """What gives tokens their blocks as they are generated.

        Raises:
            ProglocError: the partitioner is not causal, or needs a tokenizer and there is none.
        """
        tokenizer = self.tokenizer
        needs_text = self.partitioner.from_positions(torch.zeros(1, 1, dtype=torch.long)) is None
        if needs_text and isinstance(tokenizer, str | None):
            tokenizer = pretrained(
                AutoTokenizer,
                tokenizer or "",
                "the blocks of generated text take one: dial(model, delta, tokenizer=tokenizer)",
            )
        return BlocksSoFar(self.partitioner, tokenizer)

    @property
    def by_layer(self) -> tuple[Dial, ...]:
        """What a call of the model carries to its attention."""
        return tuple(Dial(odds, self.keep_sink) for odds in self.outside)


_DIALS = Scoped[Dialled]("dial", "dial", "dialled")


def dialled(model: Any) -> Dialled | None:
    """Return how a model is dialled in this thread; None where it is as it was trained, as it is at δ = 0.

    Raises:
        ProglocError: it is dialled in another thread, and nobody said how it is to be in this one.
    """
    setting = _DIALS.of(model)
    return setting if setting is not None and setting.turns else None


def odds_outside(delta: float | Sequence[float], lambdas: Sequence[float]) -> tuple[float, ...]:
    """Return w(ℓ) = 1 − δ(ℓ) of every layer.

    Args:
        delta: one number δ, which stands for δ·λ(ℓ), or a number a layer; in [0, 1].
        lambdas: λ(ℓ), L numbers in [0, 1].

    Raises:
        ProglocError: another number of layers, a δ that is no number in [0, 1], or one δ where every λ is 0.
    """
    try:
        given = [float(delta)]  # type: ignore[arg-type]
        values = [given[0] * strength for strength in lambdas]
        idle = given[0] > 0 and not any(lambdas)
    except (TypeError, ValueError):
        try:
            values = given = [float(value) for value in delta]  # type: ignore[union-attr]
            idle = False
        except (TypeError, ValueError) as error:
            raise ProglocError(f"a dial of {delta!r}; expected a number in [0, 1], or one a layer") from error
    if len(values) != len(lambdas):
        raise ProglocError(f"a dial of {len(values)} numbers; the model has {len(lambdas)} layers: give one a layer")
    for value in given:
        if not 0 <= value <= 1:
            raise ProglocError(f"a dial of {value:g}; expected a number from 0 (as trained) to 1 (strictly local)")
    if idle:
        raise ProglocError(
            f"a dial of {given[0]:g} times λ, which is 0 in every layer of this model, does nothing; "
            "give one δ a layer, or a model localised with another schedule, such as quintic"
        )
    return tuple(1.0 - value for value in values)


@contextmanager
def dial(
    model: PreTrainedModel, delta: float | Sequence[float], *, keep_sink: bool | None = None, tokenizer: Any = None
) -> Iterator[Dialled]:
    """Make a localised model more local, while the context lasts: ``with dial(model, 0.7): model.generate(…)``.

    Out-of-block attention odds are multiplied by 1 − δ in each layer (method.md §9). δ = 0 is the model, to the bit;
    at δ = 1 a token sees only its own block. It holds for calls, `generate` and `measure` in the thread that entered
    the context; in another, which has none of its own, calls of the model are refused while a dial is on: a thread that
    generates needs a `with` of its own, or this one's context (`contextvars.copy_context().run`). The innermost dial
    holds.

    A call that is no `generate` needs `block_ids` where the blocks come from the text, as measuring it does.

    Args:
        model: from `localize` or `load`.
        delta: a number δ in [0, 1], which means δ·λ(ℓ) in layer ℓ, or one number a layer.
        keep_sink: leave the odds of the first token as they are (it counts as in every block). By default as the
            penalty had it: where the model was trained sink-aware. Without its sink a pretrained model falls apart.
        tokenizer: for `generate` with blocks that come from the text; by default the one given to `localize`, else that
            of the model's folder.

    Raises:
        ProglocError: the model was not localised, or δ is out of range or of another number of layers.
    """
    locality = getattr(model, "locality", None)
    if locality is None:
        raise ProglocError("this model has no locality to dial; run progloc.localize(model, LocalityConfig(…)) first")
    setting = Dialled(
        odds_outside(delta, locality.lambdas),
        locality.config.sink_aware if keep_sink is None else keep_sink,
        locality.partitioner,
        tokenizer or locality.tokenizer or getattr(model.config, "_name_or_path", None),
    )
    with _DIALS.hold(locality, setting, setting.turns):
        yield setting
