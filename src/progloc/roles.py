"""Roles for isolation (method.md §14), from what a text is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from progloc.attention.isolation import READER, SHARED
from progloc.errors import ProglocError


def roles_from_blocks(block_ids: Tensor, reader_start: int | Tensor | None = None, *, shared: int = 1) -> Tensor:
    """Return the role of every token where blocks are the sources, and what follows them reads.

    Args:
        block_ids: (B, T) or (T,) integers ≥ 0.
        reader_start: the first token that reads, one for all rows or (B,). None: the last block reads.
        shared: how many tokens from the first on are shared. Attention that has nowhere else to rest rests there.

    Returns:
        int64, as `block_ids`: the block of a token, READER from `reader_start` on, SHARED before the first source.

    Raises:
        ProglocError: block ids of several granularities, or a reader that starts outside the text.
    """
    if block_ids.ndim not in (1, 2):
        raise ProglocError(
            f"block ids of shape {tuple(block_ids.shape)}; expected (B, T) or (T,): pick one granularity, "
            "as in block_ids[..., 0]"
        )
    rows = block_ids.long().reshape(-1, block_ids.shape[-1])
    place = torch.arange(rows.shape[1], device=rows.device)
    if reader_start is None:
        starts = torch.where(rows == rows[:, -1:], place, rows.shape[1]).amin(-1)
    else:
        starts = torch.as_tensor(reader_start, device=rows.device).expand(len(rows))
        if bool((starts < 0).any()) or bool((starts > rows.shape[1]).any()):
            raise ProglocError(f"a reader that starts at {starts.tolist()}; expected 0 to {rows.shape[1]}")
    roles = rows.masked_fill(place < shared, SHARED).masked_fill(place >= starts[:, None], READER)
    return roles.reshape(block_ids.shape)
