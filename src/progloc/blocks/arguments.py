"""Arguments: clauses, and the words that say how one bears on another."""

from __future__ import annotations

__all__ = ["Arguments"]

import re

import numpy as np

from progloc.blocks.base import IntArray, Partitioner, TokenisedText, register_partitioner
from progloc.blocks.sentences import sentence_openings
from progloc.blocks.spans import block_ids, opens_block, token_places, whole_text

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


def _clauses(text: str) -> IntArray:
    """Return where clauses open, ascending positions of characters."""
    found = [match.end() for pattern in (_CLAUSE, _SUBORDINATE) for match in pattern.finditer(text)]
    return np.unique(np.concatenate([sentence_openings(text, whole_text), np.array(found, dtype=np.int64)]))


@register_partitioner("arguments")
class Arguments(Partitioner):
    """`arguments`: a block opens at a sentence, at a clause, and at a word that says how it bears on the one before.

    Such words are because, although, if, so that, therefore, however, on the other hand and their like, in English.
    Clauses are what lies between semicolons, colons and dashes, what a comma and a conjunction or relative pronoun
    begin, and what follows the comma that ends a subordinate clause. Not causal: a marker of several words is known by
    its last.
    """

    version = 3

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return the number of the clause each token is in, (T,)."""
        places = token_places(text)
        return block_ids(places, opens_block(places, _clauses(text.text)))
