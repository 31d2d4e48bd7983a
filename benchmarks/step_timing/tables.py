"""A benchmark's tables: every variant at every shape, the growth with length, and the targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from progloc.environment import KERNELS, NOT_INSTALLED
from progloc.report.formats import ABSENT, number
from progloc.report.table import Column, Table
from step_timing.results import Benchmark, Spread, spread
from step_timing.targets import GROWTH, TARGETS, Target, growth, judge, relative_growth
from step_timing.variants import FORWARD, SDPA, Shape, Variant, variants


def made_by(benchmark: Benchmark) -> str:
    """Return machine, model, versions and command, in one paragraph."""
    e, s, git = benchmark.environment, benchmark.settings, benchmark.environment["git"]
    commit = f"commit {git['commit'][:10]}{' and uncommitted changes' if git['dirty'] else ''}, " if git else ""
    kernels = "".join(f", {name} {e[name]}" for name in KERNELS if e.get(name, NOT_INSTALLED) != NOT_INSTALLED)
    return (
        f"{e['device']}, {e['cpus']} CPUs, threads: {e['threads']}, {e['platform']}; torch {e['torch']}{kernels}, "
        f"transformers {e['transformers']}, Python {e['python']}, progloc {e['progloc']}; "
        f"{commit}{e['date']}. GPT-2 with random "
        f"weights: {s.layers} layers × {s.width}, {s.heads} heads, vocabulary {s.vocabulary:,}, {s.precision}. "
        f"{s.repeats} repeats. `{benchmark.command}`"
    )


def _quartiles(value: Spread, digits: int) -> str:
    return f"{value.low:,.{digits}f}–{value.high:,.{digits}f}"


def _step_row(benchmark: Benchmark, shape: Shape, variant: Variant) -> tuple[str, ...] | None:
    where = (f"{shape.length:,}", str(shape.batch))
    timing = benchmark.timing(shape, variant.name)
    if timing is None:
        why = [t.skipped for t in benchmark.timings if (t.shape, t.variant) == (shape, variant.name)]
        return (*where, f"{variant.name}: {why[0]}", *[ABSENT] * 6) if why else None
    baseline = SDPA if variant.trains else FORWARD
    seconds = spread(timing.seconds).median
    ratios = benchmark.ratios(shape, variant.name, baseline.name)
    ratio = spread(ratios) if ratios else None
    return (
        *where,
        variant.name,
        f"{seconds * 1e3:,.1f}",
        f"{shape.tokens / seconds:,.0f}",
        ABSENT if ratio is None else f"{ratio.median:.3f}×",
        ABSENT if ratio is None else _quartiles(ratio, 3),
        number(None if timing.peak_bytes is None else timing.peak_bytes / 2**30, 2),
        number(benchmark.memory_ratio(shape, variant.name, baseline.name), 2),
    )


def step_table(benchmark: Benchmark) -> Table:
    """Return every variant at every shape."""
    found = [_step_row(benchmark, shape, v) for shape in benchmark.settings.shapes for v in variants()]
    return Table(
        "Steps",
        "B sequences of T tokens. Medians over repeats, and quartiles of the ratio, which is taken within a repeat. "
        "Training steps stand against `sdpa`, evaluation against `forward, sdpa`. Memory is the peak of one step, "
        "weights included.",
        (
            *map(Column, ("T", "B")),
            Column("step", text=True),
            *map(Column, ("ms", "tokens/s", "time ÷ sdpa", "quartiles", "peak GiB", "memory ÷ sdpa")),
        ),
        tuple(row for row in found if row is not None),
    )


def growth_table(benchmark: Benchmark) -> Table | None:
    """Return how every training step grows with T at equal tokens; None where the lengths were not timed."""
    rows = []
    for variant in (v for v in variants() if v.trains):
        if grown := growth(benchmark, variant):
            other = relative_growth(benchmark, variant)
            own, relative = spread(grown), spread(other) if other else None
            rows.append(
                (
                    variant.name,
                    f"{own.median:.3f}×",
                    _quartiles(own, 3),
                    ABSENT if relative is None else f"{relative.median:.3f}×",
                    ABSENT if relative is None else _quartiles(relative, 3),
                )
            )
    if not rows:
        return None
    return Table(
        f"Growth of step time, T={GROWTH[0]:,} to {GROWTH[1]:,}",
        "At equal tokens a step; the last columns are over the growth of the same step without a penalty.",
        (Column("step", text=True), *map(Column, ("growth", "quartiles", "÷ sdpa's own", "quartiles"))),
        tuple(rows),
    )


def step_tables(benchmark: Benchmark) -> list[Table]:
    """Return a run's steps, and their growth where it was timed."""
    return [table for table in (step_table(benchmark), growth_table(benchmark)) if table is not None]


def run_tables(benchmark: Benchmark) -> list[Table]:
    """Return all that one run shows: its steps, their growth, and the targets for its kind of device."""
    targets = [target for target in TARGETS if target.device == benchmark.settings.device]
    return [*step_tables(benchmark), target_table([benchmark], targets)]


def target_table(benchmarks: Sequence[Benchmark], targets: Iterable[Target] = TARGETS) -> Table:
    """Return targets, what was measured of each in these runs, and whether it was met."""
    rows = []
    for judged in (judge(target, benchmarks) for target in targets):
        target, value = judged.target, judged.value
        digits = 3 if target.limit < 100 else 0
        rows.append(
            (
                target.what,
                f"{'≥' if target.at_least else '≤'} {target.limit:,.{2 if digits else 0}f}",
                ABSENT if value is None else f"{value.median:,.{digits}f}",
                ABSENT if value is None else _quartiles(value, digits),
                ABSENT if judged.variant is None else judged.variant.name,
                judged.verdict,
            )
        )
    return Table(
        "Targets",
        "Medians of the ratio to plain SDPA, everything else equal; of several variants the worst counts and is named.",
        (
            Column("target", text=True),
            *map(Column, ("limit", "measured", "quartiles")),
            Column("by", text=True),
            Column("verdict", text=True),
        ),
        tuple(rows),
    )
