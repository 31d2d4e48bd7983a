"""The protocol: every repeat takes each variant's step once, so that a machine that slows down slows them all.

At each shape every variant takes one step to warm up, one whose memory is measured, and the timed ones: repeat by
repeat, each repeat in an order of its own. Between steps gradients are set to None, untimed.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import GPT2LMHeadModel, set_seed

from progloc.environment import describe_environment
from progloc.files import write_json
from progloc.run_folder import claimed
from step_timing.memory import estimated_bytes, free_bytes, peak_bytes
from step_timing.results import BENCHMARK_FILE, SCHEMA_VERSION, Benchmark, Timing, spread
from step_timing.settings import Settings
from step_timing.variants import SDPA, Shape, Variant, random_gpt2, steps

PROBED = 128
"""Tokens of the step that the time of all is estimated from."""
UNTIMED = 2
"""Steps of each variant before its timed ones."""

F = TypeVar("F")


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that ``step`` takes, until the device is done with it."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _work(settings: Settings, variant: Variant, shape: Shape) -> float:
    """Return about how many multiplications a step takes, which is what its time is estimated from."""
    attention = 2 * shape.length
    a_token = settings.layers * settings.width * (12 * settings.width + attention)
    return shape.tokens * (a_token + settings.width * settings.vocabulary) * (3 if variant.trains else 1)


def _too_large(base: GPT2LMHeadModel, wanted: tuple[Variant, ...], shape: Shape) -> dict[Variant, str]:
    """Return the variants that free memory will not hold, and why; a GPU says so itself, and loses nothing by it."""
    if base.device.type == "cuda":
        return {}
    free = free_bytes(base.device)
    needed = {variant: estimated_bytes(variant, shape, base.config) for variant in wanted}
    return {
        variant: f"needs about {count / 2**30:.1f} GiB, {free / 2**30:.1f} are free"
        for variant, count in needed.items()
        if free is not None and count > free
    }


def _time_shape(
    base: GPT2LMHeadModel, settings: Settings, shape: Shape, heard: Callable[[Shape, Variant], None]
) -> list[Timing]:
    """Time every variant at one shape; ``heard`` is told of each step taken."""
    wanted = settings.variants
    skipped = _too_large(base, wanted, shape)
    if settings.compiled:
        torch.compiler.reset()  # else what was compiled for another shape is compiled again for any
    ready = steps(base, [variant for variant in wanted if variant not in skipped], shape, settings.seed)

    def take(variant: Variant, measured: Callable[[Callable[[], None], torch.device], F]) -> F:
        base.zero_grad(set_to_none=True)
        figure = measured(ready[variant], base.device)
        heard(shape, variant)
        return figure

    peaks: dict[Variant, int | None] = {}
    for variant in tuple(ready):
        try:
            take(variant, timed)
            peaks[variant] = take(variant, peak_bytes)
        except torch.OutOfMemoryError:
            skipped[variant] = "out of memory"
            del ready[variant]
    gc.collect()
    gc.freeze()  # what is here stays; otherwise looking through all of it falls to some step or other
    seconds: dict[Variant, list[float]] = {variant: [] for variant in ready}
    order, draw = list(ready), random.Random(settings.seed)
    for _ in range(settings.repeats):
        draw.shuffle(order)
        for variant in order:
            seconds[variant].append(take(variant, timed))
    gc.unfreeze()
    base.zero_grad(set_to_none=True)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in base.parameters())
    return [
        Timing(
            variant=variant.name,
            length=shape.length,
            batch=shape.batch,
            seconds=tuple(seconds.get(variant, ())),
            peak_bytes=None if (peak := peaks.get(variant)) is None else weights + peak,
            skipped=skipped.get(variant, ""),
        )
        for variant in wanted
    ]


def run_benchmark(settings: Settings, out: Path, console: Console, command: str) -> Benchmark:
    """Time every variant at every shape, and write `benchmark.json` after each shape.

    Args:
        settings: see `settings_for`.
        out: the folder it is written to; an earlier benchmark there is replaced.
        console: where progress is shown.
        command: what the user ran, for the record.

    Raises:
        ProglocError: ``out`` holds something else, or another process writes it.
    """
    with claimed(out, BENCHMARK_FILE, {"schema_version": SCHEMA_VERSION}):
        return _run(settings, out, console, command)


def _run(settings: Settings, out: Path, console: Console, command: str) -> Benchmark:
    environment = describe_environment()
    set_seed(settings.seed)
    base = random_gpt2(
        layers=settings.layers,
        width=settings.width,
        heads=settings.heads,
        vocabulary=settings.vocabulary,
        positions=max(shape.length for shape in settings.shapes),
    ).to(settings.device)
    work = {(shape, v): _work(settings, v, shape) for shape in settings.shapes for v in settings.variants}
    small = Shape(min(PROBED, *(shape.length for shape in settings.shapes)), 1)
    probe = steps(base, [SDPA], small)[SDPA]
    rate = _work(settings, SDPA, small) / min(timed(probe, base.device) for _ in range(2))
    passes = UNTIMED + settings.repeats
    total = passes * sum(work.values())
    if (out / BENCHMARK_FILE).exists():
        console.print(f"the benchmark that {out} holds will be replaced", soft_wrap=True)
    console.print(
        f"{len(work)} variants, {passes} steps of each: about {total / rate / 60:.1f} min"
        f"{', and what compiling takes' if settings.compiled else ''} · results in {out}",
        soft_wrap=True,
    )
    timings: list[Timing] = []
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=600,  # seconds; a step may take many
    ) as bar:
        task = bar.add_task("", total=total)
        done = 0.0

        def heard(shape: Shape, variant: Variant) -> None:
            bar.advance(task, work[shape, variant])

        for number, shape in enumerate(settings.shapes, 1):
            bar.update(task, description=f"{shape} tokens")
            timings += _time_shape(base, settings, shape, heard)
            found = Benchmark(command, environment, settings, tuple(timings))
            write_json(out / BENCHMARK_FILE, found.to_dict())
            done += passes * sum(work[shape, v] for v in settings.variants)
            bar.update(task, completed=done)  # what was skipped too
            baseline = found.timing(shape, SDPA.name)
            shown = "no sdpa" if baseline is None else f"sdpa {spread(baseline.seconds).median * 1e3:,.0f} ms"
            console.print(f"[{number}/{len(settings.shapes)}] {shape} tokens: {shown}")
    return found
