"""What the penalty costs a training step: plain attention against progloc's, interleaved in one run.

    python benchmarks/attention_overhead.py [--lengths 128 512] [--tokens 2048] [--width 256] [--layers 6] [--repeats 9]

Every repeat times each variant once, in turn, so that a machine that slows down slows all of them. Printed are medians
with the quartiles of the repeats, and ratios to the `sdpa` of the same repeat.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from progloc import LocalityConfig, localize, log_masses
from progloc.attention import EXTRA_CHANNELS
from progloc.environment import describe_environment
from progloc.objective import locality_penalty, penalty_by_head

HEAD_DIMENSION = 64
VOCABULARY = 8192


def variants(length: int, width: int, layers: int, device: torch.device) -> dict[str, Callable[[Tensor], None]]:
    """Return what is timed, by name: each takes input ids (B, T)."""
    shape = {"n_layer": layers, "n_embd": width, "n_head": width // HEAD_DIMENSION, "vocab_size": VOCABULARY}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    base = GPT2LMHeadModel(GPT2Config(n_positions=length, **shape, **off)).to(device)
    eager, sdpa, local = (copy.deepcopy(base) for _ in range(3))
    eager.set_attn_implementation("eager")
    sdpa.set_attn_implementation("sdpa")
    localize(local, LocalityConfig(schedule="localist"))
    lambdas = torch.tensor(local.locality.lambdas)

    def step(model: GPT2LMHeadModel) -> Callable[[Tensor], None]:
        return lambda ids: model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    def local_step(ids: Tensor) -> None:
        outputs = local(input_ids=ids, labels=ids, use_cache=False, output_attentions=True)
        (outputs.loss + 0.05 * locality_penalty(penalty_by_head(log_masses(outputs)), lambdas)).backward()

    @torch.inference_mode()
    def forward(ids: Tensor) -> None:
        sdpa(input_ids=ids, use_cache=False)

    @torch.inference_mode()
    def measured(ids: Tensor) -> None:
        local(input_ids=ids, use_cache=False, output_attentions=True, locality_channels=EXTRA_CHANNELS)

    return {
        "train, sdpa": step(sdpa),
        "train, eager": step(eager),
        "train, progloc with penalty": local_step,
        "forward, sdpa": forward,
        "forward, progloc with every channel": measured,
    }


def main() -> None:
    """Time every variant at every length and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a step")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = describe_environment()
    table = Table(
        title=f"{made['device']}, {made['threads']} threads, torch {made['torch']}, progloc {made['progloc']}"
    )
    for heading in ("T", "", "ms, median", "quartiles", "against sdpa"):
        table.add_column(heading, justify="left" if not heading else "right")
    for length in options.lengths:
        ids = torch.randint(0, VOCABULARY, (max(1, options.tokens // length), length), device=device)
        timed = variants(length, options.width, options.layers, device)
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for repeat in range(options.repeats + 1):
            for name, run in timed.items():
                started = time.perf_counter()
                run(ids)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if repeat:  # the first is a warm-up
                    seconds[name].append(time.perf_counter() - started)
        for name, found in seconds.items():
            plain = seconds[f"{name.partition(',')[0]}, sdpa"]
            ratio = median(one / other for one, other in zip(found, plain, strict=True))
            low, _, high = quantiles(found, n=4)
            spread = f"{low * 1e3:.1f}–{high * 1e3:.1f}"
            table.add_row(str(length), name, f"{median(found) * 1e3:.1f}", spread, f"{ratio:.2f}×")
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
