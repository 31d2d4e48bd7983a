"""From sequences to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from progloc.attention.segments import PADDING, documents_in
from progloc.blocks import NO_BLOCK
from progloc.cross_entropy import IGNORED

Item = Mapping[str, Any]
"""One sequence by column, as lists, arrays or tensors: `input_ids` (T,), and what else `collate` takes."""
Items = Sequence[Item] | Dataset[Item]
"""A list or map-style dataset of sequences."""


def predicted(labels: Tensor, documents: Tensor) -> Tensor:
    """Return labels (B, T) with −100 where nothing is predicted: on padding, and on a document's first token.

    Args:
        labels: (B, T).
        documents: (B, T), from `documents_in`. A sequence's first label is never read, so it is left as it is.
    """
    follows_another = torch.nn.functional.pad(documents[:, 1:] != documents[:, :-1], (1, 0))
    return labels.masked_fill((documents == PADDING) | follows_another, IGNORED)


def collate(
    features: Sequence[Item], *, pad_token_id: int = 0, padding_side: Literal["right", "left"] = "right"
) -> dict[str, Tensor]:
    """Return a batch of B sequences, padded to the longest: a Trainer's ``data_collator``.

    Every feature has ``input_ids``; ``attention_mask`` (default: all ones), ``labels`` (default: the input ids) and
    ``block_ids`` are taken where given, other columns are left out.

    Returns:
        int64 tensors (B, T): ``input_ids`` (``pad_token_id`` on padding), ``attention_mask`` (0 on padding),
        ``labels`` (−100 on padding and on a token that follows it) and, where the features have them, ``block_ids``
        (−1 on padding).
    """

    def pad(rows: list[Tensor], value: int) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=padding_side)

    def column(name: str, defaults: list[Tensor]) -> list[Tensor]:
        return [
            torch.as_tensor(feature.get(name, default), dtype=torch.long)
            for feature, default in zip(features, defaults, strict=True)
        ]

    ids = [torch.as_tensor(feature["input_ids"], dtype=torch.long) for feature in features]
    masks = column("attention_mask", [torch.ones_like(row) for row in ids])
    labels = column("labels", ids)
    attention_mask = pad(masks, 0)
    batch = {
        "input_ids": pad(ids, pad_token_id),
        "attention_mask": attention_mask,
        "labels": predicted(pad(labels, IGNORED), documents_in(attention_mask)),
    }
    if "block_ids" in features[0]:
        blocks = [torch.as_tensor(feature["block_ids"], dtype=torch.long) for feature in features]
        batch["block_ids"] = pad(blocks, NO_BLOCK)
    return batch
