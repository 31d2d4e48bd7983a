"""Training with sources kept apart (method.md §14): where a text's reader starts, and how a model is then isolated.

A sequence's blocks are its sources. Its reader starts at a block that is drawn, anew for every batch in training, and
once for all where a model is judged. The loss is of what readers predict: a source has nothing to go by but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from progloc.attention.isolation import READER, SHARED
from progloc.attention.segments import PADDING, documents_in
from progloc.config import SAMPLED, TrainingConfig
from progloc.cross_entropy import IGNORED
from progloc.data.collate import Item, Items, collate, predicted
from progloc.isolating import SOURCES, Layers, isolate
from progloc.measures.measuring import measure
from progloc.measures.report import Report
from progloc.model import Locality
from progloc.roles import roles_from_blocks

OFF = f"{SOURCES}:0"
"""Sources kept apart in no layer; readers are trained and measured as with isolation."""
Batch = Mapping[str, Tensor]


def with_readers(batch: Batch, locality: Locality, quantiles: Tensor) -> dict[str, Tensor]:
    """Return a batch with `source_ids` (B, T), and labels only where a reader predicts.

    The first token of a sequence is shared, its blocks up to the reader's are sources. A sequence of one block reads.

    Args:
        batch: as `collate` makes it.
        locality: of the model, for blocks where the batch has none.
        quantiles: (B,) in [0, 1): which of the blocks that a reader can start at, in their order.
    """
    ids = batch["input_ids"]
    mask = batch.get("attention_mask")
    documents = documents_in(torch.ones_like(ids) if mask is None else mask)
    real = documents != PADDING
    blocks = batch.get("block_ids")
    blocks = locality.block_ids(documents) if blocks is None else blocks
    blocks = (blocks[..., -1] if blocks.ndim == 3 else blocks).expand_as(ids)
    # a reader needs sources before it, and a token to predict after its first
    begins = torch.zeros_like(real)
    begins[:, 1:-1] = (blocks[:, 1:-1] != blocks[:, :-2]) & real[:, :-2] & real[:, 2:]
    rank = (quantiles.to(ids.device) * begins.sum(-1)).long()
    starts = (begins.cumsum(-1) > rank[:, None]).int().argmax(-1)
    starts = torch.where(begins.any(-1), starts, 0)
    roles = roles_from_blocks(blocks.masked_fill(~real, 0), starts, shared=0)
    first = real & (real.cumsum(-1) == 1) & (starts[:, None] > 0)
    roles = roles.masked_fill(first, SHARED).masked_fill(~real, 0)
    labels = batch["labels"] if "labels" in batch else predicted(ids, documents)
    reads = torch.nn.functional.pad(roles[:, :-1] == READER, (1, 0))
    return {**batch, "source_ids": roles, "labels": labels.masked_fill(~reads, IGNORED)}


def held_readers(
    collator: Callable[[list[Item]], Batch], locality: Locality
) -> Callable[[list[Item]], dict[str, Tensor]]:
    """Return a collator whose readers start where the sequence itself says, whatever it is in a batch with."""

    def collate_held(items: list[Item]) -> dict[str, Tensor]:
        batch = collator(items)
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        sums = (ids if mask is None else ids * mask).sum(-1)
        return with_readers(batch, locality, sums * 2654435761 % 2**32 / 2**32)  # Knuth's multiplicative hash

    return collate_held


def apart(model: Any, isolation: str | None, *, sampled: bool = False) -> AbstractContextManager[object]:
    """Return a context in which a model's sources are kept apart as a training setting says.

    Args:
        model: a localised model.
        isolation: None, "sources", "sources:K", or "sampled": strictly in all layers but where it is ``sampled``.
        sampled: draw K, as for a micro-batch.
    """
    if isolation is None:
        return nullcontext()
    layers: Layers = isolation
    if isolation == SAMPLED:
        layers = f"{SOURCES}:{int(torch.randint(len(model.locality.lambdas) + 1, ()))}" if sampled else SOURCES
    return isolate(model, None, layers)


def measure_apart(model: Any, dataset: Items, training: TrainingConfig, *, isolation: str | None = None) -> Report:
    """Measure a model as a training has it: where that keeps sources apart, so, over what readers predict.

    Args:
        model: a localised model.
        dataset: to measure it on.
        training: its settings.
        isolation: instead of the training's own, where it has one; `OFF` for none.
    """
    if training.isolation is None:
        return measure(model, dataset, batch_size=training.batch_size)
    with apart(model, isolation or training.isolation):
        collator = held_readers(collate, model.locality)
        return measure(model, dataset, batch_size=training.batch_size, collator=collator)
