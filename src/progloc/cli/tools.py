"""`progloc schedule`, `blocks` and `doctor`: looking at parts, and at the machine."""

from __future__ import annotations

from typing import Annotated

import typer

from progloc.cli.options import Json, app, out_console, schedule_value
from progloc.errors import ProglocError
from progloc.report.printing import print_json


@app.command()
def schedule(
    name: Annotated[
        str, typer.Argument(metavar="SCHEDULE", help="Name of a schedule, or numbers separated by commas.")
    ],
    layers: Annotated[
        int | None, typer.Option(help="Number of layers L; default: 12, or the length of the list.")
    ] = None,
    heads: Annotated[int, typer.Option(help="Number of heads per layer, for schedules in which they differ.")] = 12,
    denominator: Annotated[str, typer.Option(help="L-1 as in the paper's tables, or L as in its formula.")] = "L-1",
    as_json: Json = False,
) -> None:
    """Show λ(ℓ) of a schedule by layer; for a learned one, its start."""
    from progloc.cli.display import schedule_table
    from progloc.schedules import parse_schedule

    value = schedule_value(name)
    if denominator not in ("L-1", "L"):
        raise ProglocError(f"--denominator {denominator}; expected L-1 or L")
    count = layers if layers is not None else (12 if isinstance(value, str) else len(value))
    parsed = parse_schedule(value, denominator)
    if heads < 1:
        raise ProglocError(f"--heads {heads}; expected at least one")
    lambdas, by_head = parsed.resolve(count, heads)
    if as_json:
        print_json({"schedule": parsed.name, "layers": count, "lambdas": lambdas, "head_lambdas": by_head})
    else:
        out_console.print(schedule_table(parsed.name, lambdas, by_head))


@app.command()
def blocks(
    partitioner: Annotated[str, typer.Argument(metavar="PARTITIONER", help="Partitioner, e.g. fixed:5 or sentences.")],
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Text file; default or -: standard input.")] = "-",
    model: Annotated[str, typer.Option(help="Model whose tokenizer to use.")] = "scratch:tiny",
    as_json: Json = False,
) -> None:
    """Show how a partitioner divides a text."""
    from progloc.cli.display import coloured_blocks
    from progloc.evaluation import partition_text

    divided = partition_text(partitioner, file, model)
    if as_json:
        print_json(divided)
    else:
        out_console.print(coloured_blocks(divided), soft_wrap=True, end="")


@app.command()
def doctor(
    as_json: Json = False,
) -> None:
    """Show what this machine can run, and how fast."""
    from progloc.doctor import examine, to_table

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        out_console.print(to_table(findings))
