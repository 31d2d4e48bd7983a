"""Time training steps with and without the penalty, side by side: what locality costs a step, in time and memory.

    python benchmarks/step_cost.py [--lengths 128,1024] [--compile] [--out results/bench]

A table is printed, and `benchmark.json`, `performance.md` and `performance.png` are written. Ten minutes and more.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from progloc.report.printing import console
from progloc.report.table import to_rich
from scripts import run_script, script_parser
from step_timing import made_by, run_benchmark, run_tables, settings_for
from step_timing.report import write_report


def main() -> None:
    """Read the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--lengths", help="sequence lengths, e.g. 128,1024; 128x32 for a batch of 32")
    parser.add_argument("--tokens", type=int, help="tokens a step: the batch is as many sequences")
    parser.add_argument("--repeats", type=int, help="timed steps of each variant")
    parser.add_argument("--layers", type=int, help="the model's layers; GPT-2's 12")
    parser.add_argument("--width", type=int, help="the model's width; GPT-2's 768")
    parser.add_argument("--only", help="time what this regular expression names, and what that stands against")
    parser.add_argument("--compile", dest="compiled", action="store_true", help="time compiled models too")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="results folder")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON document for machines")
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    out, as_json = options.pop("out"), options.pop("as_json")
    command = f"python benchmarks/step_cost.py {shlex.join(sys.argv[1:])}".rstrip()
    run_benchmark(settings_for(**options), out, console(stderr=True), command)
    benchmark = write_report(out)
    if as_json:
        print(json.dumps(benchmark.to_dict(), indent=2))
        return
    screen = console()
    for table in run_tables(benchmark):
        screen.print(to_rich(table))
    screen.print(made_by(benchmark), style="dim", highlight=False)
    screen.print("\nAlso written: " + ", ".join(str(path) for path in sorted(out.iterdir())), soft_wrap=True)


if __name__ == "__main__":
    run_script(main)
