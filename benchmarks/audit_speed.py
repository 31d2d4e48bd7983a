"""What an audit costs: seconds, memory and the size of its page, at several lengths of prompt.

    python benchmarks/audit_speed.py MODEL --text FILE [--prompts 512,2048] [--new 64] [--blocks B] [--repeats 3]

MODEL is a Hugging Face folder or hub name, read as quintic; the text has to be long enough. Every audit is a process of
its own, loading the model included in its memory and not in its seconds. The table goes to docs/audit.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from progloc.accounts.audit_page import page
from progloc.accounts.auditing import audit
from progloc.accounts.schema import Cost
from progloc.blocks import encode
from progloc.data import load_corpus
from progloc.errors import ProglocError
from progloc.report.table import Column, Table
from progloc.resolve import resolve
from scripts import run_script, script_parser, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "audit.md"
BY = "benchmarks/audit_speed.py"


def once(options: argparse.Namespace, prompt_tokens: int) -> dict[str, Any]:
    """Audit one prompt, and return what it took."""
    named = resolve(options.model, schedule="quintic", blocks=options.blocks)
    model, tokenizer = named.load(), named.load_tokenizer()
    text = load_corpus(options.text).text
    offsets = encode(tokenizer, text).offsets.tolist()
    if len(offsets) < prompt_tokens:
        raise ProglocError(f"{options.text} has {len(offsets)} tokens; expected at least {prompt_tokens}")
    first = (len(offsets) - prompt_tokens) // 2
    prompt = text[offsets[first][0] : offsets[first + prompt_tokens - 1][1]]
    costs: list[Cost] = []
    started = time.perf_counter()
    result = audit(model, prompt, tokenizer=tokenizer, max_new_tokens=options.new, announce=costs.append)
    written = page(result)
    elapsed = time.perf_counter() - started
    return {
        "prompt": result.answer_start,
        "answer": len(result.tokens) - result.answer_start,
        "blocks": max(result.block_ids),
        "tested": len(result.examined.tested),
        "passes": costs[0].passes,
        "seconds": elapsed,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "page_mib": len(written.encode()) / 2**20,
    }


def measured(options: argparse.Namespace, prompt_tokens: int) -> tuple[str, ...]:
    """Return one row: the median over repeats, each in a process of its own."""
    command = [sys.executable, *sys.argv, "--one", str(prompt_tokens)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for _ in range(options.repeats)
    ]
    seconds = [run["seconds"] for run in runs]
    first = runs[0]
    return (
        f"{first['prompt']} + {first['answer']}",
        f"{first['tested']} of {first['blocks']}",
        str(first["passes"]),
        f"{median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})",
        f"{max(run['gib'] for run in runs):.2f}",
        f"{first['page_mib']:.2f}",
    )


def main() -> None:
    """Measure every length, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--text", required=True)
    parser.add_argument("--prompts", default="512,2048")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--blocks", default="sentences")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(once(options, options.one)))
        return
    table = Table(
        "Cost of an audit",
        f"{Path(options.model).name}, {options.blocks}, generation and page included, {torch.get_num_threads()} CPU "
        f"threads, torch {torch.__version__}; seconds: the median of {options.repeats} (and range). Memory: the most "
        "the process held, the model included.",
        (
            Column("prompt + answer, tokens"), Column("blocks taken away"), Column("forward passes"), Column("seconds"),
            Column("memory, GiB"), Column("page, MiB"),
        ),
        tuple(measured(options, int(length)) for length in options.prompts.split(",")),
    )  # fmt: skip
    write_tables(PAGE, BY, [table], Console(stderr=True))


if __name__ == "__main__":
    run_script(main)
