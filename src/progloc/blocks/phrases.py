"""Phrases: by punctuation and function words, or as noun and verb chunks by a parser."""

from __future__ import annotations

__all__ = ["Phrases", "by_function_words", "by_punctuation"]

import re

import numpy as np

from progloc.blocks.base import IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.blocks.paragraphs import last_fresh_start
from progloc.blocks.parsed import chunk_openings
from progloc.blocks.sentences import sentence_openings
from progloc.blocks.spans import BoolArray, Reach, block_ids, opens_block, reach_of, token_places
from progloc.blocks.words import FUNCTION_WORDS
from progloc.errors import ProglocError

_PAUSE = re.compile(
    r"""
    (?= [,;:—–\-\"”»)\]}(\[{“‘«，、；：」』）》】「『（《【] ) (?:  # sought first: five times as fast
      [,;:] [\"'”’»)\]}]*+ \s++          # after a comma and its like
    | — \s*+ | (?<=\S\s) [–-]{1,3} \s++  # after a dash
    | (?<=[^\s\"”»)\]}]) [\"”»)\]}]++ \s++       # after what closes a bracket or a quotation
    | (?: [，、；：] [」』）”’》】]*+ | [」』）》】]++ ) \s*+
    | (?<=\s) (?= [(\[{\"“‘«] )          # before what opens one
    | (?= [「『（《【] ) )
    """,
    re.VERBOSE,
)

_BEFORE_WORD = frozenset(' \t\n\r\f\v\u00a0\u3000([{"“‘«—')


def _pauses(text: str, reach: Reach) -> IntArray:
    """Return where phrases open by punctuation and ends of sentences, ascending positions of characters."""
    after = [match.end() for match in _PAUSE.finditer(text)]
    return np.unique(np.concatenate([sentence_openings(text, reach), np.array(after, dtype=np.int64)]))


def by_punctuation(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause, (T,); ``places`` are the tokens', as from `token_places`."""
    return opens_block(places, _pauses(text.text, reach_of(text, places)))


def by_function_words(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause, or are a function word after a word that is none, (T,)."""
    functional, other = _word_classes(text, places)
    return by_punctuation(text, places) | (functional & np.append(False, other[:-1]))


def by_chunks(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause or open one of spaCy's chunks, (T,)."""
    return by_punctuation(text, places) | opens_block(places, chunk_openings(text.text))


def _word_classes(text: TokenisedText, places: IntArray) -> tuple[BoolArray, BoolArray]:
    """Return which tokens are function words and which are (pieces of) other words, (T,) each; marks are neither.

    No more is looked at than the text up to a token's end. White space is classed as the word before it, so that it
    does not come between two.
    """
    functional, other = [], []
    leads = follows = False
    for place, (start, end) in zip(places.tolist(), text.offsets.tolist(), strict=True):
        if place >= start:  # or it is white space
            word = text.text[place:end].rstrip()
            leads = word.lower() in FUNCTION_WORDS and word != "May" and _begins_word(text.text, place)
            follows = word[-1:].isalnum() and not leads
        functional.append(leads)
        other.append(follows)
    return np.array(functional, dtype=np.bool_), np.array(other, dtype=np.bool_)


def _begins_word(text: str, place: int) -> bool:
    """Return whether the character there is the first of a word."""
    return place == 0 or text[place - 1] in _BEFORE_WORD


_RULES = {"": by_function_words, "punctuation": by_punctuation, "spacy": by_chunks}


@register_partitioner("phrases")
class Phrases(Partitioner):
    """`phrases`: a block opens after a pause, and at a function word that follows a word which is none.

    A pause is the end of a sentence, a comma, semicolon, colon or dash, and a bracket or quotation mark (opening ones
    go with what follows). Function words are the English determiners, prepositions, conjunctions, subject pronouns and
    auxiliaries of `FUNCTION_WORDS`: a phrase is some of them and then other words, as in the chinks and chunks of
    Liberman and Church (1992). Causal: a token is judged as far as its own end, so a function word cut into several
    tokens is missed, and the first piece of a longer word is taken for one where it looks like one.

    `phrases:punctuation`: by pauses alone, in any language. Causal.

    `phrases:spacy`: by pauses and the noun and verb chunks of spaCy's English parser. It needs the extra `semantic`
    and an English pipeline. Not causal: a parser reads the whole sentence.
    """

    def __init__(self, argument: str = "") -> None:
        if argument not in _RULES:
            raise ProglocError(f"blocks 'phrases:{argument}'; expected phrases, phrases:punctuation or phrases:spacy")
        self.opens = _RULES[argument]
        self.causal = argument != "spacy"
        self.version = None if argument == "spacy" else 3  # what a parser finds is not ours to know

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the number of the phrase each token is in, (T,)."""
        places = token_places(text)
        return block_ids(places, self.opens(text, places))

    def starts_afresh(self, text: str) -> int:
        """Return where the last paragraph that an empty line sets apart opens, 0 where there is none."""
        return last_fresh_start(text)
