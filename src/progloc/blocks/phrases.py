"""Phrases, by punctuation and function words or as a parser's chunks; and arguments, by clauses and connectives."""

from __future__ import annotations

import re

import numpy as np

from progloc.blocks.paragraphs import last_fresh_start
from progloc.blocks.parsed import chunk_openings
from progloc.blocks.partitioning import IntArray, TokenisedText, register_partitioner
from progloc.blocks.sentences import sentence_openings
from progloc.blocks.spans import BoolArray, TextPartitioner, opens_block, reach_of, whole_text
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


def _openings(sentences: IntArray, text: str, *patterns: re.Pattern[str]) -> IntArray:
    """Return where sentences open or a match of one of the patterns ends, ascending positions of characters."""
    ends = [match.end() for pattern in patterns for match in pattern.finditer(text)]
    return np.unique(np.concatenate([sentences, np.array(ends, dtype=np.int64)]))


def _by_punctuation(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause, (T,); ``places`` are the tokens', as from `token_places`."""
    return opens_block(places, _openings(sentence_openings(text.text, reach_of(text, places)), text.text, _PAUSE))


def by_function_words(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause, or are a function word after a word that is none, (T,)."""
    functional, content = _word_classes(text, places)
    return _by_punctuation(text, places) | (functional & np.append(False, content[:-1]))


def _by_chunks(text: TokenisedText, places: IntArray) -> BoolArray:
    """Return which tokens follow a pause or open one of spaCy's chunks, (T,)."""
    return _by_punctuation(text, places) | opens_block(places, chunk_openings(text.text))


def _word_classes(text: TokenisedText, places: IntArray) -> tuple[BoolArray, BoolArray]:
    """Return which tokens are function words and which are (pieces of) other words, (T,) each; marks are neither.

    No more is looked at than the text up to a token's end. White space is classed as the word before it, so that it
    does not come between two.
    """
    functional, content = [], []
    is_function_word = is_content_word = False
    for place, (start, end) in zip(places.tolist(), text.offsets.tolist(), strict=True):
        if place >= start:  # or it is white space
            word = text.text[place:end].rstrip()
            begins_word = place == 0 or text.text[place - 1] in _BEFORE_WORD
            is_function_word = begins_word and word.lower() in FUNCTION_WORDS and word != "May"
            is_content_word = word[-1:].isalnum() and not is_function_word
        functional.append(is_function_word)
        content.append(is_content_word)
    return np.array(functional, dtype=np.bool_), np.array(content, dtype=np.bool_)


_RULES = {"": by_function_words, "punctuation": _by_punctuation, "spacy": _by_chunks}


@register_partitioner("phrases")
class Phrases(TextPartitioner):
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

    causal = True
    starts_afresh = staticmethod(last_fresh_start)

    def __init__(self, argument: str = "") -> None:
        if argument not in _RULES:
            raise ProglocError(f"blocks 'phrases:{argument}'; expected phrases, phrases:punctuation or phrases:spacy")
        self.rule = _RULES[argument]
        if argument == "spacy":
            self.causal, self.version = False, None  # another parser may divide otherwise

    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a phrase, (T,)."""
        return self.rule(text, places)


_SUBORDINATORS = (
    "because|although|though|whereas|unless|if|while|when|whenever|once|since|until|after|before|so that|such that|"
    "in order to|in order that|as long as|as soon as|as if|provided that|given that|except that|now that|in case"
)
_CONNECTIVES = (
    "therefore|however|thus|hence|moreover|furthermore|nevertheless|nonetheless|consequently|accordingly|otherwise|"
    "meanwhile|likewise|similarly|conversely|indeed|as a result|as a consequence|in contrast|by contrast|in addition|"
    "in fact|in other words|in particular|in conclusion|in short|in spite of|instead of|rather than|due to|despite|"
    "for example|for instance|for this reason|on the one hand|on the other hand|on the contrary|that is to say|"
    "which means|that means|after all|at the same time"
)
_LINKS = "but|so|yet|which|who|whom|whose|where"
_SUBJECTS = "i|you|he|she|it|we|they|this|that|these|those|there|the|a|an|then|also"
"""After a comma and one of and, or, nor, these begin a clause, and not one more thing in a list."""

_MARKER = rf"(?:{_SUBORDINATORS}|{_CONNECTIVES})".replace(" ", r"\s")
_CLAUSE = re.compile(
    rf"""
      (?<![^\s(\"“‘—]) (?= (?: (?:and|but|or|even|only|just|not) \s )? {_MARKER} \b )
    | , [\"”’)]*+ \s++ (?= (?: {_LINKS} | (?:and|or|nor) \s (?:{_SUBJECTS}) ) \b )
    | [;:] [\"”’)]*+ \s++
    | — \s*+ | (?<=\S\s) [–-]{{1,3}} \s++
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    rf"\b(?:{_SUBORDINATORS})\b[^,.;:!?…—]{{1,200}}+,[\"”’)]*+\s++".replace(" ", r"\s"), re.IGNORECASE
)
"""A subordinate clause up to the comma that ends it."""


@register_partitioner("arguments")
class Arguments(TextPartitioner):
    """`arguments`: a block opens at a sentence, at a clause, and at a word that says how it bears on the one before.

    Such words are because, although, if, so that, therefore, however, on the other hand and their like, in English.
    Clauses are what lies between semicolons, colons and dashes, what a comma and a conjunction or relative pronoun
    begin, and what follows the comma that ends a subordinate clause. Not causal: a marker of several words is known by
    its last.
    """

    def opens(self, text: TokenisedText, places: IntArray) -> BoolArray:
        """Return which tokens open a clause, (T,)."""
        return opens_block(
            places, _openings(sentence_openings(text.text, whole_text), text.text, _CLAUSE, _SUBORDINATE)
        )
