"""What sources cost that are kept, against reading them: the time to the first token; and what moving them changes.

    python benchmarks/reuse_speed.py MODEL --text FILE [--sources 16] [--tokens 256] [--repeats 5] [--passages 8]

MODEL is a Hugging Face folder or hub name; the text has to be long enough. Each repeat times everything in turn, and a
ratio is of one repeat. What is measured goes to benchmarks/measured/accounts/reuse.json, tables to docs/isolation.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from account_speed import PAGE, QUESTION, pieces, seconds, spread
from progloc import SourceCache, isolate
from progloc.accounts.sources import SourcedText, lay_out
from progloc.data import load_corpus
from progloc.errors import ProglocError
from progloc.files import read_json, write_json
from progloc.measures.passes import evaluating
from progloc.report.table import Column, Table
from progloc.resolve import resolve
from scripts import run_script, script_parser, write_tables

DATA = Path(__file__).parents[1] / "benchmarks" / "measured" / "accounts" / "reuse.json"
BY = "benchmarks/reuse_speed.py"
PLAIN, ISOLATED, MOVED = "reading everything plainly", "reading it with sources kept apart", "sources moved, in memory"
SHORT = 64
"""Tokens of a source, and of the text that follows, where it is measured what moving changes."""


def logits(model: PreTrainedModel, text: SourcedText, past: Cache | None, wanted: int = 1) -> Tensor:
    """Return the logits of the last tokens (n, V) of a text that is read, or read from its question on."""
    start = 0 if past is None else text.reader_start
    past = past or DynamicCache()
    return model(text.ids[None, start:], past_key_values=past, use_cache=True, logits_to_keep=wanted).logits[0]


def time_reuse(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the seconds to the first token, of each repeat, by where the sources come from."""
    parts = [part for _, part in pieces(tokenizer, options.text, options.sources, options.sources * options.tokens)]
    text = lay_out(tokenizer, parts, QUESTION)
    turned = lay_out(tokenizer, parts[::-1], QUESTION)

    def read_isolated() -> None:
        with isolate(model, text.roles):
            logits(model, text, None)

    with tempfile.TemporaryDirectory() as folder, evaluating(model):
        kept, moved = (SourceCache(model, tokenizer=tokenizer, move=move, memory_bytes=2**34) for move in (False, True))
        on_disk = SourceCache(model, tokenizer=tokenizer, folder=folder, memory_bytes=0)
        timed: dict[str, Callable[[], Any]] = {
            PLAIN: lambda: logits(model, text, None),
            ISOLATED: read_isolated,
            "sources in memory": lambda: logits(model, text, kept.past(text)),
            MOVED: lambda: logits(model, turned, moved.past(turned)),
            "sources on disk": lambda: logits(model, text, on_disk.past(text)),
        }
        moved.past(text)
        results: dict[str, list[float]] = {name: [] for name in timed}
        for repeat in range(options.repeats + 1):
            for name, call in timed.items():
                taken = seconds(call)
                if repeat:  # the first is for warming up, and keeps what was read
                    results[name].append(taken)
    return results


def compare_moved(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: argparse.Namespace
) -> list[dict[str, list[float]]]:
    """Return −log p of the tokens that follow so many sources, in nats, of each passage by how these are read."""
    ids = tokenizer(load_corpus(options.text).text, add_special_tokens=False, verbose=False)["input_ids"]
    length = (options.sources + 1) * SHORT
    if len(ids) < length * options.passages:
        raise ProglocError(f"{options.text} has {len(ids)} tokens; expected at least {length * options.passages}")
    results = []
    for passage in range(options.passages):
        first = passage * (len(ids) // options.passages)
        cuts = [tokenizer.decode(ids[first + place * SHORT :][: SHORT - 2]) for place in range(options.sources + 1)]
        text = lay_out(tokenizer, cuts[:-1], cuts[-1])
        read = text.ids[text.reader_start :]
        with evaluating(model):
            by = {PLAIN: logits(model, text, None, len(read))}
            with isolate(model, text.roles):
                by[ISOLATED] = logits(model, text, None, len(read))
            cache = SourceCache(model, tokenizer=tokenizer, move=True)
            by[MOVED] = logits(model, text, cache.past(text), len(read))
        losses = {name: -x[:-1].log_softmax(-1).gather(-1, read[1:, None])[:, 0] for name, x in by.items()}
        results.append({name: [round(nats, 4) for nats in x.tolist()] for name, x in losses.items()})
    return results


def tables(data: dict[str, Any]) -> list[Table]:
    """Return the tables of docs/isolation.md."""
    plain = data["seconds"][PLAIN]
    rows = tuple(
        (name, spread(taken, 3), spread([one / whole for one, whole in zip(taken, plain, strict=True)], 3))
        for name, taken in data["seconds"].items()
    )

    def apart(passage: dict[str, list[float]], name: str) -> float:
        return mean(abs(one - other) for one, other in zip(passage[name], passage[ISOLATED], strict=True))

    passages = data["passages"]
    changes = tuple(
        (name, spread([mean(passage[name]) for passage in passages], 3),
         spread([apart(passage, name) for passage in passages], 3))
        for name in passages[0]
    )  # fmt: skip
    return [
        Table(
            "Time to the first token",
            f"{data['model']}, {data['sources']} sources of {data['tokens']} tokens; {data['threads']} CPU threads, "
            f"torch {data['torch']}; median of {len(plain)} repeats (and range); ratios are within a repeat. Files on "
            "disk were in the system's cache.",
            (Column("what"), Column("seconds"), Column("× plain")),
            rows,
        ),
        Table(
            "What moving changes",
            f"{data['model']}, {data['sources']} sources of {data['short']} tokens behind a shared one, and the tokens "
            f"that follow; median of {len(passages)} passages (and range).",
            (Column("what"), Column("nats a token"), Column("nats a token from isolated, either way")),
            changes,
        ),
    ]


def main() -> None:
    """Measure everything, keep it, and write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("model", metavar="MODEL", nargs="?")
    parser.add_argument("--text")
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--passages", type=int, default=8)
    options = parser.parse_args()
    if (options.model is None) != (options.text is None):
        raise ProglocError("expected MODEL and --text FILE, or neither, to write the page from what is kept")
    if options.model is not None:
        named = resolve(options.model)
        model, tokenizer = named.load(), named.load_tokenizer()
        data = {
            "model": Path(options.model).name, "sources": options.sources, "tokens": options.tokens, "short": SHORT,
            "threads": torch.get_num_threads(), "torch": torch.__version__,
            "seconds": time_reuse(model, tokenizer, options), "passages": compare_moved(model, tokenizer, options),
        }  # fmt: skip
        write_json(DATA, data)
    write_tables(PAGE, BY, tables(read_json(DATA)), Console(stderr=True))


if __name__ == "__main__":
    run_script(main)
