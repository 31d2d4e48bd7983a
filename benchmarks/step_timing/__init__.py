"""What the penalty costs a step, in time and memory, against plain attention: one run, side by side."""

from step_timing.results import Benchmark
from step_timing.settings import Settings, settings_for
from step_timing.tables import made_by, run_tables
from step_timing.timing import run_benchmark, timed
from step_timing.variants import localist_loss, random_gpt2

__all__ = [
    "Benchmark",
    "Settings",
    "localist_loss",
    "made_by",
    "random_gpt2",
    "run_benchmark",
    "run_tables",
    "settings_for",
    "timed",
]
