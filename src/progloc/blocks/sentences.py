"""Sentences, by rule: the marks that end one in any script, and what such marks are else used for."""

from __future__ import annotations

__all__ = ["Sentences", "sentence_openings"]

import re

import numpy as np

from progloc.blocks.base import IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.blocks.paragraphs import last_fresh_start, read_lines
from progloc.blocks.spans import block_ids, opens_block, token_places

_CLOSING = r"[\"'”’»)\]}›」』）》】*_]*+"
_EMOJI = r"[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]"
_END = re.compile(
    rf"""
      (?<![.!?…]) (?P<mark> [.!?…]++ ) (?P<closed> {_CLOSING} ) (?: \s*+{_EMOJI}++ )*+ (?: \s++ | (?=[\u3040-\u9fff]) )
    | (?P<wide> [。！？｡؟۔।॥።။។]++ {_CLOSING} ) \s*+
    | : [^\S\n]*+ \n \s*+
    """,
    re.VERBOSE,
)
"""What may end a sentence, with all that belongs to it; the next one opens at the character after."""

_GOES_ON = frozenset(",;:.!?…)]}”’»%=<>&/|–—")
"""With one of these, as with a small letter, a sentence goes on."""
_TITLES = "mr mrs ms messrs dr prof st mt gen col capt lt sgt rev hon gov sen rep pres fr hr"
_REFERENCES = "vs cf viz al ca approx resp incl esp"
_NAME_FOLLOWS = frozenset(f"{_TITLES} {_REFERENCES}".split())
"""Abbreviations that end no sentence."""
_COUNTED = "no nos nr fig figs eq eqs sec sect secs ch chap vol vols art pp ed tab ref refs"
_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec"
_NUMBER_FOLLOWS = frozenset(f"{_COUNTED} {_MONTHS}".split())
"""Abbreviations where a number follows; where none does, words like others, that may end a sentence."""
_BEFORE_WORD = re.compile(r"[\s(\[\"“‘«„]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_UNIT = re.compile(r"\d\s?[^\W\d_]\Z")
_LIST_NUMBER = re.compile(r"(?P<stop>\A|[\n.!?:;])\s*\(?\d{1,3}\Z")
_LONGEST = 24
"""As many characters before a full stop are looked at; no abbreviation is longer."""


def sentence_openings(text: str) -> IntArray:
    """Return where sentences open, ascending positions of characters that are not white space.

    Whether a sentence opens at a character depends on nothing after that character.
    """
    lines = read_lines(text)
    ends = [match.end() for match in _END.finditer(text) if _is_end(text, match)]
    after = np.array(ends, dtype=np.int64)
    in_code = np.searchsorted(lines.fences, after, side="right") % 2 == 1
    return np.unique(np.concatenate([lines.openings, lines.rows, after[~in_code]]))


def _is_end(text: str, match: re.Match[str]) -> bool:
    """Return whether what looks like the end of a sentence is one, by what is before it and the next character."""
    following = text[match.end() : match.end() + 1]
    if match["wide"]:  # と after a quotation: "…", said he
        return not (match["wide"][-1] in "」』" and following == "と")
    if following.islower() or following in _GOES_ON:
        return False
    mark, start = match["mark"], match.start()
    if mark is None:  # a colon that ends its line
        return True
    before = text[max(start - _LONGEST, 0) : start]
    if before[-1:] in ("(", "[") and match["closed"]:  # (!), […]
        return False
    if mark != ".":
        return mark[0] not in ".…" or not before[-1:].isspace()
    return not (_is_abbreviation(before, following) or _is_list_number(before))


def _is_abbreviation(before: str, following: str) -> bool:
    """Return whether a full stop after ``before`` and in front of ``following`` makes an abbreviation or an initial."""
    word = _BEFORE_WORD.split(before)[-1]
    folded = word.lower()
    if folded in ("a.m", "p.m", "i"):
        return False
    if folded in _NUMBER_FOLLOWS:
        return following.isdigit()
    return folded in _NAME_FOLLOWS or (_INITIALS.fullmatch(word) is not None and not _UNIT.search(before))


def _is_list_number(before: str) -> bool:
    """Return whether a full stop after ``before`` follows a number that counts a list on: 2. but not vol. 2."""
    number = _LIST_NUMBER.search(before)
    if number is None:
        return False
    return number["stop"] != "." or not _is_abbreviation(before[: number.start()], following="0")


@register_partitioner("sentences")
class Sentences(Partitioner):
    """`sentences`: a block opens where a sentence does, by rule, in any language whose marks are known.

    A sentence ends at . ! ? … or their like in other scripts, with the quotes, brackets and emoji that close it, where
    white space follows and then something else than a small letter (CJK marks need neither). It goes on after
    abbreviations, initials, the numbers of lists and an ellipsis that stands alone; the stops in decimals, addresses
    and file names have no white space after them. Paragraphs, list items and headings end one as well, and so does a
    colon that ends its line; in fenced code and tables every line is one. Causal: where a sentence has ended, the
    token that follows opens the next, and needs no more than its first character for it.
    """

    causal = True
    version = 2

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the number of the sentence each token is in, (T,)."""
        places = token_places(text)
        return block_ids(places, opens_block(places, sentence_openings(text.text)))

    def starts_afresh(self, text: str) -> int:
        """Return where the last paragraph that an empty line sets apart opens, 0 where there is none."""
        return last_fresh_start(text)
