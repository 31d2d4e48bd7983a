"""From a RunConfig to what training needs: the model's name, its tokenizer, and the two halves of the text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from datasets import Dataset
from rich.console import Console
from torch import nn
from transformers import PreTrainedTokenizerBase

from progloc.blocks import partitioner
from progloc.config import SAMPLED, RunConfig
from progloc.data import Corpus, load_corpus, split, tokenise, with_block_ids
from progloc.errors import ProglocError
from progloc.files import JsonObject
from progloc.isolating import odds_forbidden
from progloc.loading import load
from progloc.model import LocalModel
from progloc.report.formats import counted
from progloc.report.progress import print_note
from progloc.resolve import SCRATCH, check_length, load_tokenizer, special_tokens
from progloc.training.scratch import scratch_model, scratch_size, scratch_tokenizer


@dataclass(frozen=True)
class Inputs:
    """A model to start from and the data to train and judge it on; equal for every run that is compared."""

    name: str
    """The model as it was asked for."""
    model: str
    """What to load: a folder or a hub name."""
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    train: Dataset
    validation: Dataset
    blocks: str
    """The partitioner whose blocks the sequences have."""
    split_sha256: str
    """Equal hashes: judged on the same tokens."""
    second: Corpus | None = None
    elsewhere: Dataset | None = None
    """Of the second text: at most as many sequences as validation has, drawn by the split's seed."""

    def check_blocks(self, config: RunConfig) -> None:
        """Raise ProglocError unless the sequences have the blocks of this run."""
        if self.blocks != config.locality.blocks:
            raise ProglocError(
                f"inputs with the blocks '{self.blocks}' for a run with '{config.locality.blocks}'; expected those "
                "that gather(config) returns"
            )

    def summary(self) -> JsonObject:
        """Return the entry `data` of a result."""
        summary = {
            "corpus": self.corpus.name,
            "corpus_sha256": self.corpus.sha256,
            "split_sha256": self.split_sha256,
            "special_tokens": special_tokens(self.tokenizer),
            "train_sequences": len(self.train),
            "validation_sequences": len(self.validation),
        }
        if self.second is not None and self.elsewhere is not None:
            summary |= {
                "second_corpus": self.second.name,
                "second_corpus_sha256": self.second.sha256,
                "second_sequences": len(self.elsewhere),
            }
        return summary


def gather(config: RunConfig, console: Console | None = None) -> Inputs:
    """Load and tokenise the text, split it, mark its blocks and, for `scratch:…`, pretrain the model (all cached).

    Args:
        config: the run. Its schedule and isolation are checked against the model, and its blocks are made.
        console: where notes and pretraining's progress bar are shown.

    Raises:
        ProglocError: a model, corpus, schedule, partitioner or length that cannot be used.
    """
    note = partial(print_note, console)
    corpus = load_corpus(config.corpus)
    scratch, size = config.model.startswith(SCRATCH), config.model.removeprefix(SCRATCH)
    layers = scratch_size(size).layers if scratch else check_length(config.model, config.sequence_length)
    config.locality.parsed_schedule(layers)  # a list has to fit the model
    if config.training.isolation not in (None, SAMPLED):
        odds_forbidden(config.training.isolation, layers)
    tokenizer = scratch_tokenizer(corpus, size) if scratch else load_tokenizer(config.model)
    note(f"corpus {corpus.name}: {len(corpus.text):,} characters")
    sequences = tokenise(corpus, tokenizer, config.sequence_length)
    parts = split(sequences, config.validation_fraction, config.split_seed, config.max_sequences)
    note(
        f"{len(parts.train):,} training and {len(parts.validation):,} validation sequences of {config.sequence_length}"
    )
    model = config.model
    if scratch:
        # on the whole training side: the permutation is one, so what `parts` validates on is never in it
        unlimited = split(sequences, config.validation_fraction, config.split_seed)
        note(f"{config.model}: a GPT-2 pretrained on the training side, once; the next run finds it in the cache")
        model = str(
            scratch_model(corpus, tokenizer, unlimited.train, split_sha256=unlimited.sha256, size=size, console=console)
        )
    blocks = partitioner(config.locality.blocks)
    if blocks.needs_embeddings:  # those that every run starts from, so that blocks stay as they are while it trains
        blocks = load(model, config.locality).locality.partitioner
    second = None if config.second_corpus is None else load_corpus(config.second_corpus)
    elsewhere = None
    if second is not None:
        others = tokenise(second, tokenizer, config.sequence_length)
        drawn = np.random.default_rng(config.split_seed).permutation(len(others))[: len(parts.validation)]
        elsewhere = with_block_ids(others.select(np.sort(drawn)), blocks)
        note(f"second text {second.name}: {counted(len(elsewhere), 'sequence')}, to measure on only")
    return Inputs(
        name=config.model,
        model=model,
        tokenizer=tokenizer,
        corpus=corpus,
        train=with_block_ids(parts.train, blocks),
        validation=with_block_ids(parts.validation, blocks),
        blocks=config.locality.blocks,
        split_sha256=parts.sha256,
        second=second,
        elsewhere=elsewhere,
    )


def open_model(inputs: Inputs, config: RunConfig) -> LocalModel:
    """Load the model afresh, localised, with every dropout off: log masses are taken before dropout (method.md §6).

    Raises:
        ProglocError: it cannot be loaded, or ``inputs`` are not this run's.
    """
    inputs.check_blocks(config)
    model = load(inputs.model, config.locality)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # llama's, a number and not a module
            module.attention_dropout = 0.0
    model.locality.base_model = inputs.name
    model.locality.sequence_length = config.sequence_length
    return model
