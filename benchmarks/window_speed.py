"""What a training step gains from a window in early layers, turn by turn with plain attention in one run.

    python benchmarks/window_speed.py [--lengths 1024,4096] [--layers 12] [--window 64] [--repeats 5]

GPT-2's shape with random weights; quintic on blocks of five, with and without a window in the layers where λ < 0.05.
The table goes to docs/windows.md.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from progloc.attention.request import AttentionRequest
from progloc.config import LocalityConfig
from progloc.model import localize
from progloc.report.table import Column, Table
from scripts import run_script, script_parser, write_tables
from step_timing import localist_loss, random_gpt2

PAGE = Path(__file__).parents[1] / "docs" / "windows.md"
BY = "benchmarks/window_speed.py"
TOKENS = 4096
"""A step has this many, however long its sequences."""


def seconds(step: Callable[[], Any], device: str) -> float:
    """Return how long a step and its gradient take."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def steps(base: Any, ids: torch.Tensor, window: int) -> dict[str, Callable[[], Any]]:
    """Return the loss of each way to train, on the same parameters."""

    def twin(attention: LocalityConfig | None) -> Any:
        model = copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})
        if attention is None:
            model.set_attn_implementation("sdpa")
            return model
        return localize(model, attention)

    plain, local, sparse = (twin(c) for c in (None, LocalityConfig(), LocalityConfig(window=window)))

    def penalised(model: Any) -> Callable[[], Any]:
        layers = tuple(layer for layer, strength in enumerate(model.locality.lambdas) if strength)
        return lambda: localist_loss(model, ids, attention_request=AttentionRequest(layers=layers))

    return {
        "plain attention": lambda: plain(input_ids=ids, labels=ids, use_cache=False).loss,
        "quintic": penalised(local),
        f"quintic, window {window}": penalised(sparse),
    }


def main() -> None:
    """Time every length, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lengths = [int(text) for text in options.lengths.split(",")]
    base = random_gpt2(layers=options.layers, width=768, heads=12, vocabulary=50257, positions=max(lengths)).to(device)
    rows = []
    for length in lengths:
        ids = torch.randint(0, 50257, (max(1, TOKENS // length), length), device=device)
        ways = steps(base, ids, options.window)
        timings: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(options.repeats + 1):
            for name, step in ways.items():
                spent = seconds(step, device)
                if repeat:  # the first is warm-up
                    timings[name].append(spent)
        first = next(iter(timings))
        for name, spent in timings.items():
            shares = [one / plain for one, plain in zip(spent, timings[first], strict=True)]
            spread = f"{median(shares):.3f} ({min(shares):.3f}–{max(shares):.3f})"
            rows.append((f"{length:,}", name, f"{median(spent):.2f}", "1" if name == first else spread))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table(
        "Speed",
        f"GPT-2's shape with {options.layers} layers, {TOKENS:,} tokens a step, {where}, torch {torch.__version__}. "
        f"Time: ÷ plain attention's, the median of {options.repeats} turns (and range).",
        (Column("Tokens a sequence"), Column("Training", text=True), Column("Seconds a step"), Column("Time")),
        tuple(rows),
    )
    write_tables(PAGE, BY, [table], Console(stderr=True))


if __name__ == "__main__":
    run_script(main)
