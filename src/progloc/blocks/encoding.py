"""From text to token ids, and from ids back to text: the same in training, measuring, auditing and generating.

A text begins with what its tokenizer puts before one, such as <s>, once. That has no text and an empty span, so it is
in the first block; it is the sink. What some tokenizers put behind a text is left out: no sequence here is at its end.
Special tokens that a text spells out, such as the markers of a chat, are part of it like any other characters.

The way back is for text that a model writes, which no tokenizer has cut. What a token adds to a text is some bytes of
UTF-8, found once a token: by the tokenizer's own decoder, or, where a token ends inside a character, from how
tokenizers write bytes. The text of any ids is those bytes in a row, with the spans that a fast tokenizer gives: tokens
that hold bytes of one character share it.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from progloc.blocks.partitioning import IntArray, TokenisedText
from progloc.errors import ProglocError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANCHORS = ("\n", ".")
"""Texts that few characters form one token with."""
_UNKNOWN = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How tokenizers of the sentencepiece family write a byte they have no token for."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_BEGINS = np.array([0x80, 0x800, 0x10000])
"""The code points from which a character takes two, three and four bytes of UTF-8."""


def check_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ProglocError unless a tokenizer is a fast one."""
    if not getattr(tokenizer, "is_fast", False):
        raise ProglocError(
            f"the tokenizer {type(tokenizer).__name__} gives no character offsets; expected a fast one "
            "(a tokenizer.json in the model's folder), which transformers.AutoTokenizer loads by default"
        )


def prefix_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts before a text; many put none."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a")["input_ids"]
    return tuple(ids[: next(n for n in range(len(ids)) if ids[n : n + len(bare)] == bare)])


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> TokenisedText:
    """Return a text with its tokens, T in all, and their spans.

    Where the text itself begins with what the tokenizer puts before one, that is taken for it and is no part of the
    result's text.

    Raises:
        ProglocError: a tokenizer that is not a fast one, or half a character in the text.
    """
    check_fast(tokenizer)
    ids, spans = _bare(tokenizer, text)
    prefix = np.array(prefix_ids(tokenizer), dtype=np.int64)
    size = len(prefix)
    if size and np.array_equal(ids[:size], prefix):
        start = int(spans[size - 1, 1])
        return TokenisedText(text[start:], ids, np.maximum(spans - start, 0))
    return TokenisedText(text, np.append(prefix, ids), np.concatenate([np.zeros((size, 2), dtype=np.int64), spans]))


def encode_after(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """Return the ids of a text that continues another, whose own ids stay as they are.

    Args:
        tokenizer: a fast one.
        before: the text that is continued.
        text: joined to it as it is.

    Raises:
        ProglocError: as `encode`.
    """
    first = encode(tokenizer, before).input_ids.tolist()
    both = encode(tokenizer, before + text).input_ids.tolist()
    if both[: len(first)] == first:
        return both[len(first) :]
    for anchor in _ANCHORS:  # a token lies across the border: read the text after something it keeps apart from
        first, both = (_bare(tokenizer, part)[0].tolist() for part in (anchor, anchor + text))
        if both[: len(first)] == first:
            return both[len(first) :]
    return _bare(tokenizer, text)[0].tolist()


def _bare(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[IntArray, IntArray]:
    """Return the ids (T,) and spans (T, 2) of a text, without what the tokenizer puts around it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProglocError(f"half a character at position {error.start} of the text; expected Unicode") from error
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # a text may be longer than the model's context
    )
    return (
        np.asarray(encoded["input_ids"], dtype=np.int64),
        np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2),
    )


class TextFromIds:
    """`TextFromIds(tokenizer)(ids)` is the text of ids as a TokenisedText.

    Where a tokenizer gives these ids for the text that they decode to, the spans are those of its offset mapping (white
    space at their ends aside, which some leave out). Bytes that are no UTF-8, such as a character whose last tokens are
    still to come, stand in the text as U+FFFD, one for each. Special tokens are spelled out, but for what the tokenizer
    puts before a text by itself.

    Raises:
        ProglocError: a tokenizer that is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ProglocError(
                f"the tokenizer {type(tokenizer).__name__} for blocks of generated text; expected a fast one, the "
                "model's own, which transformers.AutoTokenizer loads by default"
            )
        self._backend = tokenizer.backend_tokenizer
        self._prefix = list(prefix_ids(tokenizer))
        self._restarting = _restarting(tokenizer)
        self._first: dict[int, bytes] = {}
        self._later: dict[int, bytes] = {}

    def __call__(self, ids: IntArray) -> TokenisedText:
        """Return the text of ids (n,), any number of them."""
        pieces, at_start = self._pieces(ids.tolist())
        text = b"".join(pieces).decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)  # (characters,)
        escaped = (codes >= 0xDC80) & (codes <= 0xDCFF)
        sizes = np.where(escaped, 1, 1 + np.searchsorted(_BEGINS, codes, side="right"))  # bytes of each character
        owner = np.repeat(np.arange(len(codes)), sizes)  # (bytes,): the character that each is of
        bounds = np.fromiter(accumulate(map(len, pieces), initial=0), dtype=np.int64, count=len(pieces) + 1)
        ends = np.append(0, owner + 1)[bounds[1:]]
        starts = np.where(np.diff(bounds) > 0, np.append(owner, len(codes))[bounds[:-1]], ends)
        for n in at_start:
            if not pieces[n]:  # a space put there by the tokenizer has the next character's span
                ends[n] = min(starts[n] + 1, len(codes))
        return TokenisedText(_NOT_UTF8.sub(_UNKNOWN, text), ids, np.stack([starts, ends], axis=-1))

    def added(self, ids: Sequence[int], new: Sequence[int]) -> str:
        """Return what further ids add to the text of others, a space before their first word included."""
        before = self(np.asarray(ids, dtype=np.int64)).text
        return self(np.asarray([*ids, *new], dtype=np.int64)).text[len(before) :]

    def whole(self, ids: Sequence[int]) -> int:
        """Return how many of the ids there are before a last character that is cut off; all where none is."""
        pieces, _ = self._pieces(ids)
        ends = np.cumsum([len(piece) for piece in pieces])
        decoder = getincrementaldecoder("utf-8")("replace")
        decoder.decode(b"".join(pieces))
        unfinished, _ = decoder.getstate()
        return int(np.searchsorted(ends, ends[-1:] - len(unfinished), side="right").sum())

    def _pieces(self, tokens: Sequence[int]) -> tuple[list[bytes], list[int]]:
        """Return the bytes of each token, and which tokens stand where a text begins to the tokenizer."""
        for token in tokens:
            if token not in self._later:
                self._learn(token)
        pieces = [self._later[token] for token in tokens]
        begin = len(self._prefix) if list(tokens[: len(self._prefix)]) == self._prefix else 0
        pieces[:begin] = [b""] * begin
        at_start = [n for n in range(begin, len(tokens)) if n == begin or tokens[n - 1] in self._restarting]
        for n in at_start:
            pieces[n] = self._first[tokens[n]]
        return pieces, at_start

    def _learn(self, token: int) -> None:
        """Find what a token adds at the start of a text, where some tokenizers leave a space out, and later on."""
        first = self._backend.decode([token], skip_special_tokens=False)
        later = self._backend.decode([token, token], skip_special_tokens=False).removeprefix(first)
        if _UNKNOWN in first:
            self._first[token] = self._later[token] = _token_bytes(self._backend.id_to_token(token), first)
        else:
            self._first[token], self._later[token] = first.encode(), later.encode()


def _restarting(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens after which a tokenizer reads on as from a text's beginning, a space put there included."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    added = tokenizer.added_tokens_decoder
    for number, token in added.items():
        if not (token.lstrip or token.rstrip):
            after = ids(f"{token.content}a")
            return frozenset(added if after == [number, *ids("a")] != ids(f"{token.content} a") else ())
    return frozenset()


def _token_bytes(token: str, decoded: str) -> bytes:
    """Return the bytes of a token that is no whole characters, or of one whose text is U+FFFD itself."""
    byte = _BYTE.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    byte_of = _byte_level_alphabet()
    if all(character in byte_of for character in token):
        return bytes(byte_of[character] for character in token)
    return decoded.encode()


@cache
def _byte_level_alphabet() -> dict[str, int]:
    """Return the byte that each character stands for in byte-level tokenizers."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # text is encoded without loading it

    return {character: byte for byte, character in bytes_to_unicode().items()}
