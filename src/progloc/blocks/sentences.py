"""Sentences, by rule: the marks that end one in any script, and the other uses of such marks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from progloc.blocks.paragraphs import is_small, last_fresh_start, read_lines, text_starts
from progloc.blocks.partitioning import IntArray, TokenisedText, register_partitioner
from progloc.blocks.spans import BoolArray, Reach, TextPartitioner, opens_block, reach_of
from progloc.blocks.words import (
    END_SOMETIMES,
    NEVER_END,
    NUMBER_FOLLOWS,
    ORDINALS_IN,
    ORDINALS_NOT_IN,
    STARTERS,
)

_LETTER = r"[^\W\d_]"
_WIDE = (
    "\u0589\u061e\u061f\u06d4\u0700-\u0702\u07f9\u0964\u0965\u0f0d\u0f0e\u104b\u1362\u1367\u1368\u166e\u17d4\u17d5"
    "\u1803\u1809\u1c7e\u1c7f\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uabeb"
    "\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
)
"""Marks that end a sentence and do nothing else, by Unicode's Sentence_Terminal, and the Tibetan shad."""
_CLOSING = r"""[\"'”’»)\]}›」』）》】〉〕］｝*_]*+"""
_NOTES = r"(?: \[[^\[\]\n<>|]{1,24}\] | [¹²³⁰-⁹*†‡§‖]++ )*+"
_NUMBERS = r"\d{1,3} (?: [,–-]\d{1,3} )*+ (?=\s)"
_EMOJI = r"[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]"
_CJK = r"[\u3040-\u9fff]"
_END = re.compile(
    rf"""
      (?: (?<![.!?…‼⁇⁈⁉]) (?P<mark> [.!?…‼⁇⁈⁉]++ )
        | (?P<foreign> \u037e | (?<=[\u0370-\u03ff\u1f00-\u1fff]); | (?<=[\u0561-\u0587]): ) )
      (?P<closed> {_CLOSING} (?: [“«‘‹](?=\s) )? ) (?: [ \u00a0\u202f] (?P<spaced> [»›] ) (?=\s) )?
      {_NOTES} (?P<numbers> {_NUMBERS} )? (?: \s*+{_EMOJI}++ )*+
      (?: (?P<gap> \s++ ) | (?={_CJK}) )
    | (?P<wide> (?: [{_WIDE}] | \u1361{{2}} )++ {_CLOSING} {_NOTES} ) (?: \s++ [\u0f0d\u0f0e]++ )*+ \s*+
    | : [^\S\n]*+ \n \s*+
    """,
    re.VERBOSE,
)
"""What may end a sentence, with all that belongs to it; the next one opens at the character after."""

_GOES_ON = frozenset(",;:.!?…)]}’%=<&/|⁰¹²³⁴⁵⁶⁷⁸⁹†‡")
"""With one of these, as with a small letter, a sentence goes on."""
_WIDE_GOES_ON = frozenset("、，；：")
_DASHES = frozenset("—–―")
_OPENED_BY = {"»": "«", "›": "‹", "”": "“"}
"""Marks that close what another opened, and open where nothing is."""
_BEFORE_WORD = re.compile(r"[\s(\[\"“‘«„]")
_INITIALS = re.compile(rf"(?<![^\s(\[\"“‘«„'’–—])(?:{_LETTER}\.[ \u00a0-]?)*{_LETTER}\Z")
_AFTER_WORD = re.compile(rf"{_LETTER}{{2}}\s\w\Z")
_UNIT = re.compile(r"\d\s?[^\W\d_]\Z")
_LIST_NUMBER = re.compile(r"(?:\A|\n|(?P<stop>[.!?:;])(?=\s))\s*\(?(?:\d{1,3}(?:\.\d{1,3})*|[ivx]{1,4}|[IVX]{1,4})\Z")
_ORDINAL = re.compile(r"(?:(?P<before>[\w.]+,?)\s|(?<![\w.,]))(?:\d{1,2}|(?P<roman>[IVXLC]{2,}))\Z")
_FOREIGN_LETTER = re.compile("[äöüßőűěřůčďňťžđøåæğışš]")
_WORD = re.compile(r"\w+")
_VOWEL = re.compile("[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœěůőűąęıаеёиоуыэюяіїєαεηιουω]")
_LONGEST = 24
"""How many characters before a full stop are looked at; no abbreviation is longer."""
_CONTEXT = 200
"""How many are looked at to recognise the language."""


def sentence_openings(text: str, reach: Reach) -> IntArray:
    """Return where sentences open, ascending positions of characters that are not white space.

    Whether a sentence opens at a character depends on nothing after its reach.
    """
    lines = read_lines(text, reach)
    starts = text_starts(text)
    after = np.array([_opening(text, match, starts, reach) for match in _END.finditer(text)], dtype=np.int64)
    after = after[(after >= 0) & (after < len(text))]
    in_code = np.searchsorted(lines.fences, after, side="right") % 2 == 1
    openings = np.unique(np.concatenate([lines.openings, lines.rows, after[~in_code]]))
    empty = [  # a quotation's empty lines are of one block with the sentence after them
        place
        for before, place in pairwise(openings.tolist())
        if text[before] == text[place] == ">" and not text[before:place].strip("> \t\n")
    ]
    return np.setdiff1d(openings, empty, assume_unique=True)


def _opening(text: str, match: re.Match[str], starts: list[int], reach: Reach) -> int:
    """Return where a sentence opens after what looks like the end of one; -1 where none ends there."""
    start = starts[bisect_right(starts, match.start()) - 1]  # of what is read together: a paragraph, or some of it
    before = text[max(match.start() - _CONTEXT, start) : match.start()]
    spaced = match["spaced"]  # « Oui ! » or »Ja!« »Nein!«
    place = match.end() if spaced is None or _is_open(_OPENED_BY[spaced], spaced, before) else match.start("spaced")
    return place if _is_end(text, match, before, place, reach) else -1


def _is_open(opening: str, closing: str, before: str) -> bool:
    """Return whether the end of ``before`` is within quotation marks."""
    return before.rfind(opening) > before.rfind(closing)


def _is_end(text: str, match: re.Match[str], before: str, place: int, reach: Reach) -> bool:
    """Return whether what looks like the end of a sentence is one, by what is before it and what may be read after."""
    following = text[place : place + 1]
    if match["wide"]:
        if following == "[":  # the mark of a note, or else a remark
            return text[place - 1].isspace()
        attributed = match["wide"][-1] in "」』" and following == "と"  # after a quotation: "…", said he
        decimal = match["wide"] == "．" and following.isdecimal()
        return not (attributed or decimal or following in _GOES_ON or following in _WIDE_GOES_ON)
    new_line = "\n" in (match["gap"] or "")
    if is_small(following) or following in _GOES_ON or (following == ">" and not new_line):
        return False
    if following in _OPENED_BY and _is_open(_OPENED_BY[following], following, before):
        return False
    mark = match["mark"]
    if mark is None:  # of its script; or a colon that ends its line
        return True
    if following in _DASHES and not new_line and mark != ".":  # "Who?" — said he
        return False
    if before[-1:] in ("(", "[") and match["closed"]:  # (!), […]
        return False
    if mark != ".":
        return mark[0] not in ".…" or not before[-1:].isspace()
    if before.endswith(". . ") and not before.endswith(". . . "):  # an ellipsis in spaced full stops; four end
        return False
    if match["numbers"]:  # a note's, after a word
        return before[-2:].isalpha() and not _is_abbreviation(before, "0", lambda: False)
    quoted = any(character in "\"'”’»“«" for character in match["closed"])
    return not (
        _is_abbreviation(before, following, lambda: quoted or _starts_sentence(text, place, reach))
        or _is_list_number(before[-_LONGEST:])
        or (not match["closed"] and (following.isupper() or following in "-–") and _is_ordinal(before))
    )


def _starts_sentence(text: str, place: int, reach: Reach) -> bool:
    """Return whether the word there, as far as it may be read, is one that begins sentences more often than names."""
    word = _WORD.match(text, place, reach(text, place))
    return text[place] in "¿¡—–―" or (word is not None and word[0].lower() in STARTERS)


def _is_abbreviation(before: str, following: str, starts: Callable[[], bool]) -> bool:
    """Return whether a full stop after ``before`` and in front of ``following`` makes an abbreviation or an initial.

    ``starts`` tells whether the word that follows is one that begins sentences.
    """
    near = before[-_LONGEST:]
    initials = _INITIALS.search(near)
    word = initials[0] if initials else _BEFORE_WORD.split(near)[-1]
    folded = "".join(word.split()).lower()
    sometimes = folded in END_SOMETIMES
    if folded in NEVER_END:
        return True
    if initials and not sometimes and _UNIT.search(near):
        return False
    if following in "([":
        return initials is not None or sometimes or folded in NUMBER_FOLLOWS
    if following.isdecimal():
        clipped = 2 <= len(word) <= 4 and word.isalpha() and not word.isupper() and not _VOWEL.search(folded)
        is_unit = near.removesuffix(word).rstrip()[-1:].isdecimal()  # 5 km
        return initials is not None or sometimes or folded in NUMBER_FOLLOWS or (clipped and not is_unit)
    if sometimes or folded == "i" or (initials and word.isupper() and (len(folded) > 1 or _AFTER_WORD.search(near))):
        return not starts()
    return initials is not None


def _is_list_number(before: str) -> bool:
    """Return whether a full stop after ``before`` follows a number that counts a list on: 2. but not vol. 2."""
    number = _LIST_NUMBER.search(before)
    if number is None:
        return False
    return number["stop"] != "." or not _is_abbreviation(before[: number.start()], "0", lambda: False)


def _is_ordinal(before: str) -> bool:
    """Return whether a full stop after ``before`` makes its number an ordinal, as in German: am 3. Mai.

    The word before tells, or the language of the text before: the letters it has and its small words.
    """
    number = _ORDINAL.search(before[-_LONGEST:])
    if number is None:
        return False
    words = _WORD.findall(before.lower())
    evidence = sum((word in ORDINALS_IN) + (_FOREIGN_LETTER.search(word) is not None) for word in words)
    evidence -= sum(word in ORDINALS_NOT_IN for word in words)
    word = number["before"] or ""
    if word.endswith("."):  # obr. 4
        return False
    return evidence > 0 and (
        number["roman"] is not None or word[-1:] == "," or not word[:1].isupper() or word.lower() in ORDINALS_IN
    )


@register_partitioner("sentences")
class Sentences(TextPartitioner):
    """`sentences`: a block opens where a sentence does, by rule, in any language whose marks are known.

    A sentence ends at . ! ? … or their like in other scripts, with the quotes, brackets and emoji that close it, where
    white space follows and then something else than a small letter (marks of scripts without capitals need neither);
    the marks of footnotes go with it. It goes on after abbreviations, initials, ordinals, the numbers of lists and an
    ellipsis that stands alone; the stops in decimals, addresses and file names have no white space after them.
    Paragraphs, list items, turns of a dialogue and headings end one as well, and so does a colon that ends its line; in
    fenced code and tables every line is one. Causal: where a sentence has ended, the token that follows opens the next,
    and needs no more than itself for it. Most often its first character is enough; after an abbreviation that may end a
    sentence, such as Inc. or p.m., it is asked for a word that begins one, such as The.
    """

    causal = True
    starts_afresh = staticmethod(last_fresh_start)

    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a sentence, (T,)."""
        return opens_block(places, sentence_openings(text.text, reach_of(text, places)))
