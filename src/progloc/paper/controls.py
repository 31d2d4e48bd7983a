"""Fixed blocks of the size of others: the control that every comparison of semantic blocks needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from progloc.attention.segments import documents_in, keys_seen
from progloc.measures.definitions import measures
from progloc.measures.rows import flags, uniform_rows

ROWS = 256
"""Sequences at a time."""


@dataclass(frozen=True)
class Control:
    """A partitioner and the fixed blocks that hold as much attention by chance, both on the training text."""

    blocks: str
    chance_fidelity_no_sink: float
    control: str
    control_chance_fidelity_no_sink: float


def chance_fidelity(block_ids: Tensor) -> float:
    """Return F° of uniform attention on blocks, in [0, 1]; the size of blocks, as attention meets it.

    Args:
        block_ids: (N, T), of whole sequences without padding.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for ids in block_ids.split(ROWS):
        whole = documents_in(torch.ones_like(ids)), ids
        ratio = measures["fidelity_no_sink"](uniform_rows(keys_seen(*whole), flags(*whole)))
        sums += torch.stack([part.sum() for part in ratio])
    return float(sums[0] / sums[1])


def size_control(blocks: str, train: Dataset) -> Control | None:
    """Return the `fixed:N` whose chance F° on these sequences is nearest, by the logarithm.

    Args:
        blocks: the partitioner's name.
        train: what it made of the training text, with ``block_ids`` a sequence of T.

    Returns:
        None for a mixture of granularities: it has no one size.
    """
    block_ids = torch.from_numpy(np.asarray(train.with_format("numpy")[:]["block_ids"]))  # (N, T), or (N, T, G)
    if block_ids.ndim == 3:
        return None
    own = chance_fidelity(block_ids)
    positions = torch.arange(block_ids.shape[1])[None]  # (1, T)
    levels = {size: chance_fidelity(positions // size) for size in range(1, block_ids.shape[1] + 1)}
    nearest = min(levels, key=lambda size: abs(math.log(levels[size] / own)))
    return Control(blocks, own, f"fixed:{nearest}", levels[nearest])
