"""Time partitioners: tokens a second on one long text, and what a training sequence costs, tokenising excluded.

    python benchmarks/partition_speed.py [NAME …] [--tokens N] [--repeats N]

NAMEs are partitioners (sentences, fixed:5, …). The text is `python-docs`, repeated, in tokens of the byte-level BPE
tokenizer that `scratch:tiny` trains on it. Every repeat partitions the whole text, then 128-token sequences of it one
by one, as training does. The median is printed with the slowest and the fastest repeat.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from progloc.blocks import Partitioner, TokenisedText, encode, partitioner
from progloc.data import load_corpus
from progloc.errors import ProglocError
from progloc.training.scratch import scratch_tokenizer

NAMES = ("fixed:5", "sentences", "paragraphs", "phrases", "phrases:punctuation", "entities", "arguments")
LENGTH = 128
SEQUENCES = 256


def long_text(tokens: int) -> TokenisedText:
    """Return the corpus, repeated and cut to so many tokens."""
    corpus = load_corpus("python-docs")
    whole = encode(scratch_tokenizer(corpus), corpus.text)
    ids, offsets = whole.input_ids, whole.offsets  # (N,), (N, 2)
    times = -(-tokens // len(ids))
    shifts = np.arange(times)[:, None, None] * len(corpus.text)
    return TokenisedText(
        corpus.text * times, np.tile(ids, times)[:tokens], (offsets[None] + shifts).reshape(-1, 2)[:tokens]
    )


def sequences_of(text: TokenisedText) -> list[TokenisedText]:
    """Return the first training sequences of a text, each with a text of its own."""
    pieces = []
    for first in range(0, min(len(text), SEQUENCES * LENGTH) - LENGTH + 1, LENGTH):
        offsets = text.offsets[first : first + LENGTH]
        start, end = offsets[0, 0], offsets[-1, 1]
        pieces.append(TokenisedText(text.text[start:end], text.input_ids[first : first + LENGTH], offsets - start))
    return pieces


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(chosen: Partitioner, text: TokenisedText, sequences: Sequence[TokenisedText], repeats: int) -> str:
    """Return a row: tokens a second on the whole text, and microseconds a sequence, each with its spread."""
    chosen(text)  # what is made once, such as compiled expressions, is left out
    long, short = [], []
    for _ in range(repeats):
        long.append(len(text) / seconds(lambda: chosen(text)) / 1e6)
        short.append(seconds(lambda: [chosen(sequence) for sequence in sequences]) / len(sequences) * 1e6)
    return (
        f"| `{chosen.name}` | {np.median(long):.2f} ({min(long):.2f}–{max(long):.2f}) "
        f"| {np.median(short):.0f} ({min(short):.0f}–{max(short):.0f}) |"
    )


def main() -> None:
    """Time the partitioners named, or those that need no model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", default=NAMES)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    text = long_text(given.tokens)
    sequences = sequences_of(text)
    print(f"{len(text):,} tokens, {len(text.text):,} characters; median of {given.repeats} repeats (slowest–fastest)\n")
    print(f"| blocks | million tokens/s | µs a sequence of {LENGTH} |\n|---|---:|---:|")
    for name in given.names:
        print(timed(partitioner(name), text, sequences, given.repeats), flush=True)


if __name__ == "__main__":
    try:
        main()
    except ProglocError as error:
        raise SystemExit(str(error)) from None
