"""Block ids of text that is being generated, for all rows of a batch, a step at a time (docs/blocks.md)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from progloc.blocks.encoding import TextFromIds
from progloc.blocks.partitioning import NO_BLOCK, IntArray, Partitioner, TokenisedText
from progloc.blocks.spans import BoolArray
from progloc.errors import ProglocError


class BlocksSoFar:
    """Called at every step with all ids so far, it returns their block ids: those that training gives the same tokens.

    Rows may be reordered between calls (beams), and tokens taken back (assisted decoding): a call depends on its
    arguments alone, and what is remembered of earlier calls is looked up by the ids themselves.

    The text is that of the ids, special tokens spelled out, and it is divided like any other. A character spread over
    several tokens is read as an unknown symbol until its last token is there: then the blocks of its tokens, the newest
    of the row, may change, and no others ever do.

    Args:
        partitioner: a causal one, prepared if it needs embeddings.
        tokenizer: the model's own, a fast one; not looked at where positions are enough.

    Raises:
        ProglocError: a partitioner that is not causal, or a tokenizer without which text cannot be had.
    """

    def __init__(self, partitioner: Partitioner, tokenizer: PreTrainedTokenizerBase | None) -> None:
        if not partitioner.causal:
            raise ProglocError(
                f"the blocks '{partitioner.name or type(partitioner).__name__}' are not causal: each token generated "
                "could change the blocks of those before; expected fixed:N, sentences, paragraphs, phrases, "
                "phrases:punctuation or a mixture of these"
            )
        self._partitioner = partitioner
        self._shape = () if partitioner.granularities == 1 else (partitioner.granularities,)
        by_position = partitioner.from_positions(torch.zeros(1, 1, dtype=torch.int64)) is not None
        self._text = None if by_position else TextFromIds(tokenizer)
        self._settled: dict[bytes, IntArray] = {}
        """Block ids of the last call's rows, each up to where its text starts afresh, by the ids that tell."""

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return block ids, (R, T) int64 on the CPU; (R, T, G) with several granularities.

        Args:
            input_ids: (R, T), all tokens of every row so far.
            attention_mask: (R, T), 0 on padding, on either side; none if there is no padding.

        A row's blocks are numbered from 0, and mean nothing in another row. Padding has NO_BLOCK.

        Raises:
            ProglocError: ids that are not (R, T) or a mask of another shape.
        """
        if input_ids.dim() != 2 or (attention_mask is not None and attention_mask.shape != input_ids.shape):
            mask = "none" if attention_mask is None else tuple(attention_mask.shape)
            raise ProglocError(
                f"input_ids of shape {tuple(input_ids.shape)} with an attention mask of shape {mask} for blocks of "
                "generated text; expected both (R, T): pass all tokens so far, not the newest alone"
            )
        ids = input_ids.cpu()
        real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.cpu() != 0
        blocks = self._partitioner.from_positions((real.cumsum(-1) - 1).clamp(min=0))
        if blocks is None:
            blocks = self._from_text(ids.numpy().astype(np.int64, copy=False), real.numpy())
        return blocks.masked_fill(~real.reshape(*real.shape, *(1 for _ in self._shape)), NO_BLOCK)

    def _from_text(self, ids: IntArray, real: BoolArray) -> Tensor:
        block_ids = np.full((*ids.shape, *self._shape), NO_BLOCK, dtype=np.int64)
        settled: dict[bytes, IntArray] = {}
        for row, mask, blocks in zip(ids, real, block_ids, strict=True):
            blocks[mask] = self._row(row[mask], settled)
        self._settled = settled
        return torch.from_numpy(block_ids)

    def _row(self, ids: IntArray, settled: dict[bytes, IntArray]) -> IntArray:
        """Return the block ids of a row's n tokens, (n,) or (n, G), and add to ``settled`` those of its beginning."""
        assert self._text is not None  # or positions were enough
        key_size, known = self._longest_settled(ids)
        start = len(known)
        blocks = np.empty((len(ids), *self._shape), dtype=np.int64)
        blocks[:start] = known
        if start < len(ids):
            text = self._text(ids[start:])
            blocks[start:] = known.max(axis=0, initial=-1) + 1 + self._partitioner(text)
            before, through = _tokens_to(text, self._partitioner.starts_afresh(text.text))
            if before:
                key_size, start = start + through, start + before
        settled[ids[:key_size].tobytes()] = blocks[:start]
        return blocks

    def _longest_settled(self, ids: IntArray) -> tuple[int, IntArray]:
        """Return the longest beginning of ``ids`` that is settled: how many tokens tell so, and the block ids in it."""
        for size in sorted({len(key) // ids.itemsize for key in self._settled}, reverse=True):
            known = self._settled.get(ids[:size].tobytes())
            if known is not None:
                return size, known
        return 0, np.empty((0, *self._shape), dtype=np.int64)


def _tokens_to(text: TokenisedText, position: int) -> tuple[int, int]:
    """Return how many tokens lie before the one that stands at ``position``, and how many up to the character there.

    Both are 0 where none stands there: the position is 0, or inside a token that stands before it.
    """
    if position == 0:
        return 0, 0
    starts, ends = text.offsets.T
    before = int(np.searchsorted(ends, position, side="right"))
    if text.text[starts[before] : position].strip():
        return 0, 0
    return before, int(np.searchsorted(starts, position, side="right"))
