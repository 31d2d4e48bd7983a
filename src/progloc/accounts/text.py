"""The text that is audited: a prompt and its answer as tokens, and the blocks they are in."""

from __future__ import annotations

__all__ = ["AuditedText", "prompt_ids", "read_text", "spaced", "written_answer"]

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.generation import BaseStreamer

from progloc.blocks import IntArray, encode, encode_after
from progloc.blocks.so_far import BlocksSoFar
from progloc.blocks.text_from_ids import TextFromIds
from progloc.errors import ProglocError
from progloc.generation import write_on


@dataclass(frozen=True)
class AuditedText:
    """A prompt of P tokens and an answer of n, T = P + n in all; the first token is the sink, and always stays.

    The answer is a side of its own: a block that goes on into it is one of the prompt up to there.
    """

    ids: Tensor
    """(T,) int64."""
    answer_start: int
    """P."""
    block_ids: Tensor
    """What a dialled model is called with: (T,), or (T, G) where layers differ in granularity."""
    own: Tensor
    """(T,): the block of every token in the last traced layer, which may go on from the prompt into the answer."""
    tokens: tuple[str, ...]
    """What each token adds to the text, T strings; together they are the text."""

    @property
    def prompt(self) -> str:
        """The prompt's text."""
        return "".join(self.tokens[: self.answer_start])

    @property
    def answer(self) -> str:
        """The answer's text."""
        return "".join(self.tokens[self.answer_start :])

    @property
    def answer_ids(self) -> Tensor:
        """(n,)."""
        return self.ids[self.answer_start :]

    @cached_property
    def division(self) -> Tensor:
        """(T,): the prompt's blocks, 0 … M−1 in the order of their first tokens; M for every token of the answer."""
        prompt = self.own[: self.answer_start].numpy()
        _, first, inverse = np.unique(prompt, return_index=True, return_inverse=True)
        numbered = torch.from_numpy(first.argsort().argsort()[inverse])
        return nn.functional.pad(numbered, (0, len(self.answer_ids)), value=len(first))

    @cached_property
    def prompt_sizes(self) -> IntArray:
        """How many tokens of each block of the prompt can be taken away, (M,): the first one of the text stays."""
        return np.bincount(self.division[1 : self.answer_start].numpy(), minlength=int(self.division[-1]))

    @property
    def cut(self) -> int | None:
        """The block of the prompt that its end cuts through: the answer goes on with it. None: it ends with a block.

        White space at the answer's beginning, which may be counted to the sentence before it, is no going on.
        """
        last, answer = self.answer_start - 1, range(self.answer_start, len(self.ids))
        first = next((place for place in answer if self.tokens[place].strip()), last + 1)
        return int(self.division[last]) if self.own[last] == self.own[first] else None

    @property
    def sources(self) -> list[int]:
        """The whole blocks of the prompt, of which there are tokens that can be taken away."""
        return [block for block in np.flatnonzero(self.prompt_sizes).tolist() if block != self.cut]

    def in_prompt(self, blocks: Sequence[int]) -> Tensor:
        """Return which tokens go where blocks are taken from the prompt, (P,) boolean."""
        found = torch.isin(self.division[: self.answer_start], torch.tensor(blocks, dtype=self.division.dtype))
        found[0] = False
        return found


def read_text(model: Any, tokenizer: Any, ids: Sequence[int], answer_start: int, layer: int) -> AuditedText:
    """Return token ids as an audited text, with the blocks of a layer.

    Args:
        model: a localised model.
        tokenizer: its own, a fast one.
        ids: T token ids.
        answer_start: P.
        layer: the last traced layer: where layers differ in granularity, its blocks are shown.

    Raises:
        ProglocError: a prompt of fewer than two tokens, or a tokenizer that text cannot be had from.
    """
    if answer_start < 2 or answer_start >= len(ids):
        raise ProglocError(
            f"a prompt of {answer_start} tokens and an answer of {len(ids) - answer_start}; expected a prompt of at "
            "least two tokens, and an answer of at least one"
        )
    locality = model.locality
    text = TextFromIds(tokenizer)(np.asarray(ids, dtype=np.int64))
    whole = torch.tensor([list(ids)])
    if locality.partitioner.causal:
        blocks = BlocksSoFar(locality.partitioner, tokenizer)(whole)[0]
    else:
        blocks = torch.from_numpy(locality.partitioner(text))
    shown = blocks if blocks.ndim == 1 else blocks[:, locality.granularity[layer]]
    ends = np.maximum.accumulate(text.offsets[:, 1])
    ends[-1] = len(text.text)
    starts = np.append(0, ends[:-1])
    return AuditedText(
        whole[0],
        answer_start,
        blocks,
        shown,
        tuple(text.text[start:end] for start, end in zip(starts, ends, strict=True)),
    )


def prompt_ids(tokenizer: Any, prompt: str, continuation: str | None = None) -> tuple[list[int], int]:
    """Return the ids of a prompt, or of a prompt and a given continuation, and how many are the prompt's.

    The prompt's are those that a model goes on from, and the continuation is read with the prompt before it.
    """
    ids = encode(tokenizer, prompt).input_ids.tolist()
    return [*ids, *encode_after(tokenizer, prompt, continuation or "")], len(ids)


_WITHOUT_SPACES = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3000-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Scripts that put no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese."""


def spaced(prompt: str, continuation: str | None) -> tuple[str, str | None]:
    """Return a prompt and its answer, as people type them, with the space between words where tokenizers have it.

    That is before the answer's first word: spaces at the prompt's end go there. Where neither side has white space, one
    space is put there if a word, or a mark that closes something, meets a word, or a mark that opens something.
    """
    words = prompt.rstrip(" ")
    if not words or not continuation or continuation[0].isspace():
        return prompt, continuation
    if words != prompt:
        return words, prompt[len(words) :] + continuation
    last, first = prompt[-1], continuation[0]
    meet = (_in_word(last) or last in ".,;:!?…)]}”»%") and (_in_word(first) or first in '"“«„([{')
    return prompt, " " + continuation if meet else continuation


def _in_word(character: str) -> bool:
    """Return whether a character is a letter or digit, or belongs to one, in a script with spaces between words."""
    return unicodedata.category(character)[0] in "LMN" and not _WITHOUT_SPACES.match(character)


class _EveryToken(BaseStreamer):
    """Calls a function at every token that is written, which may stop the writing by raising."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def put(self, value: Tensor) -> None:
        self._call()

    def end(self) -> None:
        pass


def written_answer(
    model: Any, tokenizer: Any, ids: Sequence[int], most: int, every_token: Callable[[], None] = lambda: None
) -> list[int]:
    """Return what a model goes on with from token ids, greedily, whatever its generation settings; see `write_on`.

    Args:
        model: a localised model.
        tokenizer: its own.
        ids: of the prompt.
        most: how many tokens.
        every_token: called at each.

    Raises:
        ProglocError: it has nothing to say, or no room for so many tokens.
    """
    new = write_on(model, tokenizer, ids, most, greedy=True, streamer=_EveryToken(every_token))
    if not new:
        raise ProglocError("the model ends the text at once; expected some continuation: give one with --continuation")
    return new
