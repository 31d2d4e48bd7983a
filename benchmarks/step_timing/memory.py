"""How much memory a step needs: measured, and estimated before it is tried."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GPT2Config

from step_timing.variants import Shape, Variant

_STATUS, _MEMINFO, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/meminfo"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Written to clear_refs, sets VmHWM, the peak resident set, back to the present one (Linux, proc(5))."""


def _field(path: Path, name: str) -> int:
    """Return a field of a /proc file in bytes; OSError where there is no such file or field."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} has no {name}")


def peak_bytes(step: Callable[[], None], device: torch.device) -> int | None:
    """Return the most memory that ``step`` held beyond what was held before it, in bytes.

    On CUDA that is what PyTorch's allocator gave out; on Linux the resident set, after the C library has returned what
    it kept for reuse. None where neither can be had.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        trim = ctypes.CDLL(None).malloc_trim
        trim(0)
        _CLEAR_REFS.write_text(_RESET_PEAK)
        before = _field(_STATUS, "VmRSS")
    except (OSError, AttributeError):  # not Linux, not glibc, or /proc may not be written
        return None
    step()
    return _field(_STATUS, "VmHWM") - before


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory there is for a step; None where it cannot be known."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    try:
        return _field(_MEMINFO, "MemAvailable")
    except OSError:
        return None


def estimated_bytes(variant: Variant, shape: Shape, config: GPT2Config) -> int:
    """Return about how many bytes a step of a GPT-2 in float32 needs beyond its weights, to see whether to try it.

    The coefficients are what `peak_bytes` finds at small shapes, rounded up; half precision needs less.
    """
    layers, width = (config.n_layer if variant.trains else 1), config.n_embd
    a_token = (36 * layers + 30) * width  # what is kept for the backward pass, and scratch space
    if not variant.fused:
        a_token += 4 * config.vocab_size  # logits, their logarithms, and the gradients of both
    if variant.materialises:
        a_token += (layers + 6) * config.n_head * shape.length  # one matrix of weights a layer, and scratch space
    gradients = 12 * layers * width**2 + config.vocab_size * width if variant.trains else 0
    return 4 * (shape.tokens * a_token + gradients)
