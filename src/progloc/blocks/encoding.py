"""From text to token ids: as the model's own tokenizer has a text, in training, measuring, auditing and generating.

A text begins with what its tokenizer puts before one, such as <s>, once. That has no text and an empty span, so it is
in the first block; it is the sink. What some tokenizers put behind a text is left out: no sequence here is at its end.
Special tokens that a text spells out, such as the markers of a chat, are part of it like any other characters.
"""

from __future__ import annotations

__all__ = ["check_fast", "encode", "encode_after", "prefix_ids"]

from typing import Any

import numpy as np

from progloc.blocks.base import IntArray, TokenisedText
from progloc.errors import ProglocError

_ANCHORS = ("\n", ".")
"""Texts that few characters make one token with."""


def check_fast(tokenizer: Any) -> None:
    """Raise ProglocError unless a tokenizer is a fast one."""
    if not getattr(tokenizer, "is_fast", False):
        raise ProglocError(
            f"the tokenizer {type(tokenizer).__name__} gives no character offsets; expected a fast one "
            "(a tokenizer.json in the model's folder), which transformers.AutoTokenizer loads by default"
        )


def prefix_ids(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts before a text; many put none."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    return tuple(whole[: next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)])


def encode(tokenizer: Any, text: str) -> TokenisedText:
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
        begins = int(spans[size - 1, 1])
        return TokenisedText(text[begins:], ids, np.maximum(spans - begins, 0))
    return TokenisedText(text, np.append(prefix, ids), np.concatenate([np.zeros((size, 2), dtype=np.int64), spans]))


def encode_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """Return the ids of a text that goes on from another, which keeps those that it has by itself.

    Args:
        tokenizer: a fast one.
        before: what it goes on from.
        text: joined to that as it is.

    Raises:
        ProglocError: as `encode`.
    """
    kept = encode(tokenizer, before).input_ids.tolist()
    whole = encode(tokenizer, before + text).input_ids.tolist()
    if whole[: len(kept)] == kept:
        return whole[len(kept) :]
    for anchor in _ANCHORS:  # a token of the whole lies across the border: read after something else, apart from it
        first, both = (_bare(tokenizer, part)[0].tolist() for part in (anchor, anchor + text))
        if both[: len(first)] == first:
            return both[len(first) :]
    return _bare(tokenizer, text)[0].tolist()


def _bare(tokenizer: Any, text: str) -> tuple[IntArray, IntArray]:
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
