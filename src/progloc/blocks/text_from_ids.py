"""From token ids back to text and spans, for text that no tokenizer has cut: a model writes ids.

What a token adds to a text is some bytes of UTF-8, and they are found once a token: by the tokenizer's own decoder, or,
where a token ends inside a character, from how tokenizers write bytes. The text of any ids is then those bytes in a
row, and spans are as a fast tokenizer gives them: tokens that hold bytes of one character share it.
"""

from __future__ import annotations

__all__ = ["TextFromIds"]

import re
from codecs import getincrementaldecoder
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

from progloc.blocks.base import IntArray, TokenisedText
from progloc.blocks.encoding import prefix_ids
from progloc.errors import ProglocError

_UNKNOWN = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How tokenizers of the sentencepiece family write a byte they have no token for."""
_BYTE_OF: dict[str, int] = {character: byte for byte, character in bytes_to_unicode().items()}
"""How byte-level ones write every byte."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_BEGINS = np.array([0x80, 0x800, 0x10000])
"""The code points from which a character takes two, three and four bytes of UTF-8."""


class TextFromIds:
    """`TextFromIds(tokenizer)(ids)` is the text of ids as a TokenisedText.

    Where a tokenizer gives these ids for the text that they decode to, the spans are those of its offset mapping (white
    space at their ends aside, which some leave out). Bytes that are no UTF-8, such as a character whose last tokens are
    still to come, stand in the text as U+FFFD, one for each. Special tokens are spelled out, but for what the tokenizer
    puts before a text by itself.

    Raises:
        ProglocError: a tokenizer that is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
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
        if escaped.any():
            text = _NOT_UTF8.sub(_UNKNOWN, text)
        return TokenisedText(text, ids, np.stack([starts, ends], axis=-1))

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
        at_start = [begin] if begin < len(tokens) else []
        if self._restarting:
            at_start += [n for n in range(begin + 1, len(tokens)) if tokens[n - 1] in self._restarting]
        for n in at_start:
            pieces[n] = self._first[tokens[n]]
        return pieces, at_start

    def _learn(self, token: int) -> None:
        """Find what a token adds at the start of a text, where some tokenizers leave a space out, and later on."""
        first = self._backend.decode([token], skip_special_tokens=False)
        later = self._backend.decode([token, token], skip_special_tokens=False).removeprefix(first)
        if _UNKNOWN in first:
            self._first[token] = self._later[token] = _bytes(self._backend.id_to_token(token), first)
        else:
            self._first[token], self._later[token] = first.encode(), later.encode()


def _restarting(tokenizer: Any) -> frozenset[int]:
    """Return the tokens after which a tokenizer reads on as from a text's beginning, a space put there included."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    added = tokenizer.added_tokens_decoder
    for number, token in added.items():
        if not (token.lstrip or token.rstrip):
            after = ids(f"{token.content}a")
            return frozenset(added if after == [number, *ids("a")] != ids(f"{token.content} a") else ())
    return frozenset()


def _bytes(token: str, decoded: str) -> bytes:
    """Return the bytes of a token that is no whole characters, or of one whose text is U+FFFD itself."""
    byte = _BYTE.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return decoded.encode()
