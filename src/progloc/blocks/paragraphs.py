"""Paragraphs, by the lines of the text: blank lines, list items, headings, tables and fenced code."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from progloc.blocks.partitioning import IntArray, TokenisedText, register_partitioner
from progloc.blocks.spans import BoolArray, Reach, TextPartitioner, opens_block, reach_of, whole_text
from progloc.blocks.words import CAPITALS

_BULLETS = "•‣◦▪●○■□▸►∙⁃"
_CAPITALISED = rf"[{CAPITALS}\d(&]\S*+"
_SMALL = r"(?:an?|and|as|at|by|for|from|in|of|on|or|the|to|with|[–-])"
_LINE = re.compile(
    rf"""
    (?P<indent> [^\S\n]*+ )
    (?: (?P<blank> \n | \Z )
      | (?P<fence> `{{3,}}+(?![^\n]*`) | ~{{3,}}+ )
      | (?P<heading> \#{{1,6}}\s | [=_*~-]{{3,}}+[^\S\n]*+\n )
      | (?P<row> \| )
      | (?P<item> (?: [-*+{_BULLETS}] | \(?(?:\d{{1,3}}|[^\W\d_]|[ivx]{{2,4}}|[IVX]{{2,4}})[.)]
                    | \d{{1,3}}(?:\.\d{{1,3}})++[.)]? )(?=\s) | [–—―](?![-–—―]) )
      | (?P<title> (?!{_SMALL}[ ])(?:(?:{_CAPITALISED}|{_SMALL})[ ]){{0,11}}{_CAPITALISED}(?<![,;:.?!-])[^\S\n]*+\n )
      | (?P<text> ) )
    """,
    re.VERBOSE,
)
"""The start of a line. A title is a line of at most twelve words that no mark ends: capitalised, or small inside."""
_MARKERS = f"#-{_BULLETS}"
"""A line that begins with one opens a paragraph, whatever is before it."""
_DASHES = "–—―"
"""A line that begins with one is an item, or a turn of a dialogue."""
_UNDERLINES = "=_~"
_QUOTATION = re.compile(r"(?:[^\S\n]{0,3}>)*+")
_COLONS = frozenset(":;：；")
_ENDS = _COLONS | frozenset(".!?…。！？؟۔।։")
"""Marks after which a line may end a paragraph."""
_CLOSING = "\"'”’»)]}*_」』）"
_TAIL = 8
"""How many characters of a line are read to see how it ends."""
_WIDE = 40
"""A line with fewer characters is not one that was broken for its length."""
_FIRST = ("1.", "1)", "a.", "a)", "i.", "i)", "(1)", "(a)", "(i)")
"""Markers with which a list may begin."""
_LONGEST_MARKER = 16
_ROMAN = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi"]
_ALPHABET = [*"abcdefghijklmnopqrstuvwxyz"]
_TURN_END = re.compile(
    r"<[|｜][^\s<>|｜]*(?:end|eo[tms])[^\s<>|｜]*[|｜]>|</s>|<eos>|<end_of_turn>|\[/INST\]", re.IGNORECASE
)
"""How chats and collections spell the end of a turn or a text, whether the tokenizer has a token for it or not."""
_APART = re.compile(rf"(?:\n\n++|(?:{_TURN_END.pattern})\s*+)", re.IGNORECASE)


@dataclass(frozen=True)
class Lines:
    """The structure of a text's lines, as positions of characters in ascending order."""

    openings: IntArray
    """Where a paragraph opens."""
    rows: IntArray
    """Where a line begins that is a sentence of its own without being a paragraph: in code and tables."""
    fences: IntArray
    """Where fenced code begins and ends, alternating: what lies after an odd number of these is code."""


def read_lines(text: str, reach: Reach) -> Lines:
    """Return where paragraphs open and where code lies.

    A line opens a paragraph for what lines before it are, and for its own indentation and beginning: nothing after the
    reach of the position is looked at, which is what lets partitioners be causal. What follows the end of a turn is a
    text of its own.
    """
    reading = _Reading(text, reach)
    start = 0
    while start < len(text):
        start = reading.read_line(start)
    return Lines(*(np.array(places, np.int64) for places in (reading.openings, reading.rows, reading.fences)))


class _Reading:
    """A text read line by line: the positions so far, and the state that decides about the next line."""

    def __init__(self, text: str, reach: Reach) -> None:
        self.text, self.reach = text, reach
        self.turn_ends = deque(match.end() for match in _TURN_END.finditer(text))
        self.openings: list[int] = []
        self.rows: list[int] = []
        self.fences: list[int] = []
        self.fence = ""
        """What opened the code that the next line is in."""
        self.depth = 0
        """How many levels deep the line before is quoted, as in mail or Markdown."""
        self.before = "blank"
        """What kind the line before is."""
        self.end_before, self.wide_before = "", False
        """How the line before ends, and whether it is as long as one that goes on in the next."""
        self.items: list[tuple[int, str]] = []
        """Indentation and marker of the list items that the next line may go on with, outermost first."""

    def read_line(self, start: int) -> int:
        """Read the line at ``start`` and return where the next one starts."""
        quoted, content = self._quotation(start)
        line = _LINE.match(self.text, content)
        assert line is not None  # the last kind matches anything
        assert line.lastgroup is not None
        kind, place = line.lastgroup, line.end("indent")
        end = self.text.find("\n", place) + 1 or len(self.text)
        ends_turn = bool(self.turn_ends) and self.turn_ends[0] <= end
        if ends_turn:
            end = self.turn_ends.popleft()
        if self.fence and quoted < self.depth:  # code ends with the quotation it is in
            self.fence, self.before = "", "text"
            self.fences.append(place)
        if self.fence:
            self._read_code(line, place, end)
        else:
            self._read_text(line, kind, start, place, end, quoted)
        self.depth = quoted if kind != "blank" or quoted else 0
        self.end_before = self.text[max(end - _TAIL, start) : end].rstrip().rstrip(_CLOSING)[-1:]
        self.wide_before = end - start > _WIDE
        if ends_turn:
            self._end_turn(end)
        return end

    def _end_turn(self, end: int) -> None:
        if self.fence:
            self.fences.append(end)
        self.fence, self.depth, self.before, self.end_before, self.items = "", 0, "blank", "", []

    def _quotation(self, start: int) -> tuple[int, int]:
        """Return how many levels deep the line is quoted, and where its content begins."""
        if self.fence and not self.depth:
            return 0, start
        marks = _QUOTATION.match(self.text, start)
        assert marks is not None  # it may be empty
        if not self.depth and ">>>" in marks[0]:  # an interpreter's prompt
            return 0, start
        return marks[0].count(">"), marks.end()

    def _read_code(self, line: re.Match[str], place: int, end: int) -> None:
        if line["blank"] is None:
            (self.openings if self.before == "opening fence" else self.rows).append(place)
            self.before = "code"
        run = line["fence"] or ""
        if run.startswith(self.fence) and not self.text[line.end("fence") : end].strip():
            self.fence, self.before = "", "blank"
            self.fences.append(end)

    def _read_text(self, line: re.Match[str], kind: str, start: int, place: int, end: int, quoted: int) -> None:
        indent = place - line.start()
        opening = self._opening(start, place, indent, quoted)
        if opening is not None:
            self.openings.append(opening)
        elif self.before == "row" and kind != "blank":
            self.rows.append(place)
        if quoted != self.depth:
            self.items = []
        inner = bool(self.items) and indent > self.items[-1][0]
        if kind == "item" and (opening is not None or inner or line["item"].lower() in _FIRST):
            self.items = [item for item in self.items if item[0] < indent] + [(indent, line["item"])]
        elif kind != "blank" and opening is not None:
            self.items = [item for item in self.items if item[0] < indent]
        self.before = kind
        if kind == "fence":
            self.fence = line["fence"]
            self.fences.append(end)
            self.before = "opening fence" if opening is None else "code"

    def _opening(self, start: int, place: int, indent: int, quoted: int) -> int | None:
        """Return where a paragraph opens on a line, if one does.

        Args:
            start: where the line starts.
            place: the first character of its content that is not white space.
            indent: how far that is indented.
            quoted: how many levels deep it is quoted.
        """
        text = self.text
        first = start + len(text[start:place]) - len(text[start:place].lstrip())
        if text[first : first + 1] in ("", "\n"):
            return None
        if self.before in ("blank", "heading"):
            return first
        if text[first] == ">" and (quoted > self.depth or not self.depth):
            shown = self._shown(first)
            if not self.depth and shown.startswith(">>>"):
                return None
            for _ in range(self.depth if shown.count(">") <= self.depth else 0):
                first = text.index(">", first + 1)
            return first  # where it is known to be quoted deeper
        if text[place : place + 1] in ("", "\n"):
            return None
        if quoted < self.depth:
            return None if is_small(text[place]) else place
        return place if self._opens(place, indent) else None

    def _shown(self, place: int) -> str:
        """Return the start of what may be read from there on, digits of any script as ASCII."""
        shown = self.text[place : min(self.reach(self.text, place), place + _LONGEST_MARKER)]
        return "".join(str(int(character)) if character.isdecimal() else character for character in shown)

    def _opens(self, place: int, indent: int) -> bool:
        """Return whether a line opens a paragraph that is quoted as the line before is, and follows it at once."""
        first = self.text[place]
        if first in _MARKERS:
            return True
        if self.before == "row" or first == "|":
            return self.before != "row" or first != "|"
        if self.before == "title" and not is_small(first) and first not in _UNDERLINES:
            return True
        if first in _DASHES:  # a turn of a dialogue
            return self.end_before in _ENDS or any(marker == first for _, marker in self.items)
        shown = self._shown(place)
        if not self.items:
            listed = not first.isalpha() or any(_agrees(shown, marker) for marker in _FIRST)
            return self.end_before in _COLONS and listed
        if any(_agrees(shown, following) for _, marker in self.items for following in _followers(marker)):
            return True
        if self.wide_before and self.end_before not in _ENDS:
            return False
        return indent <= self.items[-1][0] and not is_small(first) and not first.isdecimal()


def is_small(character: str) -> bool:
    """Return whether a character is a small letter of a script where capitals begin sentences: Georgian is not one."""
    return character.islower() and not "ა" <= character <= "ჿ"


def _followers(marker: str) -> Iterator[str]:
    """Yield the markers that may follow one in a list: 2. and 1. after 1., (b) after (a), v) and j) after i)."""
    number = marker.strip("().")
    before, after = marker[: len(marker) - len(marker.lstrip("("))], marker[len(marker.rstrip(").")) :]
    if not number:  # a bullet
        yield marker
    elif number[0].isdecimal():
        yield marker
        parts = [int(part) for part in number.split(".")]
        for count in range(1, len(parts) + 1):
            yield before + ".".join(map(str, [*parts[: count - 1], parts[count - 1] + 1])) + after
    else:
        for numerals in (_ROMAN, _ALPHABET):
            if number.lower() in numerals[:-1]:
                following = numerals[numerals.index(number.lower()) + 1]
                yield before + (following if is_small(number[0]) else following.upper()) + after


def _agrees(shown: str, marker: str) -> bool:
    """Return whether the beginning of a line, as far as it may be read, is that of one with the marker."""
    return shown.startswith(marker) or marker.startswith(shown)


def text_starts(text: str) -> list[int]:
    """Return where a text starts after empty lines or the end of a turn, and at 0, ascending."""
    return [0, *(match.end() for match in _APART.finditer(text))]


def last_fresh_start(text: str) -> int:
    """Return the last position at which a line opens a paragraph and depends on nothing before; 0 where none does.

    It follows an empty line outside code, or the end of a turn, is not indented, and begins with a letter: what ends a
    sentence may reach over an empty line to an emoji, and the number of a list may be read with the word before it, but
    no letter is. The first paragraph is none of these, for the white space before it is of its block.
    """
    leading = len(text) - len(text.lstrip())
    ends = (match.end() for match in _APART.finditer(text, leading))
    starts = np.array([end for end in ends if text[end : end + 1].isalpha()], dtype=np.int64)
    fences = read_lines(text, whole_text).fences if len(starts) else starts
    outside = starts[np.searchsorted(fences, starts, side="right") % 2 == 0]
    return int(outside[-1]) if len(outside) else 0


@register_partitioner("paragraphs")
class Paragraphs(TextPartitioner):
    """`paragraphs`: a block opens after a blank line, at a list item, before and after a heading, table or code.

    A heading is a Markdown one, underlined or not, or a short line in capitalised words. Fenced code is one block,
    blank lines included. Causal: a line is judged by the lines before it, its own indentation and its first character.
    So a fence or a numbered item that follows prose without a blank line or a colon is seen late, or not at all.
    """

    causal = True
    starts_afresh = staticmethod(last_fresh_start)

    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a paragraph, (T,)."""
        return opens_block(places, read_lines(text.text, reach_of(text, places)).openings)
