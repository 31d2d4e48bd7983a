"""Write the measured part of docs/performance.md and its figures, from the runs that benchmarks/measured/ keeps.

    python benchmarks/write_performance.py [RESULTS …]

RESULTS are folders that `make bench ARGS="--out RESULTS"` made. Each run is first kept under its folder's name, in
place of an earlier one of that name; without any, the page is written again from what is kept.
"""

from __future__ import annotations

from pathlib import Path

from progloc.files import write_json, write_text
from scripts import run_script, script_parser
from step_timing.figure import drawing
from step_timing.report import fill, write_figure
from step_timing.results import BENCHMARK_FILE, Benchmark, read_benchmark

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "measured"
PAGE = ROOT / "docs" / "performance.md"


def kept_runs() -> dict[str, Benchmark]:
    """Return the runs that are kept, by name."""
    return {path.stem: read_benchmark(path) for path in sorted(KEPT.glob("*.json"))}


def picture_of(name: str) -> str:
    """Return where the page finds a run's figure."""
    return f"images/performance-{name}.png"


def page() -> str:
    """Return docs/performance.md as it is, with the measured part made anew."""
    runs = kept_runs()
    return fill(PAGE.read_text(encoding="utf-8"), runs, {name: picture_of(name) for name in runs})


def site_pictures() -> dict[str, bytes]:
    """Return every run's figure as a PNG by its path, seen from the page."""
    return {picture_of(name): drawing(run) for name, run in kept_runs().items()}


def main() -> None:
    """Keep the runs given, then write the page and the figures."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="*")
    for folder in (given.resolve() for given in parser.parse_args().results):
        write_json(KEPT / f"{folder.name}.json", read_benchmark(folder / BENCHMARK_FILE).to_dict())
    for name, run in kept_runs().items():
        write_figure(run, PAGE.parent / picture_of(name))
    write_text(PAGE, page())


if __name__ == "__main__":
    run_script(main)
