"""What spaCy finds in a text: chunks and entities. spaCy is optional and imported only when needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from progloc.blocks.paragraphs import read_lines
from progloc.blocks.partitioning import IntArray
from progloc.blocks.spans import whole_text
from progloc.errors import ProglocError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

_VERBAL = frozenset({"VERB", "AUX", "PART", "ADV"})
_ATTACHED = frozenset({"PUNCT", "SPACE", "SYM"})
"""Parts of speech that go with what is before them."""


@cache
def english_pipeline() -> Language:
    """Return the first English pipeline installed, by name, loaded once.

    Raises:
        ProglocError: without spaCy, or without an English pipeline.
    """
    try:
        import spacy
    except ImportError as error:
        raise ProglocError(
            "this partitioner needs spaCy, which is not installed; "
            "run: pip install 'progloc[semantic]' && python -m spacy download en_core_web_sm"
        ) from error
    installed = sorted(name for name in spacy.util.get_installed_models() if name.startswith("en_"))
    if not installed:
        raise ProglocError(
            "this partitioner needs an English pipeline for spaCy, and none is installed; "
            "run: python -m spacy download en_core_web_sm"
        )
    return spacy.load(installed[0])


def chunk_openings(text: str) -> IntArray:
    """Return where noun and verb chunks open, ascending positions of characters.

    A noun chunk is spaCy's, a verb chunk a run of verbs, auxiliaries, particles and adverbs outside one. Other words
    (prepositions, conjunctions) go with the chunk they come before, punctuation with what it comes after.

    Raises:
        ProglocError: as `english_pipeline`.
    """
    return np.array([start + place for start, doc in _parse(text) for place in _chunk_starts(doc)], dtype=np.int64)


def entity_spans(text: str) -> IntArray:
    """Return the spans of the entities spaCy finds, (entities, 2), half-open and in order.

    Raises:
        ProglocError: as `english_pipeline`.
    """
    spans = [(start + entity.start_char, start + entity.end_char) for start, doc in _parse(text) for entity in doc.ents]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _parse(text: str) -> Iterator[tuple[int, Doc]]:
    """Yield every paragraph parsed, and where it starts: by paragraphs, memory does not grow with the text."""
    bounds = np.unique(np.concatenate([[0], read_lines(text, whole_text).openings, [len(text)]])).tolist()
    pieces = ((text[start:end], start) for start, end in pairwise(bounds))
    for doc, start in english_pipeline().pipe(pieces, as_tuples=True):
        yield start, doc


def _chunk_starts(doc: Doc) -> Iterator[int]:
    """Yield where chunks open in a document."""
    nominal = {token.i: chunk.start for chunk in doc.noun_chunks for token in chunk}
    before = ""
    for token in doc:
        if token.i in nominal:
            kind = f"noun {nominal[token.i]}"
        elif token.pos_ in _ATTACHED:
            continue
        else:
            kind = "verb" if token.pos_ in _VERBAL else "leading"
        if kind != before and before != "leading":
            yield token.idx
        before = kind
