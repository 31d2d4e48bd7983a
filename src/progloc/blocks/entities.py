"""Entities: names, dates, quantities and addresses as blocks, and phrases between them."""

from __future__ import annotations

import re

import numpy as np

from progloc.blocks.parsed import entity_spans
from progloc.blocks.partitioning import IntArray, TokenisedText, register_partitioner
from progloc.blocks.phrases import by_function_words
from progloc.blocks.sentences import sentence_openings
from progloc.blocks.spans import BoolArray, TextPartitioner, opens_block, whole_text
from progloc.blocks.words import CAPITALS, FUNCTION_WORDS
from progloc.errors import ProglocError

_GAP = r"(?: [ ] | \n(?!\s) )"
_WORD = rf"(?: (?<!\w)[{CAPITALS}] (?: [\w'’-]*\w | \b ) )"
_TITLED = rf"(?: (?: (?:Mr|Mrs|Ms|Dr|Prof|St|Gen|Gov|Sen|[{CAPITALS}])\. [ ]? ){{0,8}}+ {_WORD} )"
_LINK = rf"(?: {_GAP} (?: of | of[ ]the | for | de | de[ ]la | du | da | di | van | van[ ]der | von | der | y )\b )"
_MONTH = (
    r"(?: (?: January|February|March|April|May|June|July|August|September|October|November|December )\b"
    r" | (?: Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec )\. )"
)
_DAY = r"(?: \d{1,2} (?: st|nd|rd|th )? )"
_NUMBER = r"(?: \d++ (?: [.,]\d++ )*+ )"
_SCALE = r"(?: [ ] (?: hundred|thousand|million|billion|trillion|bn|mn )\b )"
_UNIT = r"""(?: [ ]?%
    | [ ]? (?: °[CF] | [kMGT]i?B | [kMG]?Hz | [kMGm]?[WVA] | [kcmµn]?m[²³]? | [kmµ]?g | m?s | ml | dl | l | km/h | kWh
             | K | h | min | bits? | bytes? ) \b
    | [ ] (?: per[ ]cent | percent | (?: year|month|week|day|hour|minute|second|mile|met(?:er|re)|kilomet(?:er|re) )s?
            | feet | foot | inch(?:es)? | (?: pound|ton|tonne|degree|dollar|euro )s? ) \b )"""
_ENTITY = re.compile(
    rf"""
      (?: https?:// | \bwww\. ) [^\s<>"“”]*[^\s<>"“”.,;:!?)\]}}'’]                             # web address
    | (?<![\w.+-]) [\w.+-]{{1,64}}+ @ [\w-]+ (?: \.[\w-]+ )++                                 # e-mail address
    | (?<!\w) (?: \d{{4}}-\d\d-\d\d | \d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}} ) \b                # date
    | (?<!\w) {_DAY} [ ] (?: of[ ] )? {_MONTH} (?: ,?[ ]\d{{4}}\b )?
    | (?<!\w) {_MONTH} [ ] (?: {_DAY}\b (?: ,[ ]\d{{4}}\b )? | \d{{4}}\b )
    | [$€£¥] [ ]? {_NUMBER} {_SCALE}?                                                         # quantity
    | (?<![\w.]) (?<!\d,) {_NUMBER} (?: {_SCALE} (?: [ ] (?:dollars|euros|pounds)\b )? | {_UNIT} )
    | [“"«] [ ]? {_WORD} (?: (?: {_LINK} | [ ](?:the|a|an|and|in|on|to|at)\b )*+ {_GAP} {_WORD} ){{1,9}} [ ]? [”"»]
    | (?P<name> {_TITLED} (?: {_LINK}? {_GAP} {_TITLED} ){{0,9}} (?: \.?[ ] \d (?: [\w:.-]*\w )? )? )
    """,
    re.VERBOSE,
)
_OPENING = '([{“"‘«'
_WITH_IT = re.compile(r"(?:['’]s\b)?[^\w\s(\[{“‘«]*+\s*+")
"""What goes with the entity before it: a genitive, punctuation, white space."""


def entities_by_rule(text: str) -> IntArray:
    """Return the spans of the entities that regular expressions find, (entities, 2), half-open and in order.

    None goes on into the next sentence. One capitalised word that opens a sentence, a quotation or a bracket is no
    entity unless it is all capitals, and function words begin none.
    """
    spans = []
    sentences = sentence_openings(text, whole_text)
    for match in _ENTITY.finditer(text):
        start, end = match.span()
        if match["name"]:
            first, _, rest = match["name"].partition(" ")
            if first.lower() in FUNCTION_WORDS:
                start += len(first) + 1
            elif not rest and not first.isupper() and _opens_something(text, start, sentences):
                continue
        after = int(np.searchsorted(sentences, start, side="right"))
        if after < len(sentences) and sentences[after] < end:
            end = int(sentences[after])
        if start < end:
            spans.append((start, end))
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _opens_something(text: str, start: int, sentences: IntArray) -> bool:
    """Return whether a sentence, a quotation or a bracket opens there."""
    return text[start - 1 : start] in tuple(_OPENING) or start in sentences[np.searchsorted(sentences, start) :][:1]


def _with_punctuation(text: str, spans: IntArray) -> IntArray:
    """Return spans with the opening marks before and the punctuation and white space after each, (entities, 2)."""
    wider = []
    for start, end in spans.tolist():
        while start > 0 and text[start - 1] in _OPENING:
            start -= 1
        after = _WITH_IT.match(text, end)
        wider.append((start, after.end() if after else end))
    return np.array(wider, dtype=np.int64).reshape(-1, 2)


_RULES = {"": entities_by_rule, "spacy": entity_spans}


@register_partitioner("entities")
class Entities(TextPartitioner):
    """`entities`: every entity is a block, with the punctuation around it; between them blocks are those of `phrases`.

    Entities are runs of capitalised words (a single one that opens a sentence is none), acronyms, dates, numbers with a
    unit or currency, quoted titles, e-mail and web addresses. Not causal: an address or a date is known by its end.

    `entities:spacy`: the entities that spaCy finds. It needs the extra `semantic` and an English pipeline. Not causal.
    """

    def __init__(self, argument: str = "") -> None:
        if argument not in _RULES:
            raise ProglocError(f"blocks 'entities:{argument}'; expected entities or entities:spacy")
        self.find = _RULES[argument]
        if argument == "spacy":
            self.version = None  # another parser may find others

    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a block, (T,): those that open or follow an entity, and phrases outside of them."""
        entities = _with_punctuation(text.text, self.find(text.text))
        begun = np.searchsorted(entities[:, 0], places, side="left")  # (T,): how many entities begin before each token
        inside = places < np.append(0, entities[:, 1])[begun]
        return (by_function_words(text, places) & ~inside) | opens_block(places, np.unique(entities))
