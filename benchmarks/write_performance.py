"""Write the measured part of docs/performance.md and its figures, from the runs that benchmarks/measured/ keeps.

    python benchmarks/write_performance.py [RESULTS …]

RESULTS are folders that `make bench ARGS="--out RESULTS"` made. Each run is first kept under its folder's name, in
place of an earlier one of that name; without any, the page is written again from what is kept.
"""

from __future__ import annotations

from pathlib import Path

from progloc.files import write_json, write_text
from scripts import run_script, script_parser
from step_timing.report import fill, write_figure
from step_timing.results import BENCHMARK_FILE, read_benchmark

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "measured"
PAGE = ROOT / "docs" / "performance.md"


def page() -> str:
    """Return docs/performance.md as it is, with the measured part made anew."""
    kept = {path.stem: read_benchmark(path) for path in sorted(KEPT.glob("*.json"))}
    return fill(PAGE.read_text(encoding="utf-8"), kept, {name: f"images/performance-{name}.png" for name in kept})


def main() -> None:
    """Keep the runs given, then write the page and the figures."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="*")
    for folder in (given.resolve() for given in parser.parse_args().results):
        write_json(KEPT / f"{folder.name}.json", read_benchmark(folder / BENCHMARK_FILE).to_dict())
    for path in KEPT.glob("*.json"):
        write_figure(read_benchmark(path), ROOT / "docs" / "images" / f"performance-{path.stem}.png")
    write_text(PAGE, page())


if __name__ == "__main__":
    run_script(main)
