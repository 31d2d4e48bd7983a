"""`progloc schedule`, `blocks` and `doctor`: looking at parts, and at the machine."""

from __future__ import annotations

__all__ = ["blocks", "doctor", "schedule"]

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from progloc.cli.options import Json, app, given, notes, out_console, print_line, schedule_value
from progloc.errors import ProglocError
from progloc.report.printing import print_json

BENCH: dict[str, Any] = {"rich_help_panel": "With --bench"}


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="A name, or numbers separated by commas.")],
    layers: Annotated[
        int | None, typer.Option(help="The number of layers L; default 12, or the list's length.")
    ] = None,
    heads: Annotated[int, typer.Option(help="The heads of a layer, for schedules in which they differ.")] = 12,
    denominator: Annotated[str, typer.Option(help="L-1 as in the paper's tables, or L as in its formula.")] = "L-1",
    as_json: Json = False,
) -> None:
    """Show λ(ℓ) of a schedule, layer by layer; of one that is learned, what it begins with."""
    from progloc.cli.display import schedule_table
    from progloc.schedules import parse_schedule

    value = schedule_value(name)
    if denominator not in ("L-1", "L"):
        raise ProglocError(f"--denominator {denominator}; expected L-1 or L")
    count = layers if layers is not None else (12 if isinstance(value, str) else len(value))
    found = parse_schedule(value, denominator)
    if heads < 1:
        raise ProglocError(f"--heads {heads}; expected at least one")
    lambdas, by_head = found.resolve(count, heads)
    if as_json:
        print_json({"schedule": found.name, "layers": count, "lambdas": lambdas, "head_lambdas": by_head})
    else:
        out_console.print(schedule_table(found.name, lambdas, by_head))


@app.command()
def blocks(
    partitioner: Annotated[str, typer.Argument(metavar="PARTITIONER", help="Such as fixed:5.")],
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="The text; - or nothing reads standard input.")] = "-",
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "scratch:tiny",
    as_json: Json = False,
) -> None:
    """Show how a partitioner divides a text."""
    from progloc.cli.display import coloured_blocks
    from progloc.evaluation import partition_text

    found = partition_text(partitioner, file, model)
    if as_json:
        print_json(found)
    else:
        out_console.print(coloured_blocks(found), soft_wrap=True, end="")


@app.command()
def doctor(
    bench: Annotated[
        bool, typer.Option("--bench", help="Time training steps with and without the penalty: ten minutes and more.")
    ] = False,
    lengths: Annotated[
        str | None, typer.Option(help="Sequence lengths, e.g. 128,1024; 128x32 for a batch of 32.", **BENCH)
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens a step: the batch is as many sequences.", **BENCH)] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed steps of each variant.", **BENCH)] = None,
    layers: Annotated[int | None, typer.Option(help="The model's layers; GPT-2's 12.", **BENCH)] = None,
    width: Annotated[int | None, typer.Option(help="The model's width; GPT-2's 768.", **BENCH)] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Time what this regular expression names, and what that stands against.", **BENCH),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Time compiled models too.", **BENCH)] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder; default results/bench.", **BENCH)] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine can run, and how fast; with --bench, what the penalty costs a step."""
    options = given(lengths=lengths, tokens=tokens, repeats=repeats, layers=layers, width=width, only=only)
    if bench:
        _bench({**options, "compiled": compiled}, out or Path("results") / "bench", as_json)
        return
    if options or compiled or out is not None:
        raise ProglocError("options of the benchmark were given without --bench; run progloc doctor --bench …")
    from progloc.doctor import examine, to_table

    found = examine()
    if as_json:
        print_json(found)
    else:
        out_console.print(to_table(found))


def _bench(options: dict[str, Any], folder: Path, as_json: bool) -> None:
    from progloc.benchmark import made_by, run_benchmark, run_tables, settings_for
    from progloc.benchmark.report import write_report
    from progloc.report.table import to_rich

    run_benchmark(settings_for(**options), folder, notes, "progloc " + shlex.join(sys.argv[1:]))
    found = write_report(folder)
    if as_json:
        print_json(found.to_dict())
        return
    for table in run_tables(found):
        out_console.print(to_rich(table))
    out_console.print(made_by(found), style="dim", highlight=False)
    print_line("\nAlso written: " + ", ".join(str(path) for path in sorted(folder.iterdir())))
