"""What this machine can run, and how fast."""

from __future__ import annotations

__all__ = ["examine", "to_table"]

import shutil
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich import box
from rich.console import Group
from rich.table import Table

from progloc.benchmark import localist_loss, random_gpt2, timed
from progloc.config import LocalityConfig
from progloc.environment import describe_environment
from progloc.files import cache_dir
from progloc.model import localize
from progloc.paper.plan import plan, read_preset
from progloc.report.printing import with_title
from progloc.training.scratch import SCRATCH_SIZES

TIMED_STEPS = 5


def _tokens_a_second(device: torch.device) -> float:
    """Return training tokens a second of a GPT-2 of 6 layers × 128 with the penalty, 8 × 128 tokens a step."""
    base = random_gpt2(layers=6, width=128, heads=4, vocabulary=2048, positions=128).to(device)
    model = localize(base, LocalityConfig())
    ids = torch.randint(0, 2048, (8, 128), device=device)
    seconds = [timed(lambda: localist_loss(model, ids).backward(), device) for _ in range(TIMED_STEPS + 1)]
    return ids.numel() / median(seconds[1:])


def _tokens_of(suite: str) -> int:
    """Return how many tokens a suite on `scratch:tiny` trains on, its pretraining included."""
    made = plan(suite, read_preset(suite)[1])
    tiny = SCRATCH_SIZES["tiny"]
    share = (1 - made.base.validation_fraction) * made.base.sequence_length
    tuned = sum(run.config.training.epochs * (run.config.max_sequences or 0) * share for run in made.runs)
    return round(tuned) + tiny.max_steps * tiny.batch_size * made.base.sequence_length


def examine() -> dict[str, Any]:
    """Return versions, devices, space, the cache's folder, and how fast a small model trains here."""
    cuda = torch.cuda.is_available()
    cache = cache_dir()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    device = torch.device("cuda" if cuda else "cpu")
    speed = _tokens_a_second(device)
    memory = torch.cuda.get_device_properties(0).total_memory if cuda else None
    return {
        **describe_environment(),
        "gpu_memory_gib": None if memory is None else round(memory / 2**30, 1),
        "cache": str(cache),
        "cache_free_gib": round(shutil.disk_usage(there).free / 2**30, 1),
        "results_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "training_tokens_per_second": round(speed),
        "minutes_for_quick": round(_tokens_of("quick") / speed / 60, 1),
    }


def to_table(found: dict[str, Any]) -> Group:
    """Return `examine`'s findings for a terminal."""
    table = Table(box=box.SIMPLE, show_header=False)
    for name, value in found.items():
        if isinstance(value, dict):  # the git state
            shown = f"{value['commit'][:10]}, {'with uncommitted changes' if value['dirty'] else 'clean'}"
        else:
            shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name.replace("_", " "), shown)
    return with_title("progloc doctor", table)
