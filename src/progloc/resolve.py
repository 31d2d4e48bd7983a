"""The one door for MODEL: from a run, a folder or a hub name to a model, its locality and its tokenizer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from progloc.adapters import base_of_adapter, file_of
from progloc.blocks import prefix_ids
from progloc.config import LocalityConfig
from progloc.data import load_corpus, tokenise, with_block_ids
from progloc.errors import ProglocError
from progloc.files import JsonObject
from progloc.generation import context_length
from progloc.hub import check_hub, pretrained
from progloc.loading import load_stored, read_locality, stored_config
from progloc.model import LocalModel
from progloc.run_folder import MODEL_FOLDER

SCRATCH = "scratch:"
"""What the name of a model begins with that is made while training."""
MODELS = f"a Hugging Face folder or hub name, or {SCRATCH}tiny"
DEFAULT_LENGTH = 128
"""Tokens a sequence for a model that does not say what it was trained at."""


@dataclass(frozen=True)
class NamedModel:
    """A model as a user names it, before its weights are read."""

    name: str
    """As it was asked for."""
    folder: str
    """Where its weights are: a folder or a hub name."""
    config: LocalityConfig
    """The locality it is to be read with."""
    stored: JsonObject
    """What its `locality.json` holds; nothing where it is not localised."""

    @property
    def base(self) -> str | None:
        """The model that it was made from, where that is recorded."""
        return self.stored.get("base_model")

    def load(self) -> LocalModel:
        """Return the model with its locality attached; for errors see `progloc.load`."""
        return load_stored(self.folder, self.stored, self.config)

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return its tokenizer; ProglocError where there is none."""
        return load_tokenizer(self.folder)


def resolve(model: str, *, schedule: str | tuple[float, ...] | None = None, blocks: str | None = None) -> NamedModel:
    """Return what a name stands for, without reading its weights.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. Without `locality.json` it is not localised,
            and measured in `fixed:5`.
        schedule: instead of the model's own.
        blocks: instead of the model's own.

    Raises:
        ProglocError: a model that is not made yet or that cannot be had, or a setting that is not known.
    """
    inner = Path(model) / MODEL_FOLDER
    folder = str(inner) if (inner / "config.json").exists() else model
    if folder.startswith(SCRATCH):
        raise ProglocError(f"'{model}' is made while training, not before; run progloc train --model {model} first")
    check_hub(folder, "model", MODELS)
    stored = read_locality(folder)
    config = stored_config(stored)
    if schedule is not None:
        config = dataclasses.replace(config, schedule=schedule)
    if blocks is not None:
        config = dataclasses.replace(config, blocks=blocks)
    return NamedModel(model, folder, config, stored)


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub name; of an adapter, its base model's where it has none of its own.

    Raises:
        ProglocError: there is none.
    """
    own = file_of(folder, "tokenizer_config.json")
    return pretrained(AutoTokenizer, folder if own is None else str(own.parent), f"expected {MODELS}")


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what a tokenizer puts before a text, such as ["<s>"]."""
    return list(tokenizer.convert_ids_to_tokens(list(prefix_ids(tokenizer))))


def check_length(folder: str, sequence_length: int) -> int:
    """Return a model's number of layers; ProglocError if there is no such model, or its context is too short."""
    check_hub(folder, "model", MODELS)
    source = base_of_adapter(folder) or folder
    config = pretrained(AutoConfig, source, f"expected {MODELS}").get_text_config(decoder=True)
    context = context_length(config)
    if context is not None and sequence_length > context:
        raise ProglocError(
            f"sequences of {sequence_length} tokens; {folder} has a context of {context}; "
            f"expected --sequence-length {context} or less"
        )
    return int(config.num_hidden_layers)


def open_sequences(
    named: NamedModel, corpus: str, sequence_length: int | None = None
) -> tuple[LocalModel, Dataset, tuple[str, ...]]:
    """Return a model ready to be measured, the whole of a corpus as consecutive sequences, and what stands before it.

    Args:
        named: from `resolve`.
        corpus: see `progloc.data.load_corpus`.
        sequence_length: tokens a sequence; by default what the model was trained at, else 128.

    Raises:
        ProglocError: a model, corpus or length that cannot be used.
    """
    length = sequence_length if sequence_length is not None else named.stored.get("sequence_length") or DEFAULT_LENGTH
    text = load_corpus(corpus)
    check_length(named.folder, length)
    tokenizer = named.load_tokenizer()
    sequences = tokenise(text, tokenizer, length)
    model = named.load()
    return model, with_block_ids(sequences, model.locality.partitioner), tuple(special_tokens(tokenizer))
