"""From token ids back to text and spans, for text that no tokenizer has cut: a model writes ids.

What a token adds to a text is some bytes of UTF-8, and they are found once a token: by the tokenizer's own decoder, or,
where a token ends inside a character, from how tokenizers write bytes. The text of any ids is then those bytes in a
row, and spans are as a fast tokenizer gives them: tokens that hold bytes of one character share it.
"""

from __future__ import annotations

__all__ = ["TextFromIds"]

import re
from itertools import accumulate
from typing import Any

import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

from progloc.blocks.base import IntArray, TokenisedText
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
    still to come, stand in the text as U+FFFD, one for each. Special tokens have no text.

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
        added = tokenizer.added_tokens_decoder
        self.special = frozenset(tokenizer.all_special_ids) | {token for token in added if added[token].special}
        """The ids of special tokens, those of a chat template included."""
        self._first: dict[int, bytes] = {}
        self._later: dict[int, bytes] = dict.fromkeys(self.special, b"")

    def __call__(self, ids: IntArray) -> TokenisedText:
        """Return the text of ids (n,), any number of them."""
        tokens = ids.tolist()
        known = self._later
        for token in tokens:
            if token not in known:
                self._learn(token)
        pieces = [known[token] for token in tokens]
        if tokens:
            pieces[0] = self._first.get(tokens[0], b"")
        text = b"".join(pieces).decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)  # (characters,)
        escaped = (codes >= 0xDC80) & (codes <= 0xDCFF)
        sizes = np.where(escaped, 1, 1 + np.searchsorted(_BEGINS, codes, side="right"))  # bytes of each character
        owner = np.repeat(np.arange(len(codes)), sizes)  # (bytes,): the character that each is of
        bounds = np.fromiter(accumulate(map(len, pieces), initial=0), dtype=np.int64, count=len(pieces) + 1)
        ends = np.append(0, owner + 1)[bounds[1:]]
        starts = np.where(np.diff(bounds) > 0, np.append(owner, len(codes))[bounds[:-1]], ends)
        if pieces and not pieces[0]:  # a space put before the text by the tokenizer has the first character's span
            ends[0] = min(1, len(codes))
        if escaped.any():
            text = _NOT_UTF8.sub(_UNKNOWN, text)
        return TokenisedText(text, ids, np.stack([starts, ends], axis=-1))

    def _learn(self, token: int) -> None:
        """Find what a token adds at the start of a text, where some tokenizers leave a space out, and later on."""
        first = self._backend.decode([token], skip_special_tokens=False)
        later = self._backend.decode([token, token], skip_special_tokens=False).removeprefix(first)
        if _UNKNOWN in first:
            self._first[token] = self._later[token] = _bytes(self._backend.id_to_token(token), first)
        else:
            self._first[token], self._later[token] = first.encode(), later.encode()


def _bytes(token: str, decoded: str) -> bytes:
    """Return the bytes of a token that is no whole characters, or of one whose text is U+FFFD itself."""
    byte = _BYTE.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return decoded.encode()
