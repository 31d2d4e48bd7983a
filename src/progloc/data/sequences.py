"""Tokenised sequences of equal length, their block ids, and the split into two sides (method.md §6, §8)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, load_from_disk
from transformers import PreTrainedTokenizerBase

from progloc.blocks import IntArray, Partitioner, TokenisedText, encode
from progloc.blocks.encoding import check_fast
from progloc.data.cache import cached_folder, key_of
from progloc.data.collate import Item
from progloc.data.corpora import Corpus
from progloc.errors import ProglocError
from progloc.files import cache_dir

FORMAT = 3
"""Part of the cache's key: raise it whenever `_sequences` would write something else."""
BLOCK_IDS_FILE = "block_ids.npy"
ROWS = 1000
"""Sequences that are hashed at a time."""


def tokenise(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, sequence_length: int) -> Dataset:
    """Return the corpus as consecutive sequences of exactly T = ``sequence_length`` tokens, from the cache if it can.

    The corpus begins with what the tokenizer puts before a text, such as <s> (see `progloc.blocks.encode`); a sequence
    from its middle does not, for no text begins there. The last partial sequence is dropped.

    Columns: ``input_ids``, T integers; ``text``, the slice of the corpus that the tokens cover; ``offsets``, T pairs
    (start, end) of characters in that slice. Tokens that are bytes of one character share its span; a character cut by
    a boundary is in both sequences' texts. The corpus is tokenised in one piece, in memory.

    Raises:
        ProglocError: T < 2, a tokenizer without offsets, offsets that go backwards, a corpus shorter than one sequence.
    """
    check_fast(tokenizer)
    if sequence_length < 2:
        raise ProglocError(f"the sequence length is {sequence_length}; expected a whole number ≥ 2")
    key = key_of(FORMAT, corpus.sha256, tokenizer_key(tokenizer), sequence_length)

    def build(folder: Path) -> None:
        _sequences(corpus, tokenizer, sequence_length).save_to_disk(str(folder))

    return load_from_disk(str(cached_folder(cache_dir() / "sequences" / key, build)))


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a fast tokenizer, without truncation and padding, which every call sets anew."""
    serialised = json.loads(tokenizer.backend_tokenizer.to_str())
    return key_of({name: value for name, value in serialised.items() if name not in ("truncation", "padding")})


def _sequences(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, length: int) -> Dataset:
    encoded = encode(tokenizer, corpus.text)
    ids, spans = encoded.input_ids.astype(np.int32), encoded.offsets  # (N,), (N, 2)
    count = len(ids) // length
    if count == 0:
        raise ProglocError(
            f"the corpus '{corpus.name}' has {len(ids)} tokens, too few for one sequence of {length}; "
            "give a longer corpus or a smaller sequence length"
        )
    backwards = np.flatnonzero((np.diff(spans, axis=0) < 0).any(axis=1))
    if len(backwards):
        at = int(backwards[0])
        raise ProglocError(
            f"the tokenizer {type(tokenizer).__name__} gives offsets that go backwards in the corpus '{corpus.name}', "
            f"from {spans[at].tolist()} to {spans[at + 1].tolist()}; expected tokens in the order of the text"
        )
    used = count * length
    offsets = spans[:used].reshape(count, length, 2)
    starts, ends = offsets[:, 0, 0], offsets[:, -1, 1]  # (count,): spans are in order, so these are the extremes
    return Dataset.from_dict(
        {
            "input_ids": ids[:used].reshape(count, length),
            "text": [encoded.text[start:end] for start, end in zip(starts, ends, strict=True)],
            "offsets": (offsets - starts[:, None, None]).astype(np.int32),
        }
    )


def with_block_ids(dataset: Dataset, partitioner: Partitioner) -> Dataset:
    """Return the columns ``input_ids`` and ``block_ids`` (T integers ≥ 0 a sequence) of a dataset made by `tokenise`.

    With several granularities, ``block_ids`` are T lists of G.

    Block ids come from the cache if they can, for partitioners that have a version: the entry is that of the sequences'
    content, the partitioner's name and version, and its table of embeddings.

    Raises:
        ProglocError: the partitioner gave something else than T integers ≥ 0.
    """

    def compute() -> IntArray:
        return np.stack([_block_ids(row, partitioner) for row in dataset])  # (N, T), or (N, T, G)

    if partitioner.version is None or not partitioner.name:
        block_ids = compute()
    else:
        table = partitioner.table
        table_key = None if table is None else f"{table.shape} {hashlib.sha256(table.tobytes()).hexdigest()}"
        key = key_of(_content_key(dataset), partitioner.name, partitioner.version, table_key)
        folder = cached_folder(cache_dir() / "blocks" / key, lambda part: np.save(part / BLOCK_IDS_FILE, compute()))
        block_ids = np.load(folder / BLOCK_IDS_FILE)
    return dataset.select_columns("input_ids").add_column(
        "block_ids", block_ids.tolist() if block_ids.ndim == 3 else list(block_ids)
    )


def _content_key(dataset: Dataset) -> str:
    """Return a hash of what a partitioner is shown of the sequences."""
    digest = hashlib.sha256()
    for rows in dataset.select_columns(["input_ids", "offsets", "text"]).with_format("arrow").iter(ROWS):
        ids, offsets = rows["input_ids"].combine_chunks(), rows["offsets"].combine_chunks()
        for values in (ids.flatten(), offsets.flatten().flatten()):
            digest.update(values.to_numpy().astype("<i8").tobytes())
        digest.update(json.dumps(rows["text"].to_pylist()).encode())
    return digest.hexdigest()


def _block_ids(row: Item, partitioner: Partitioner) -> IntArray:
    ids, offsets = np.asarray(row["input_ids"], dtype=np.int64), np.asarray(row["offsets"], dtype=np.int64)
    blocks = np.asarray(partitioner(TokenisedText(row["text"], ids, offsets)))
    shape = ids.shape if partitioner.granularities == 1 else (*ids.shape, partitioner.granularities)
    if blocks.shape != shape or not np.issubdtype(blocks.dtype, np.integer) or blocks.min() < 0:
        least = f", the least {blocks.min()}" if blocks.size else ""
        raise ProglocError(
            f"the partitioner '{partitioner.name or type(partitioner).__name__}' gave {blocks.dtype} of shape "
            f"{blocks.shape}{least}, for {len(ids)} tokens; expected one integer ≥ 0 a token"
        )
    return blocks.astype(np.int64)


@dataclass(frozen=True)
class Split:
    """Sequences to train on and to validate on, disjoint, each in the order of the corpus."""

    train: Dataset
    validation: Dataset
    sha256: str
    """Hash of every sequence's tokens and side: runs of equal hash were measured on the same tokens."""


def split(dataset: Dataset, validation_fraction: float, seed: int, max_sequences: int | None = None) -> Split:
    """Split by sequence: ``validation_fraction`` of them (rounded, at least one on either side) drawn by ``seed``.

    With ``max_sequences``, only that many are drawn and the rest is not used. The hash does not depend on block ids, so
    that it is the same for every partitioner.

    Raises:
        ProglocError: a fraction outside (0, 1), or fewer than two sequences.
    """
    if not 0 < validation_fraction < 1:
        raise ProglocError(f"the validation fraction is {validation_fraction}; expected a share between 0 and 1")
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:max_sequences]
    if len(drawn) < 2:
        raise ProglocError(
            f"{len(drawn)} sequence(s) to split; expected 2 or more, one to train on and one to validate on: "
            "give a longer corpus or a smaller sequence length"
        )
    count = min(max(round(validation_fraction * len(drawn)), 1), len(drawn) - 1)
    validation, train = np.sort(drawn[:count]), np.sort(drawn[count:])
    tokens = np.asarray(dataset.select_columns("input_ids").with_format("numpy")[:]["input_ids"])  # (N, T)
    digest = hashlib.sha256()
    for part in (np.array([*tokens.shape, count]), train, validation, tokens):
        digest.update(part.astype("<i8").tobytes())
    return Split(dataset.select(train), dataset.select(validation), digest.hexdigest())
