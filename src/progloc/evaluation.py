"""Measuring any model on any text, and showing any partition: what `progloc evaluate` and `progloc blocks` do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from progloc.blocks import TextFromIds, encode, partitioner
from progloc.config import LocalityConfig, RunConfig
from progloc.data import Corpus, load_corpus
from progloc.dialling import dial as dialled
from progloc.errors import ProglocError
from progloc.files import JsonObject, read_standard_input
from progloc.generation import own_settings, write_on
from progloc.loading import load
from progloc.measures.measuring import measure
from progloc.measures.report import Report
from progloc.report.printing import console as new_console
from progloc.report.progress import progress_bar
from progloc.resolve import SCRATCH, load_tokenizer, open_sequences, resolve, special_tokens
from progloc.training.inputs import gather
from progloc.training.scratch import scratch_tokenizer


def evaluate_folder(
    model: str,
    corpus: str,
    *,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    sequence_length: int | None = None,
    batch_size: int = 8,
    console: Console | None = None,
) -> Report:
    """Measure a model on the whole of a corpus, read as consecutive sequences.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. Without `locality.json` it is not localised,
            and measured in `fixed:5`.
        corpus: see `progloc.data.load_corpus`.
        schedule: instead of the model's own.
        blocks: instead of the model's own.
        sequence_length: tokens a sequence; by default what the model was trained at, else 128.
        batch_size: sequences at a time.
        console: where a progress bar is shown.

    Raises:
        ProglocError: a model, corpus, schedule, partitioner or length that cannot be used.
    """
    named = resolve(model, schedule=schedule, blocks=blocks)
    loaded, dataset, before = open_sequences(named, corpus, sequence_length)
    with progress_bar(console) as bar:
        task = bar.add_task("measuring", total=len(dataset))
        report = measure(loaded, dataset, batch_size=batch_size, progress=lambda done: bar.update(task, completed=done))
    return dataclasses.replace(report, special_tokens=before)


def continue_text(
    model: str,
    prompt: str,
    *,
    dial: float | Sequence[float] = 0.0,
    tokens: int = 64,
    sample: bool | None = None,
    seed: int = 0,
) -> JsonObject:
    """Return a model's continuation of a text, and the settings that made it.

    {"prompt", "continuation", "tokens", "dial", "outside", "schedule", "blocks", "special_tokens", "settings"}, where
    the continuation is exactly what follows the prompt, with the space before its first word.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. Its `generation_config.json` holds.
        prompt: the text so far.
        dial: δ, or one δ per layer.
        tokens: the most new tokens.
        sample: draw tokens, or take the most likely ones; by default as the model's settings say (mostly the latter).
        seed: of the draws.

    Raises:
        ProglocError: no such model, no prompt, a δ out of range, blocks that change with what follows, more tokens than
            the model's context, or generation settings that cannot be used.
    """
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text to go on from, as in --prompt 'A class is'")
    if tokens < 1:
        raise ProglocError(f"--max-new-tokens {tokens}; expected a whole number ≥ 1")
    named = resolve(model)
    loaded, tokenizer = named.load(), named.load_tokenizer()
    ids = encode(tokenizer, prompt).input_ids.tolist()
    settings = {} if sample is None else {"do_sample": sample}
    with dialled(loaded, dial, tokenizer=tokenizer) as setting, torch.random.fork_rng():
        torch.manual_seed(seed)
        new = write_on(loaded, tokenizer, ids, tokens, **settings)
    return {
        "prompt": prompt,
        "continuation": TextFromIds(tokenizer).added(ids, new),
        "tokens": len(new),
        "dial": dial,
        "outside": list(setting.outside),
        "schedule": loaded.locality.schedule,
        "blocks": loaded.locality.config.blocks,
        "special_tokens": special_tokens(tokenizer),
        "settings": {**own_settings(loaded), **settings, "max_new_tokens": tokens},
    }


def partition_text(name: str, file: str, model: str) -> JsonObject:
    """Return how a partitioner divides a text: {"tokens", "block_ids", "spans", "partitioner", "causal", "text"}.

    Of a mixture, a token's block ids are a list, one for each of its parts from early layers to late ones.

    Args:
        name: the partitioner.
        file: a text file, or "-" for standard input.
        model: whose tokenizer to use, and whose embeddings for blocks made of them; `scratch:…` trains its own on
            `python-docs` (cached).

    Raises:
        ProglocError: an unknown partitioner, a file that cannot be read, no text, or no tokenizer.
    """
    division = partitioner(name)
    if file == "-":
        corpus = Corpus("standard input", read_standard_input())
        if not corpus.text.strip():
            raise ProglocError("standard input holds no text; give a file, or pipe some text in")
    elif not Path(file).is_file():
        raise ProglocError(f"no file at {file}; give a text file, or - for standard input")
    else:
        corpus = load_corpus(file)
    if model.startswith(SCRATCH):
        folder = model
        tokenizer = scratch_tokenizer(load_corpus("python-docs"), model.removeprefix(SCRATCH))
        if division.needs_embeddings:
            folder = gather(RunConfig(model=model, corpus="python-docs"), new_console(stderr=True)).model
    else:
        folder = resolve(model).folder
        tokenizer = load_tokenizer(folder)
    if division.needs_embeddings:
        division = load(folder, LocalityConfig(blocks=name)).locality.partitioner
    encoded = encode(tokenizer, corpus.text)
    return {
        "partitioner": division.name,
        "causal": division.causal,
        "text": encoded.text,
        "tokens": tokenizer.convert_ids_to_tokens(encoded.input_ids.tolist()),
        "block_ids": division(encoded).tolist(),
        "spans": encoded.offsets.tolist(),
    }
