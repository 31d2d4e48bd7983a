"""Time partitioners: tokens a second on one long text, and what a training sequence costs, tokenising excluded.

    python benchmarks/partition_speed.py [NAME …] [--tokens N] [--repeats N]
    python benchmarks/partition_speed.py --lines [NAME …]   # single lines of 4,000 to 1,000,000 characters

NAMEs are partitioners (sentences, fixed:5, …). The text is `python-docs`, repeated, in tokens of the byte-level BPE
tokenizer that `scratch:tiny` trains on it. Every repeat partitions the whole text, then 128-token sequences of it one
by one, as training does. The median is printed with the slowest and the fastest repeat.

`--lines` gives every partitioner texts of one line that repeats something rules look for, in tokens of four characters,
and prints, for each length, the processor's nanoseconds a character on the line that takes longest: numbers that stay
the same are linear time. All are kept in benchmarks/measured/blocks/partition_lines.json, and the table is written in
docs/blocks.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from progloc.blocks import Partitioner, TokenisedText, encode, partitioner
from progloc.data import load_corpus
from progloc.files import write_text
from progloc.training.scratch import scratch_tokenizer
from score_boundaries import PAGE, replaced
from scripts import run_script, script_parser

NAMES = ("fixed:5", "sentences", "paragraphs", "phrases", "phrases:punctuation", "entities", "arguments")
EVERY = (
    *NAMES, "similarity", "similarity-clusters", "recruited", "mixture:paragraphs+sentences+phrases",
)  # fmt: skip
LINES = {
    "numbers": "0,239,17.5,", "initials": "A.", "titles": "Mr. ", "stops": ". A", "capitals": "A'", "words": "New ",
    "letters": "a", "digits": "1", "spaces": " ", "commas": ", ", "colons": ": ", "brackets": "(", "closing": ".)",
    "guillemets": "« a ", "dashes": "- ", "mail": ">", "code": "`", "addresses": "a@a-", "links": "http://,",
    "clauses": "if ", "dates": "3 May ", "ordinals": "am 3. M", "notes": ".[1", "emoji": ". 🎉", "prices": "$5 ",
}  # fmt: skip
"""What lines repeat."""
LENGTHS = (4_000, 16_000, 64_000, 256_000, 1_000_000)
MEASURED = Path(__file__).parent / "measured" / "blocks" / "partition_lines.json"
BY = "written by benchmarks/partition_speed.py"
VOCABULARY = 512
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


def one_line(unit: str, length: int) -> TokenisedText:
    """Return a text that repeats something, in tokens of four characters."""
    starts = np.arange(0, length, 4)
    spans = np.stack([starts, np.minimum(starts + 4, length)], axis=-1)
    return TokenisedText((unit * (length // len(unit) + 1))[:length], np.arange(len(starts)) % VOCABULARY, spans)


def line_times(name: str, lengths: Sequence[int]) -> dict[str, list[float]]:
    """Return the processor's seconds on each line of `LINES`, by length."""
    chosen = partitioner(name)
    if chosen.needs_embeddings:
        chosen = chosen.prepared(np.random.default_rng(0).normal(size=(VOCABULARY, 64)).astype(np.float32))
    times: dict[str, list[float]] = {}
    for line, unit in LINES.items():
        chosen(one_line(unit, 100))
        times[line] = []
        for length in lengths:
            text = one_line(unit, length)
            start = time.process_time()
            chosen(text)
            times[line].append(time.process_time() - start)
        if chosen.needs_embeddings:  # no line is like another to those that do not read it
            break
    return times


def line_table(stored: dict[str, Any]) -> str:
    """Return numbers for the shortest and longest lines as Markdown: nanoseconds a character on the slowest line."""
    ends = (0, len(stored["lengths"]) - 1)
    lengths = [stored["lengths"][n] for n in ends]
    rows = [f"| blocks | {' | '.join(f'{length:,}' for length in lengths)} |", f"|---|{'---:|' * len(lengths)}"]
    for name, times in stored["seconds"].items():
        longest = [max((row[n], line) for line, row in times.items()) for n in ends]
        cells = [
            f"{elapsed / size * 1e9:,.0f} ({line})" for (elapsed, line), size in zip(longest, lengths, strict=True)
        ]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def measure_lines(names: Sequence[str]) -> None:
    """Time single lines, keep the numbers and write the table."""
    timings: dict[str, dict[str, list[float]]] = {}
    for name in names:
        timings[name] = line_times(name, LENGTHS)
        print(line_table({"lengths": LENGTHS, "seconds": {name: timings[name]}}).splitlines()[-1], flush=True)
    stored = {"lengths": LENGTHS, "seconds": timings}
    write_text(MEASURED, json.dumps(stored) + "\n")
    write_text(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "lines", BY, line_table(stored)))


def main() -> None:
    """Time the partitioners named, or those that need no model."""
    parser = script_parser(__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--lines", action="store_true", help="time single long lines instead")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if options.lines:
        measure_lines(options.names or EVERY)
        return
    text = long_text(options.tokens)
    sequences = sequences_of(text)
    print(
        f"{len(text):,} tokens, {len(text.text):,} characters; median of {options.repeats} repeats (slowest–fastest)\n"
    )
    print(f"| blocks | million tokens/s | µs a sequence of {LENGTH} |\n|---|---:|---:|")
    for name in options.names or NAMES:
        print(timed(partitioner(name), text, sequences, options.repeats), flush=True)


if __name__ == "__main__":
    run_script(main)
