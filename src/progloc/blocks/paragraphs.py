"""Paragraphs, by the lines of the text: blank lines, list items, headings, tables and fenced code."""

from __future__ import annotations

__all__ = ["Lines", "Paragraphs", "last_fresh_start", "read_lines"]

import re
from dataclasses import dataclass

import numpy as np

from progloc.blocks.base import IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.blocks.spans import block_ids, opens_block, token_places

_CAPITALISED = r"[A-Z\d(&]\S*+"
_SMALL = r"(?:an?|and|as|at|by|for|from|in|of|on|or|the|to|with|[–-])"
_LINE = re.compile(
    rf"""
    (?P<indent> [^\S\n]*+ )
    (?: (?P<blank> \n | \Z )
      | (?P<fence> ```(?![^\n]*`) | ~~~ )
      | (?P<heading> \#{{1,6}}\s | [=_*~-]{{3,}}+[^\S\n]*+\n )
      | (?P<row> \| )
      | (?P<item> (?: [-*+•‣◦▪●–—] | \(?(?:\d{{1,3}}|[^\W\d_]|[ivx]{{2,4}})[.)] ) [^\S\n] )
      | (?P<title> (?!{_SMALL}[ ])(?:(?:{_CAPITALISED}|{_SMALL})[ ]){{0,11}}{_CAPITALISED}(?<![,;:.?!-])[^\S\n]*+\n )
      | (?P<text> ) )
    """,
    re.VERBOSE,
)
"""The start of a line. A title is a line of at most twelve words that no mark ends: capitalised, or small inside."""
_MARKERS = "#-•‣◦▪●"
"""A line that begins with one opens a paragraph, whatever is before it."""
_UNDERLINES = "=_~"
_TURN_END = re.compile(
    r"<[|｜][^\s<>|｜]*(?:end|eo[tms])[^\s<>|｜]*[|｜]>|</s>|<eos>|<end_of_turn>|\[/INST\]", re.IGNORECASE
)
"""How chats and collections spell the end of a turn or a text, whether the tokenizer has a token for it or not."""
_APART = re.compile(rf"(?:\n\n++|(?:{_TURN_END.pattern})\s*+)", re.IGNORECASE)


@dataclass(frozen=True)
class Lines:
    """What the lines of a text say, as positions of characters in ascending order."""

    openings: IntArray
    """Where a paragraph opens."""
    rows: IntArray
    """Where a line begins that is a sentence of its own without being a paragraph: in code and tables."""
    fences: IntArray
    """Where fenced code begins and ends in turn, so that what lies after an odd number of these is code."""


def read_lines(text: str) -> Lines:
    """Return where paragraphs open and where code lies.

    A line opens a paragraph for what lines before it are, and for its own indentation and first character: nothing
    after that character is looked at, which is what lets partitioners be causal. What follows the end of a turn is a
    text of its own.
    """
    openings: list[int] = []
    rows: list[int] = []
    fences: list[int] = []
    fence = ""  # what opened the code that this line is in
    before = "blank"  # what kind the line before is
    item, item_indent = "", 0  # the sort of marker and the indentation of the list item that this line may go on with
    turn_ends = [match.end() for match in _TURN_END.finditer(text)]
    start = turn = 0
    while start < len(text):
        line = _LINE.match(text, start)
        assert line is not None  # the last kind matches anything
        assert line.lastgroup is not None
        kind, place = line.lastgroup, line.end("indent")
        end = text.find("\n", place) + 1 or len(text)
        ends_turn = turn < len(turn_ends) and turn_ends[turn] <= end
        if ends_turn:
            end = turn_ends[turn]
            turn += 1
        if fence:
            if kind != "blank":
                (openings if before == "opening fence" else rows).append(place)
                before = "code"
            if line["fence"] == fence:
                fence, before = "", "blank"
                fences.append(end)
        elif kind == "blank":
            before = "blank"
        else:
            first = text[place]
            after_colon = text[max(start - 8, 0) : start].rstrip().endswith((":", ";"))
            if _opens(first, before, after_colon, item, outside=place - start <= item_indent):
                openings.append(place)
                item, item_indent = (_sort(first), place - start) if kind == "item" else ("", 0)
            elif before == "row":
                rows.append(place)
            before = kind
            if kind == "fence":
                fence = line["fence"]
                fences.append(end)
                before = "code" if openings[-1:] == [place] else "opening fence"
        if ends_turn:
            if fence:
                fences.append(end)
            fence, before, item = "", "blank", ""
        start = end
    return Lines(np.array(openings, np.int64), np.array(rows, np.int64), np.array(fences, np.int64))


def _sort(character: str) -> str:
    """Return what markers that count on from each other have in common."""
    return "1" if character.isdigit() else "a" if character.islower() else "A" if character.isupper() else character


def _opens(first: str, before: str, after_colon: bool, item: str, outside: bool) -> bool:
    """Return whether a line opens a paragraph.

    Args:
        first: its first character that is not white space.
        before: the kind of the line before it.
        after_colon: whether that line ends in a colon or semicolon.
        item: the sort of marker of the list item it would go on with, empty where there is none.
        outside: whether it is indented no deeper than that item.
    """
    if before in ("blank", "heading") or first in _MARKERS:
        return True
    if before == "row" or first == "|":
        return before != "row" or first != "|"
    if before == "title" and not first.islower() and first not in _UNDERLINES:
        return True
    if item:  # a line with such a marker ends it, and a capital that is not indented
        return _sort(first) == item or (outside and not first.islower() and not first.isdigit())
    return after_colon and not first.isalpha()


def last_fresh_start(text: str) -> int:
    """Return the last position at which a line opens a paragraph and depends on nothing before; 0 where none does.

    It follows an empty line outside code, or the end of a turn, is not indented, and begins with a letter: what ends a
    sentence may reach over an empty line to an emoji, and the number of a list may be read with the word before it, but
    no letter is. The first paragraph is none of these, for the white space before it is of its block.
    """
    leading = len(text) - len(text.lstrip())
    ends = (match.end() for match in _APART.finditer(text, leading))
    starts = np.array([end for end in ends if text[end : end + 1].isalpha()], dtype=np.int64)
    fences = read_lines(text).fences if len(starts) else starts
    outside = starts[np.searchsorted(fences, starts, side="right") % 2 == 0]
    return int(outside[-1]) if len(outside) else 0


@register_partitioner("paragraphs")
class Paragraphs(Partitioner):
    """`paragraphs`: a block opens after a blank line, at a list item, before and after a heading, table or code.

    A heading is a Markdown one, underlined or not, or a short line in capitalised words. Fenced code is one block,
    blank lines included. Causal: a line is judged by the lines before it, its own indentation and its first character.
    So a fence or a numbered item that follows prose without a blank line or a colon is seen late, or not at all.
    """

    causal = True
    version = 2

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the number of the paragraph each token is in, (T,)."""
        places = token_places(text)
        return block_ids(places, opens_block(places, read_lines(text.text).openings))

    def starts_afresh(self, text: str) -> int:
        """Return where the last paragraph that an empty line sets apart opens, 0 where there is none."""
        return last_fresh_start(text)
