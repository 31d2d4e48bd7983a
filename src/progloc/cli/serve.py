"""The commands that serve audits and read what raters of a study answered."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from progloc.cli.options import Base, Blocks, Json, Schedule, app, notes, out_console, schedule_value
from progloc.report.printing import print_json, visible


@app.command()
def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or a hub name.")],
    base: Base = None,
    schedule: Schedule = None,
    blocks: Blocks = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8642,
    data: Annotated[
        Path | None, typer.Option(help="SQLite file for requests and ratings; default: results/serve-MODEL.sqlite.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Text file with a survey's prompts, one per paragraph; raters open /study.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Accept other machines, without a password.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve audits to browsers on this machine; with --study, run a survey in which people rate them."""
    from progloc.app.server import serve as run

    file = data or Path("results") / f"serve-{Path(model).name}.sqlite"

    def ready(address: str) -> None:
        if as_json:
            print(json.dumps({"address": address, "data": str(file)}), flush=True)
            return
        lines = [(address, f"what people enter: {file} · Ctrl-C stops")]
        if study is not None:
            lines.append((f"{address}study", f"for raters · progloc study {file}"))
        for where, what in lines:
            out_console.print(Text.assemble(where, (visible(f"  · {what}"), "dim")), soft_wrap=True)

    run(
        model, base, schedule=schedule_value(schedule), blocks=blocks,
        host=host, port=port, data=file, study=study, remote=allow_remote, ready=ready,
        say=lambda line: notes.print(line, style="dim", soft_wrap=True),
    )  # fmt: skip


@app.command()
def study(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="SQLite file of progloc serve --study.")],
    as_json: Json = False,
) -> None:
    """Summarise a survey's ratings: means, paired differences and agreement of raters."""
    from progloc.app.database import Database
    from progloc.app.ratings import rating_result, rating_tables
    from progloc.app.survey import Answers
    from progloc.report.formats import counted
    from progloc.report.table import to_terminal

    with closing(Database(data, create=False)) as database:
        result = rating_result(Answers(database).ratings())
    if as_json:
        print_json(dataclasses.asdict(result))
        return
    out_console.print(to_terminal(rating_tables(result)))
    counts = ((result.ratings, "rating"), (result.raters, "rater"), (result.items, "item"))
    out_console.print(", ".join(counted(number, noun) for number, noun in counts))
