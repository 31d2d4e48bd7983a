"""The benchmark: that equals are compared, that what is shown follows from the timings, and how targets are judged."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from page_numbers import figures_of
from progloc.attention.masses import log_masses
from progloc.errors import ProglocError
from progloc.model import localize
from progloc.objective import locality_penalty, penalty_by_head
from step_timing import Benchmark, Settings, random_gpt2, run_benchmark
from step_timing.memory import estimated_bytes, peak_bytes
from step_timing.partitions import FIXED, PARTITIONS, SCATTERED, SENTENCE_LIKE, WHOLE
from step_timing.report import write_report
from step_timing.results import BENCHMARK_FILE, Timing, read_benchmark
from step_timing.settings import settings_for
from step_timing.tables import growth_table, step_table, target_table
from step_timing.targets import TARGETS, judge
from step_timing.variants import (
    EAGER,
    FORWARD,
    LOCALIST,
    LOCALIST_FUSED,
    MEASURED,
    SDPA,
    SDPA_FUSED,
    Shape,
    Variant,
    eager_penalty,
    steps,
    variants,
)

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = {"layers": 2, "width": 32, "vocabulary": 99}


def tiny(attention: str = "sdpa", positions: int = 64) -> torch.nn.Module:
    torch.manual_seed(0)
    model = random_gpt2(layers=2, width=32, heads=2, vocabulary=99, positions=positions)
    model.set_attn_implementation(attention)
    return model


def drawn(partition: str, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return PARTITIONS[partition](batch, length, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [2, 37, 1024])
def test_sentence_like_blocks_are_contiguous_and_of_5_to_45_tokens(length: int) -> None:
    ids = drawn(SENTENCE_LIKE, 4, length)
    assert ids[:, 0].eq(0).all()
    assert set(ids.diff().unique().tolist()) <= {0, 1}
    for row in ids:
        *sizes, last = row.unique_consecutive(return_counts=True)[1].tolist()
        assert all(5 <= size <= 45 for size in sizes)
        assert last <= 45
    assert not torch.equal(drawn(SENTENCE_LIKE, 4, 1024)[0], drawn(SENTENCE_LIKE, 4, 1024)[1])


def test_scattered_blocks_hold_25_tokens_wherever_they_lie() -> None:
    ids = drawn(SCATTERED, 8, 1000)
    assert ids.unique().tolist() == list(range(40))  # 25 tokens each, on average
    assert len(ids[0].unique_consecutive()) > 900  # neighbours are hardly ever of one block


def test_the_other_partitions_are_what_their_names_say() -> None:
    assert drawn(FIXED, 2, 12).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]] * 2
    assert drawn(WHOLE, 2, 7).tolist() == [[0] * 7] * 2


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_penalty_by_hand_is_progloc_s(partition: str) -> None:
    ids, block_ids = torch.randint(0, 99, (3, 40)), drawn(partition, 3, 40)
    outputs = tiny("eager")(input_ids=ids, output_attentions=True)
    local = localize(tiny())(input_ids=ids, block_ids=block_ids, output_attentions=True)
    ours = locality_penalty(penalty_by_head(log_masses(local)), torch.ones(2))
    torch.testing.assert_close(eager_penalty(outputs.attentions, block_ids), ours, rtol=1e-4, atol=1e-6)


def test_steps_that_are_compared_leave_the_same_gradients() -> None:
    base = tiny()
    gradients = {}
    for variant, step in steps(base, variants(compiled=False), Shape(40, 3)).items():
        base.zero_grad(set_to_none=True)
        step()
        found = [parameter.grad for parameter in base.parameters() if parameter.grad is not None]
        gradients[variant.name] = torch.cat([gradient.flatten() for gradient in found]) if found else None
    assert gradients["forward, sdpa"] is None
    assert gradients["forward, every measure"] is None
    for one, other in (
        ("eager + penalty", "progloc, fixed:5"),
        ("progloc, fixed:5", "progloc, fused loss"),
        ("sdpa", "sdpa, fused loss"),
        ("sdpa", "progloc, whole sequence"),  # one block holds all the attention there is
    ):
        torch.testing.assert_close(gradients[one], gradients[other], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradients["sdpa"], gradients["progloc, fixed:5"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the resident set's peak needs Linux")
def test_peak_memory_is_what_a_step_held_and_not_what_came_before() -> None:
    def hold(*mebibytes: int) -> None:
        for size in mebibytes:
            torch.ones(size << 18)

    assert peak_bytes(lambda: hold(400), CPU) == pytest.approx(400 << 20, rel=0.05)
    found = peak_bytes(lambda: hold(60, 100, 40), CPU)
    # one after another; some kernels take their time to count what was given back
    assert found is not None
    assert 95 << 20 < found < 210 << 20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the resident set's peak needs Linux")
@pytest.mark.parametrize("variant", [SDPA, EAGER], ids=lambda variant: variant.name)
def test_estimated_memory_is_near_what_a_step_needs(variant: Variant) -> None:
    shape = Shape(512, 2)
    base = random_gpt2(layers=2, width=256, heads=4, vocabulary=8192, positions=512)
    step = steps(base, [variant], shape)[variant]
    step()  # warm up
    base.zero_grad(set_to_none=True)
    found = peak_bytes(step, CPU)
    assert found is not None
    assert 0.6 * found < estimated_bytes(variant, shape, base.config) < 1.6 * found


def quiet_run(tmp_path: Path) -> Benchmark:
    settings = Settings("cpu", (Shape(16, 2),), repeats=2, **TINY)
    return run_benchmark(settings, tmp_path / "bench", Console(quiet=True), "python benchmarks/step_cost.py")


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = random_gpt2(layers=2, width=32, heads=1, vocabulary=99, positions=16).config
    needed = [estimated_bytes(variant, Shape(16, 2), config) for variant in (SDPA, EAGER)]
    monkeypatch.setattr("step_timing.timing.free_bytes", lambda device: sum(needed) // 2)
    found = quiet_run(tmp_path)
    assert found.timing(Shape(16, 2), EAGER.name) is None
    assert found.timing(Shape(16, 2), SDPA.name) is not None
    assert [row[2] for row in step_table(found).rows if row[2].startswith("eager + penalty: needs about")]


@pytest.mark.slow
def test_a_variant_that_runs_out_of_memory_ends_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("step_timing.variants.eager_penalty", fail)
    found = quiet_run(tmp_path)
    assert [timing.variant for timing in found.timings if timing.skipped == "out of memory"] == [EAGER.name]
    assert all(len(timing.seconds) == 2 for timing in found.timings if not timing.skipped)


def synthetic(seconds: Callable[[Variant, Shape], float], device: str = "cpu", layers: int = 12) -> Benchmark:
    """A run whose repeats are a slow one, a usual one and a fast one."""
    shapes = tuple(Shape(length, 16384 // length) for length in (128, 1024, 2048, 4096, 16384))
    settings = Settings(device, shapes, repeats=3, layers=layers, compiled=True)
    timings = tuple(
        Timing(v.name, s.length, s.batch, tuple(seconds(v, s) * slow for slow in (2, 1, 0.5)), peak_bytes=2**30)
        for s in shapes
        for v in variants()
    )
    environment = {"git": None, **dict.fromkeys(("device", "threads", "cpus", "platform", "date"), "–")}
    environment |= dict.fromkeys(("torch", "transformers", "python", "progloc"), "–")
    return Benchmark("python benchmarks/step_cost.py", environment, settings, timings)


def verdicts(*benchmarks: Benchmark) -> dict[str, str]:
    return {target.what: judge(target, benchmarks).verdict for target in TARGETS}


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    run = synthetic(lambda variant, shape: 1.04 if variant.partition else 1.0)
    assert run.ratios(Shape(1024, 16), LOCALIST[FIXED].name, SDPA.name) == pytest.approx([1.04] * 3)
    assert run.ratios(Shape(1024, 16), SDPA.name, SDPA.name) == [1.0] * 3


def test_targets_are_judged_by_the_worst_and_by_the_right_device() -> None:
    costs = {LOCALIST[SENTENCE_LIKE]: 1.06, LOCALIST[SCATTERED]: 1.14}
    found = verdicts(synthetic(lambda variant, shape: costs.get(variant, 1.0)))
    assert found["CPU step time, T=1024, contiguous blocks"] == "not met"
    assert found["CPU step time, T=1024, scattered blocks"] == "met"
    assert found["CPU evaluation, T=1024"] == "met"
    assert found["CPU growth, T=2048 to 16384, ÷ sdpa's"] == "met"
    assert {verdict for what, verdict in found.items() if what.startswith("GPU")} == {"not measured"}
    smaller = synthetic(lambda variant, shape: 1.0, layers=2)
    assert set(verdicts(smaller).values()) == {"not measured"}


def test_a_target_is_not_met_by_half_of_what_it_speaks_of() -> None:
    run = synthetic(lambda variant, shape: 1.0)
    without = tuple(t for t in run.timings if t.variant != LOCALIST[SENTENCE_LIKE].name)
    found = verdicts(dataclasses.replace(run, timings=without))
    assert found["CPU step time, T=1024, contiguous blocks"] == "not measured"
    assert found["CPU step time, T=1024, scattered blocks"] == "met"


def test_only_some_variants_with_what_they_stand_against() -> None:
    assert variants(False, "progloc, fused") == (SDPA_FUSED, LOCALIST_FUSED)
    assert variants(False, "fixed|scattered") == (SDPA, LOCALIST[FIXED], LOCALIST[SCATTERED])
    assert variants(False, "measure") == (FORWARD, MEASURED)


def test_growth_is_judged_against_plain_attention_s_own() -> None:
    def seconds(variant: Variant, shape: Shape) -> float:
        return shape.length ** (0.3 if variant.partition else 0.25)

    run = synthetic(seconds)
    assert verdicts(run)["CPU growth, T=2048 to 16384, ÷ sdpa's"] == "not met"
    table = growth_table(run)
    assert table is not None
    rows = {row[0]: row for row in table.rows}
    assert rows[SDPA.name][1] == f"{8**0.25:.3f}×"
    assert rows[LOCALIST[FIXED].name][3] == f"{8**0.05:.3f}×"
    assert growth_table(dataclasses.replace(run, timings=run.timings[:20])) is None


def test_a_lower_limit_is_judged_from_below() -> None:
    slower = synthetic(lambda variant, shape: 1.1 if variant.partition else 1.0)
    assert verdicts(slower)["CPU tokens/s, fused, compiled, T=1024"] == "not met"
    fast = synthetic(lambda variant, shape: shape.tokens / 500_000, device="cuda")
    assert verdicts(fast)["GPU tokens/s, the same in numbers"] == "met"
    assert "not measured" in {row[-1] for row in target_table([fast]).rows}  # no run had 32k tokens


def test_lengths_say_batches() -> None:
    found = settings_for("8, 32,64x3,8", tokens=40)
    assert found.shapes == (Shape(8, 5), Shape(32, 1), Shape(64, 3))


def test_a_report_needs_its_benchmark(tmp_path: Path) -> None:
    with pytest.raises(ProglocError, match=r"run python benchmarks/step_cost\.py --out"):
        write_report(tmp_path)
    (tmp_path / BENCHMARK_FILE).write_text('{"schema_version": 1}')
    with pytest.raises(ProglocError, match="has no 'timings'"):
        read_benchmark(tmp_path / BENCHMARK_FILE)


def test_the_page_is_what_the_kept_runs_say() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "write_performance.py"))
    assert list(script["KEPT"].glob("*.json"))
    assert figures_of(script["PAGE"].read_text(encoding="utf-8")) == figures_of(script["page"]())
