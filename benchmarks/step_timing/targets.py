"""What the benchmark has to reach, and whether a run reached it: judged by the median, unrounded.

A target that speaks of several partitions is judged by the worst of them. A target counts as measured only by a run of
GPT-2's shape on the right kind of device, and by one that timed every variant it speaks of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from step_timing.partitions import FIXED, SCATTERED, SENTENCE_LIKE
from step_timing.results import Benchmark, Spread, spread
from step_timing.settings import Settings
from step_timing.variants import (
    FORWARD,
    LOCALIST,
    LOCALIST_COMPILED,
    LOCALIST_FUSED,
    MEASURED,
    SDPA,
    SDPA_COMPILED,
    Shape,
    Variant,
    plain,
)

GROWTH = (2048, 16384)
"""The two lengths between which the growth of step time is compared, at equal tokens."""

CONTIGUOUS = (LOCALIST[FIXED], LOCALIST[SENTENCE_LIKE])
ALL = (*CONTIGUOUS, LOCALIST[SCATTERED])

Found = Iterable[tuple[Variant, Sequence[float]]]
"""Variants and a value for each repeat; no value where it was not timed."""


@dataclass(frozen=True)
class Target:
    """One line of what has to be reached."""

    what: str
    device: str
    limit: float
    find: Callable[[Benchmark], Found]
    at_least: bool = False
    """The limit is a lower one."""


@dataclass(frozen=True)
class Judged:
    """A target and what was measured of it."""

    target: Target
    variant: Variant | None
    """The one it is judged by."""
    value: Spread | None

    @property
    def verdict(self) -> str:
        """Return "met", "not met" or "not measured"."""
        if self.value is None:
            return "not measured"
        if self.target.at_least:
            return "met" if self.value.median >= self.target.limit else "not met"
        return "met" if self.value.median <= self.target.limit else "not met"


def _shapes(benchmark: Benchmark, length: int, tokens: int | None = None) -> list[Shape]:
    return [s for s in benchmark.settings.shapes if s.length == length and tokens in (None, s.tokens)]


def growth(benchmark: Benchmark, variant: Variant) -> list[float]:
    """Return a step's time at the longer length of `GROWTH` over that at the shorter, at equal tokens, by repeat.

    Nothing where one of them was not timed.
    """
    for late in _shapes(benchmark, GROWTH[1]):
        for early in _shapes(benchmark, GROWTH[0], late.tokens):
            ends = benchmark.timing(late, variant.name), benchmark.timing(early, variant.name)
            if ends[0] is not None and ends[1] is not None:
                return [long / short for long, short in zip(ends[0].seconds, ends[1].seconds, strict=True)]
    return []


def relative_growth(benchmark: Benchmark, variant: Variant) -> list[float]:
    """Return `growth` of a variant over that of the same without a penalty; nothing where one was not timed."""
    pair = growth(benchmark, variant), growth(benchmark, plain(variant))
    return [one / two for one, two in zip(*pair, strict=True)] if all(pair) else []


def _time(length: int, of: Sequence[Variant], tokens: int | None = None) -> Callable[[Benchmark], Found]:
    return lambda b: [(v, b.ratios(shape, v.name, SDPA.name)) for shape in _shapes(b, length, tokens) for v in of]


def _memory(length: int, tokens: int) -> Callable[[Benchmark], Found]:
    def find(b: Benchmark) -> Found:
        for shape in _shapes(b, length, tokens):
            for variant in ALL:
                ratio = b.memory_ratio(shape, variant.name, SDPA.name)
                yield variant, [] if ratio is None else [ratio]

    return find


def _growth(b: Benchmark) -> Found:
    return [(variant, relative_growth(b, variant)) for variant in (*ALL, LOCALIST_FUSED)]


def _evaluation(length: int) -> Callable[[Benchmark], Found]:
    return lambda b: [(MEASURED, b.ratios(shape, MEASURED.name, FORWARD.name)) for shape in _shapes(b, length)]


def _compiled(b: Benchmark) -> Found:
    name, other = LOCALIST_COMPILED.name, SDPA_COMPILED.name  # tokens/s are the inverse of seconds
    return [(LOCALIST_COMPILED, b.ratios(shape, other, name)) for shape in _shapes(b, 1024)]


def _speed(b: Benchmark) -> Found:
    for shape in _shapes(b, 1024):
        timing = b.timing(shape, LOCALIST_COMPILED.name)
        yield LOCALIST_COMPILED, [shape.tokens / seconds for seconds in timing.seconds] if timing else []


_32K = 32768
TARGETS = (
    *(Target(f"GPU step time, T={n}, 32k tokens", "cuda", 1.05, _time(n, ALL, _32K)) for n in (1024, 4096, 8192)),
    *(Target(f"GPU peak memory, T={n}, 32k tokens", "cuda", 1.03, _memory(n, _32K)) for n in (1024, 4096, 8192)),
    Target("GPU step time, T=128, B=32", "cuda", 1.10, _time(128, ALL, 128 * 32)),
    *(Target(f"CPU step time, T={n}, contiguous blocks", "cpu", 1.05, _time(n, CONTIGUOUS)) for n in (128, 1024, 4096)),
    *(Target(f"CPU step time, T={n}, scattered blocks", "cpu", 1.15, _time(n, ALL[2:])) for n in (128, 1024, 4096)),
    *(
        target
        for device, name in (("cpu", "CPU"), ("cuda", "GPU"))
        for target in (
            Target(f"{name} growth, T={GROWTH[0]} to {GROWTH[1]}, ÷ sdpa's", device, 1.05, _growth),
            Target(f"{name} evaluation, T=128", device, 1.5, _evaluation(128)),
            Target(f"{name} evaluation, T=1024", device, 1.5, _evaluation(1024)),
            Target(f"{name} tokens/s, fused, compiled, T=1024", device, 0.95, _compiled, at_least=True),
        )
    ),
    Target("GPU tokens/s, the same in numbers", "cuda", 450_000, _speed, at_least=True),
)
"""In the order of their table."""


def _is_gpt2(settings: Settings) -> bool:
    """Whether the model timed has GPT-2's shape, which is the default one."""
    default = Settings(settings.device, (), 1)
    return (settings.layers, settings.width) == (default.layers, default.width)


def judge(target: Target, benchmarks: Iterable[Benchmark]) -> Judged:
    """Return what the worst of the runs' figures for a target is."""
    found = []
    for benchmark in benchmarks:
        if benchmark.settings.device == target.device and _is_gpt2(benchmark.settings):
            values = list(target.find(benchmark))
            if all(figures for _, figures in values):
                found += [(spread(figures), variant) for variant, figures in values]
    if not found:
        return Judged(target, None, None)
    value, variant = (min if target.at_least else max)(found, key=lambda pair: pair[0].median)
    return Judged(target, variant, value)
