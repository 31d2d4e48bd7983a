"""What an account costs, against writing the answer; and isolated attention, against plain.

    python benchmarks/account_speed.py MODEL --text FILE [--prompt 512] [--new 64] [--sources 24] [--repeats 5]

MODEL is a Hugging Face folder or hub name; the text has to be long enough. Each repeat times everything in turn, and a
ratio is of one repeat. The timings go to benchmarks/measured/accounts/speed.json, the tables to docs/isolation.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from transformers import AttentionInterface, PreTrainedTokenizerBase

from progloc import READER, SHARED, account, isolate
from progloc.accounts.sources import lay_out
from progloc.accounts.text import write_answer
from progloc.attention.isolation import Isolation
from progloc.attention.plugin import IMPLEMENTATION
from progloc.attention.request import AttentionRequest
from progloc.data import load_corpus
from progloc.errors import ProglocError
from progloc.files import read_json, write_json
from progloc.measures.passes import evaluating
from progloc.report.table import Column, Table
from progloc.resolve import resolve
from scripts import run_script, script_parser, write_tables

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "measured" / "accounts" / "speed.json"
PAGE = ROOT / "docs" / "isolation.md"
BY = "benchmarks/account_speed.py"
QUESTION = "In short, this means that"
WRITING = "writing the answer plainly"
ATTENTION = ((24, 20), (24, 80), (16, 256))
"""Sources, and tokens of each, of the timings of attention alone."""
READERS = 64


def pieces(tokenizer: PreTrainedTokenizerBase, path: str, sources: int, tokens: int) -> list[tuple[str, str]]:
    """Return sources that take so many tokens together, cut from the middle of a text."""
    text = load_corpus(path).text
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < tokens:
        raise ProglocError(f"{path} has {len(ids)} tokens; expected at least {tokens}")
    first, each = (len(ids) - tokens) // 2, tokens // sources
    cuts = [ids[first + place * each : first + (place + 1) * each - 2] for place in range(sources)]
    return [(f"part {place}", tokenizer.decode(cut)) for place, cut in enumerate(cuts, 1)]


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def time_accounts(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each repeat, by what was timed."""
    named = resolve(options.model)
    model, tokenizer = named.load(), named.load_tokenizer()
    sources = pieces(tokenizer, options.text, options.sources, options.prompt)
    text = lay_out(tokenizer, [part for _, part in sources], QUESTION)
    with evaluating(model):
        ids = write_answer(model, tokenizer, text.ids.tolist(), options.new, lambda: None)
    answer = tokenizer.decode(ids)

    def write() -> None:
        with evaluating(model):
            write_answer(model, tokenizer, text.ids.tolist(), options.new, lambda: None)

    def write_isolated() -> None:
        with evaluating(model), isolate(model, text.roles):
            write_answer(model, tokenizer, text.ids.tolist(), options.new, lambda: None)

    timed: dict[str, Callable[[], Any]] = {
        WRITING: write,
        "writing it with sources kept apart": write_isolated,
        "exact effects": lambda: account(model, sources, QUESTION, answer, tokenizer=tokenizer, shapley=0),
        "effects, fair shares from 64 subsets, interactions": lambda: account(
            model, sources, QUESTION, answer, tokenizer=tokenizer, shapley=64
        ),
    }
    results: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(options.repeats + 1):
        for name, call in timed.items():
            taken = seconds(call)
            if repeat:  # the first is for warming up
                results[name].append(taken)
    return results


def time_attention(sources: int, tokens: int, repeats: int) -> list[tuple[float, float]]:
    """Return the seconds of plain and of strictly isolated attention in one layer, 9 heads over 3 of keys, 64 wide."""
    roles = torch.tensor([[SHARED, *(i for i in range(sources) for _ in range(tokens)), *[READER] * READERS]])
    length = roles.shape[1]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, length, 64, generator=generator) for heads in (9, 3, 3))
    module = torch.nn.Module()
    module.layer_idx, module.num_key_value_groups, module.is_causal = 0, 3, True
    isolation = Isolation(roles, (0.0,))

    def attend(**settings: Any) -> None:
        with torch.inference_mode():
            AttentionInterface()[IMPLEMENTATION](
                module, query, key, value, None, attention_request=AttentionRequest(**settings)
            )

    attend()
    attend(isolation=isolation)
    return [(seconds(attend), seconds(lambda: attend(isolation=isolation))) for _ in range(10 * repeats)]


def spread(values: list[float], digits: int) -> str:
    """Return a median and the range."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def tables(data: dict[str, Any]) -> list[Table]:
    """Return the tables of docs/isolation.md."""
    writing = data["accounts"][WRITING]
    accounts = tuple(
        (name, spread(taken, 2), spread([one / plain for one, plain in zip(taken, writing, strict=True)], 2))
        for name, taken in data["accounts"].items()
    )
    attention = tuple(
        (row["layout"], *(spread([1000 * pair[i] for pair in row["seconds"]], 2) for i in (0, 1)),
         spread([isolated / plain for plain, isolated in row["seconds"]], 2))
        for row in data["attention"]
    )  # fmt: skip
    made = f"{data['threads']} CPU threads, torch {data['torch']}; median of {{}} repeats (and range)"
    return [
        Table(
            "Cost of an account",
            f"{data['model']}, {data['sources']} sources of {data['prompt']} tokens in all and {data['new']} tokens of "
            f"answer; {made.format(len(writing))}; ratios are within a repeat.",
            (Column("what"), Column("seconds"), Column("× writing")),
            accounts,
        ),
        Table(
            "Isolated attention",
            f"One layer alone, 9 heads over 3 of keys, 64 wide, {READERS} readers; "
            f"{made.format(len(data['attention'][0]['seconds']))}.",
            (Column("sources"), Column("plain, ms"), Column("isolated, ms"), Column("isolated ÷ plain")),
            attention,
        ),
    ]


def main() -> None:
    """Time everything, keep the timings, and write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("model", metavar="MODEL", nargs="?")
    parser.add_argument("--text")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--sources", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if (options.model is None) != (options.text is None):
        raise ProglocError("expected MODEL and --text FILE, or neither, to write the page from the timings kept")
    if options.model is not None:
        data = {
            "model": Path(options.model).name, "prompt": options.prompt, "new": options.new,
            "sources": options.sources, "threads": torch.get_num_threads(), "torch": torch.__version__,
            "accounts": time_accounts(options),
            "attention": [
                {"layout": f"{n} of {tokens} tokens", "seconds": time_attention(n, tokens, options.repeats)}
                for n, tokens in ATTENTION
            ],
        }  # fmt: skip
        write_json(DATA, data)
    write_tables(PAGE, BY, tables(read_json(DATA)), Console(stderr=True))


if __name__ == "__main__":
    run_script(main)
