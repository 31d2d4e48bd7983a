"""What the dial costs in generation: tokens a second, dialled and not, turn by turn in one run.

    python benchmarks/dial_speed.py MODEL [--batches 1,16] [--tokens 512] [--prompt-tokens N] [--repeats 3] [--blocks B]

The model is a Hugging Face folder or hub name with its tokenizer. Greedy decoding with the dynamic cache, every text
exactly as long as asked. The table goes to docs/dial.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from transformers import AutoTokenizer

from progloc.config import LocalityConfig
from progloc.data import load_corpus
from progloc.dialling import dial
from progloc.hub import pretrained
from progloc.loading import load
from progloc.report.table import Column, Table
from scripts import run_script, script_parser, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "dial.md"
BY = "benchmarks/dial_speed.py"
DELTAS = (0.0, 0.5, 1.0)


def seconds(model: Any, prompt: torch.Tensor, delta: float, tokens: int, tokenizer: Any) -> float:
    """Return how long generating takes."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    with dial(model, delta, tokenizer=tokenizer):
        model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measured(model: Any, tokenizer: Any, batch: int, tokens: int, length: int, repeats: int) -> list[tuple[str, ...]]:
    """Return a row for every δ of one batch size."""
    ids = torch.tensor(tokenizer(load_corpus("python-docs").text[:100_000])["input_ids"], device=model.device)
    prompt = ids[: batch * length].reshape(batch, length)
    seconds(model, prompt, 1.0, 4, tokenizer)  # warm
    timings: dict[float, list[float]] = {delta: [] for delta in DELTAS}
    for _ in range(repeats):
        for delta in DELTAS:
            timings[delta].append(seconds(model, prompt, delta, tokens, tokenizer))
    rows = []
    for delta in DELTAS:
        shares = [plain / dialled for plain, dialled in zip(timings[0.0], timings[delta], strict=True)]
        speed = batch * tokens / median(timings[delta])
        spread = f"{median(shares):.3f} ({min(shares):.3f}–{max(shares):.3f})" if delta else "1"
        rows.append((str(batch), str(tokens), f"{delta:g}", f"{speed:.1f}", spread))
    return rows


def main() -> None:
    """Time every batch size, then write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--blocks", default="sentences")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = load(options.model, LocalityConfig(schedule="quintic", blocks=options.blocks, sink_aware=True), dtype=dtype)
    model = model.to(device).eval()
    tokenizer = pretrained(AutoTokenizer, options.model, "expected a model folder")
    rows = [
        row
        for batch in map(int, options.batches.split(","))
        for row in measured(model, tokenizer, batch, options.tokens, options.prompt_tokens, options.repeats)
    ]
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table(
        "Speed of generation",
        f"{Path(options.model).name}, {options.blocks}, quintic, {options.prompt_tokens} prompt tokens, {where}, torch "
        f"{torch.__version__}. Share: of the speed at δ = 0, the median of {options.repeats} turns (and range); δ = 0 "
        "is plain generation.",
        tuple(map(Column, ("batch", "new tokens", "δ", "tokens a second", "share"))),
        tuple(rows),
    )
    write_tables(PAGE, BY, [table], Console(stderr=True))


if __name__ == "__main__":
    run_script(main)
