"""The passages of a study: stretches of a text that no model was trained on, a prompt of whole blocks and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from progloc.blocks import Partitioner, TokenisedText, partitioner
from progloc.config import RunConfig, from_mapping
from progloc.data import Corpus, load_corpus, split, tokenise
from progloc.errors import ProglocError
from progloc.resolve import SCRATCH
from progloc.results import RunResult

CHUNK = 100
"""So many characters in a row that were trained on make a text one that was."""


@dataclass(frozen=True)
class Passage:
    """A prompt and what follows it in the text."""

    prompt: str
    continuation: str


def held_out(run: RunResult, corpus: Corpus, tokenizer: Any) -> list[str]:
    """Return the stretches of a text that a suite's runs were not trained on, each as long as a training sequence.

    Of the text that they were trained on these are sequences of the validation side. Any stretch, of this text or
    another, is left out that has 100 characters in a row in common with what was trained on.

    Args:
        run: any of the suite: all have the same text and split.
        corpus: the text.
        tokenizer: the models'.

    Raises:
        ProglocError: the text that was trained on cannot be read, or is another one by now.
    """
    config = from_mapping(RunConfig, run.config)
    learnt_from = load_corpus(config.corpus)
    if learnt_from.sha256 != run.data["corpus_sha256"]:
        raise ProglocError(
            f"{config.corpus} is not the text that these models were trained on; expected it as it was, to tell what "
            "they have not seen"
        )
    sequences = tokenise(learnt_from, tokenizer, config.sequence_length)
    # what scratch:… is pretrained on is the training side of the whole text
    sizes = {config.max_sequences, None} if config.model.startswith(SCRATCH) else {config.max_sequences}
    seen = "\n".join(
        text
        for size in sizes
        for text in split(sequences, config.validation_fraction, config.split_seed, size).train["text"]
    )
    chunks = {seen[start : start + CHUNK] for start in range(len(seen) - CHUNK + 1)}
    return [
        text
        for text in tokenise(corpus, tokenizer, config.sequence_length)["text"]
        if chunks.isdisjoint(text[start : start + CHUNK] for start in range(len(text) - CHUNK + 1))
    ]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """Return so many of the texts, evenly spread; all where there are no more."""
    return [texts[place] for place in np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)]


def cut(text: str, tokenizer: Any, blocks: Partitioner, most: int | None, answer_tokens: int) -> Passage | None:
    """Return a text from its first whole sentence on as a passage: a prompt that ends with a block, then the answer.

    Args:
        text: a stretch of a text, which may begin within a sentence.
        tokenizer: a fast one.
        blocks: the partitioner by whose blocks the prompt ends: it is as long as it can be.
        most: tokens of the prompt; None: what the answer leaves.
        answer_tokens: the answer's.

    Returns:
        None where no block ends in time.
    """
    whole = _tokenised(text, tokenizer)
    begins = np.flatnonzero(np.diff(partitioner("sentences")(whole)))
    text = text[int(whole.offsets[begins[0] + 1, 0]) if len(begins) else 0 :]
    whole = _tokenised(text, tokenizer)
    room = len(whole) - answer_tokens
    most = room if most is None else min(room, most)
    ids = blocks(whole)  # (T,), or (T, G): a block of every granularity has to end
    ends = np.flatnonzero((np.diff(ids, axis=0) != 0).reshape(len(ids) - 1, -1).all(1)) + 1
    ends = ends[(ends >= 2) & (ends <= most)]
    if not len(ends):
        return None
    border, end = whole.offsets[ends[-1], 0], whole.offsets[ends[-1] + answer_tokens - 1, 1]
    return Passage(text[:border], text[border:end])


def _tokenised(text: str, tokenizer: Any) -> TokenisedText:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = np.asarray(encoded["input_ids"]), np.asarray(encoded["offset_mapping"]).reshape(-1, 2)
    return TokenisedText(text, ids, offsets)
