"""What the penalty costs a step, in time and memory, against plain attention: one run, side by side."""

from progloc.benchmark.results import Benchmark
from progloc.benchmark.settings import Settings, settings_for
from progloc.benchmark.tables import made_by, run_tables
from progloc.benchmark.timing import run_benchmark, timed
from progloc.benchmark.variants import localist_loss, random_gpt2

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
