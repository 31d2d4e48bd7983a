"""The audited text: a prompt and its answer as tokens, and the blocks of these tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import BaseStreamer

from progloc.blocks import IntArray, TextFromIds, encode, encode_after
from progloc.blocks.so_far import BlocksSoFar
from progloc.errors import ProglocError
from progloc.generation import write_on
from progloc.measures.passes import locality_of


@dataclass(frozen=True)
class AuditedText:
    """A prompt of P tokens and an answer of n, T = P + n in all. The first token is the sink, and is never removed.

    The answer is a part of its own: a block that continues into it counts as a block of the prompt, up to the answer.
    """

    ids: Tensor
    """(T,) int64."""
    answer_start: int
    """P."""
    block_ids: Tensor
    """What a dialled model is called with: (T,), or (T, G) where layers differ in granularity."""
    own: Tensor
    """(T,): each token's block in the last traced layer; the last of the prompt may continue into the answer."""
    tokens: tuple[str, ...]
    """The text of each token, T strings; joined, they are the text."""

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
        """How many tokens of each block of the prompt can be removed, (M,): all but the first token of the text."""
        return np.bincount(self.division[1 : self.answer_start].numpy(), minlength=int(self.division[-1]))

    @property
    def cut(self) -> int | None:
        """The block that continues from the prompt into the answer; None where the prompt ends with its last block.

        White space at the answer's beginning does not count: partitioners may assign it to the sentence before it.
        """
        last, answer = self.answer_start - 1, range(self.answer_start, len(self.ids))
        first = next((position for position in answer if self.tokens[position].strip()), self.answer_start)
        return int(self.division[last]) if self.own[last] == self.own[first] else None

    @property
    def sources(self) -> list[int]:
        """The whole blocks of the prompt that have tokens which can be removed."""
        return [block for block in np.flatnonzero(self.prompt_sizes).tolist() if block != self.cut]

    def in_prompt(self, blocks: Sequence[int]) -> Tensor:
        """Return which tokens of the prompt are removed with these blocks, (P,) boolean."""
        removed = torch.isin(self.division[: self.answer_start], torch.tensor(blocks, dtype=self.division.dtype))
        removed[0] = False
        return removed


def read_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], answer_start: int, layer: int
) -> AuditedText:
    """Return token ids as an audited text, with the blocks of a layer.

    Args:
        model: a localised model.
        tokenizer: the model's, a fast one.
        ids: T token ids.
        answer_start: P.
        layer: the last traced layer. Where layers differ in granularity, its blocks are shown.

    Raises:
        ProglocError: the prompt has fewer than two tokens, or the tokenizer cannot restore the text.
    """
    if answer_start < 2 or answer_start >= len(ids):
        raise ProglocError(
            f"a prompt of {answer_start} tokens and an answer of {len(ids) - answer_start}; expected a prompt of at "
            "least two tokens, and an answer of at least one"
        )
    locality = locality_of(model)
    text = TextFromIds(tokenizer)(np.asarray(ids, dtype=np.int64))
    batch = torch.tensor([list(ids)])  # (1, T)
    if locality.partitioner.causal:
        blocks = BlocksSoFar(locality.partitioner, tokenizer)(batch)[0]
    else:
        blocks = torch.from_numpy(locality.partitioner(text))
    own = blocks if blocks.ndim == 1 else blocks[:, locality.granularity[layer]]
    ends = np.maximum.accumulate(text.offsets[:, 1])
    ends[-1] = len(text.text)
    tokens = tuple(text.text[start:end] for start, end in pairwise([0, *ends]))
    return AuditedText(batch[0], answer_start, blocks, own, tokens)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str | None = None
) -> tuple[list[int], int]:
    """Return the token ids of a prompt and its continuation, if one is given, and how many of them are the prompt's.

    The prompt's ids are those that a model would continue; the continuation is tokenised in the prompt's context.
    """
    ids = encode(tokenizer, prompt).input_ids.tolist()
    return [*ids, *encode_after(tokenizer, prompt, continuation or "")], len(ids)


_WITHOUT_SPACES = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3000-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Characters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese."""


def insert_space(prompt: str, continuation: str | None) -> tuple[str, str | None]:
    """Return a prompt and its answer, as people type them, with the space between them where tokenizers expect it.

    That is before the answer's first word: spaces at the prompt's end are moved there. Where neither side has white
    space, one space is inserted if a word or a closing mark is followed by a word or an opening mark.
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
    """Return whether a character is part of a word (letter, digit, combining mark) in a script with word spaces."""
    return unicodedata.category(character)[0] in "LMN" and not _WITHOUT_SPACES.match(character)


class _EveryToken(BaseStreamer):
    """Calls a function at each generated token; an exception in it stops the generation."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def put(self, value: Tensor) -> None:
        self._call()

    def end(self) -> None:
        pass


def write_answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    max_new_tokens: int,
    every_token: Callable[[], None],
    **settings: object,
) -> list[int]:
    """Return a model's greedy continuation of token ids, whatever its generation settings; see `write_on`.

    Args:
        model: a localised model.
        tokenizer: the model's.
        ids: of the prompt.
        max_new_tokens: the most tokens to write.
        every_token: called at each new token.
        settings: for `generate`, such as a past.

    Raises:
        ProglocError: the model ends the text at once, or its context has no room for so many tokens.
    """
    new = write_on(model, tokenizer, ids, max_new_tokens, greedy=True, streamer=_EveryToken(every_token), **settings)
    if not new:
        raise ProglocError("the model ends the text at once; expected some continuation: give one with --continuation")
    return new
