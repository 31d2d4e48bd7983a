"""What this machine can run, and how fast."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median

import torch
from rich import box
from rich.console import Group
from rich.table import Table
from transformers import GPT2Config, GPT2LMHeadModel

from progloc.attention.masses import log_masses
from progloc.config import LocalityConfig
from progloc.environment import describe_environment
from progloc.files import cache_dir
from progloc.model import localize
from progloc.objective import locality_penalty, penalty_by_head
from progloc.paper.plan import plan, read_preset
from progloc.report.printing import with_title
from progloc.training.scratch import SCRATCH_SIZES

TIMED_STEPS = 5


def _tokens_a_second(device: torch.device) -> float:
    """Return the training tokens a second of a GPT-2 of 6 layers × 128 with the penalty, 8 × 128 tokens a step."""
    shape = {"n_layer": 6, "n_embd": 128, "n_head": 4, "vocab_size": 2048, "n_positions": 128}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    plain = GPT2LMHeadModel(GPT2Config(**shape, **off))
    plain.loss_type = "ForCausalLM"  # its own, which transformers otherwise warns of not finding
    model = localize(plain.to(device), LocalityConfig())
    ids = torch.randint(0, 2048, (8, 128), device=device)
    seconds = []
    for _ in range(TIMED_STEPS + 1):
        started = time.perf_counter()
        outputs = model(input_ids=ids, labels=ids, output_attentions=True, use_cache=False)
        penalty = locality_penalty(penalty_by_head(log_masses(outputs)), model.locality.weights)
        (outputs.loss + model.locality.config.alpha * penalty).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return ids.numel() / median(seconds[1:])


def _tokens_of(suite: str) -> int:
    """Return how many tokens a suite on `scratch:tiny` trains on, its pretraining included."""
    suite_plan, tiny = plan(suite, read_preset(suite)[1]), SCRATCH_SIZES["tiny"]
    length = suite_plan.base.sequence_length
    tokens = (1 - suite_plan.base.validation_fraction) * length
    fine_tuning = sum(run.config.training.epochs * (run.config.max_sequences or 0) * tokens for run in suite_plan.runs)
    return round(fine_tuning) + tiny.max_steps * tiny.batch_size * length


def examine() -> dict[str, object]:
    """Return versions, devices, space, the cache's folder, and how fast a small model trains here."""
    cuda, cache = torch.cuda.is_available(), cache_dir()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    speed = _tokens_a_second(torch.device("cuda" if cuda else "cpu"))
    memory = torch.cuda.get_device_properties(0).total_memory if cuda else None
    return {
        **describe_environment(),
        "gpu_memory_gib": None if memory is None else round(memory / 2**30, 1),
        "cache": str(cache),
        "cache_free_gib": round(shutil.disk_usage(existing).free / 2**30, 1),
        "results_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "training_tokens_per_second": round(speed),
        "minutes_for_quick": round(_tokens_of("quick") / speed / 60, 1),
    }


def to_table(report: dict[str, object]) -> Group:
    """Return what `examine` returned as a table for a terminal."""
    table = Table(box=box.SIMPLE, show_header=False)
    for name, value in report.items():
        if isinstance(value, dict):  # the git state
            shown = f"{value['commit'][:10]}, {'with uncommitted changes' if value['dirty'] else 'clean'}"
        else:
            shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name.replace("_", " "), shown)
    return with_title("progloc doctor", table)
