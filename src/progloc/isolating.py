"""Isolation: sources that do not see each other, so that what an answer rests on can be accounted for exactly.

method.md §14. Every token has a role: *shared* (seen by all), *source* (to be accounted for), or *reader* (sees
everything before it). Nothing of the model changes: while it is isolated, calls of it carry roles and w to attention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from progloc.attention.isolation import READER, SHARED, Isolation
from progloc.errors import ProglocError
from progloc.scoped import Scoped

SOURCES = "sources"
Layers = str | float | Sequence[float] | None
"""Where sources are kept apart, and how strictly; see `isolate`."""


@dataclass(frozen=True)
class Isolated:
    """How a model is isolated."""

    source_ids: Tensor | None
    """(B, T) int64; None: every call brings its own, as the keyword `source_ids`."""
    outside: tuple[float, ...]
    """w(ℓ), L numbers in [0, 1]: what the odds of keys that isolation forbids are multiplied by."""

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return min(self.outside) < 1

    def of_call(self, tokens: Tensor, past: int, source_ids: Any = None) -> Isolation:
        """Return how a call isolates; in no layer where all that is new reads.

        Args:
            tokens: of the call: ids (B, T) or embeddings (B, T, D).
            past: how many tokens are in its cache.
            source_ids: (B, T), of all tokens so far, where the call brings them.

        Raises:
            ProglocError: no source ids, or of another batch or form.
        """
        ids = self.source_ids if source_ids is None else _checked(source_ids)
        if ids is None:
            raise ProglocError(
                "an isolated model was called without source_ids; pass them to the call or to isolate(model, …)"
            )
        rows, so_far = tokens.shape[0], past + tokens.shape[1]
        ids = ids.to(tokens.device)
        if past >= ids.shape[1]:
            return Isolation(ids, (1.0,) * len(self.outside))  # readers see everything
        if rows % len(ids):
            raise ProglocError(f"source_ids of {len(ids)} rows for a batch of {rows}; expected one row, or one a text")
        if len(ids) > 1:  # the beams, or samples, of a text lie together
            ids = ids.repeat_interleave(rows // len(ids), 0)
        roles = pad(ids[:, :so_far], (0, max(0, so_far - ids.shape[1])), value=READER)
        return Isolation(roles, self.outside)


_ISOLATIONS = Scoped[Isolated]("isolate", "isolation", "isolated")


def isolated(model: Any) -> Isolated | None:
    """Return how a model is isolated in this thread; None where it is not, or in no layer.

    Raises:
        ProglocError: it is isolated in another thread, and nobody said what holds in this one.
    """
    setting = _ISOLATIONS.of(model)
    return setting if setting is not None and setting.changes else None


def is_within_isolate(model: Any) -> bool:
    """Return whether a model is called within `isolate` in this thread, be it one that changes nothing."""
    return _ISOLATIONS.is_held(model)


def _checked(source_ids: Any) -> Tensor:
    ids = torch.as_tensor(source_ids)
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool or not ids.numel():
        raise ProglocError(
            f"source_ids is {ids.dtype} of shape {tuple(ids.shape)}; expected integers (B, T), one a token"
        )
    if int(ids.min()) < READER:
        raise ProglocError(
            f"a source id of {int(ids.min())}; expected ≥ 0 for a source, {SHARED} (progloc.SHARED) or "
            f"{READER} (progloc.READER)"
        )
    return ids.long()


def odds_forbidden(layers: Layers, count: int) -> tuple[float, ...]:
    """Return w(ℓ) = 1 − isolation(ℓ) of every layer.

    Args:
        layers: None or "sources": strictly in all; "sources:K": strictly in the first K; a number for all layers, or
            one a layer, in [0, 1], 1 being strict.
        count: L.

    Raises:
        ProglocError: another form, another number of layers, or numbers outside [0, 1].
    """
    expected = (
        f"'{SOURCES}', '{SOURCES}:K' with K from 0 to {count}, a number from 0 (none) to 1 (strict), or one a layer"
    )
    if layers is None or layers == SOURCES:
        return (0.0,) * count
    if isinstance(layers, str):
        match = re.fullmatch(rf"{SOURCES}:(\d{{1,4}})", layers)
        if match is None or int(match[1]) > count:
            raise ProglocError(f"isolation '{layers}'; expected {expected}")
        return tuple(0.0 if layer < int(match[1]) else 1.0 for layer in range(count))
    try:
        strengths = [float(strength) for strength in layers]  # type: ignore[union-attr]
    except TypeError:
        try:
            strengths = [float(layers)] * count  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ProglocError(f"isolation {layers!r}; expected {expected}") from error
    except ValueError as error:
        raise ProglocError(f"isolation {layers!r}; expected {expected}") from error
    if len(strengths) != count:
        raise ProglocError(f"isolation of {len(strengths)} numbers; the model has {count} layers: give one a layer")
    for strength in strengths:
        if not 0 <= strength <= 1:
            raise ProglocError(f"isolation of {strength:g}; expected {expected}")
    return tuple(1.0 - strength for strength in strengths)


@contextmanager
def isolate(model: Any, source_ids: Any = None, layers: Layers = None) -> Iterator[Isolated]:
    """Keep sources apart while the context lasts: ``with isolate(model, source_ids): model.generate(…)``.

    In an isolated layer a shared token sees shared tokens, a source's token these and its own source, a reader
    everything; all of it causal (method.md §14). Tokens past the end of ``source_ids`` read, so what is generated does.
    It holds for calls, `generate` and `measure` in the thread that entered the context, as `dial` does, with which it
    can be combined; the innermost isolation holds.

    Args:
        model: from `localize` or `load`; it needs no training.
        source_ids: (B, T) or (T,) integers, one a token of the prompt, aligned with `input_ids` and its padding: ≥ 0 a
            source, `progloc.SHARED` (−1) or `progloc.READER` (−2). One row stands for every text of a batch. None: the
            calls bring their own, ``model(input_ids, source_ids=…)``.
        layers: None or "sources": strictly in every layer; "sources:K": strictly in the first K, not above; a number
            for all layers, or one a layer, from 0 (not at all) to 1 (strictly).

    Yields:
        What holds: `Isolated`, with w a layer.

    Raises:
        ProglocError: a model that was not localised, source ids of another form, or layers that do not fit.
    """
    locality = getattr(model, "locality", None)
    if locality is None:
        raise ProglocError(
            "this model cannot isolate; run progloc.localize(model, LocalityConfig(…)) or progloc.load first"
        )
    ids = None if source_ids is None else _checked(source_ids)
    setting = Isolated(ids, odds_forbidden(layers, len(locality.lambdas)))
    with _ISOLATIONS.hold(locality, setting, setting.changes):
        yield setting
