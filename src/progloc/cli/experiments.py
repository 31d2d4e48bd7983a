"""`progloc reproduce` and `progloc report`: the paper's experiments, and their report."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from progloc.cli.options import Corpus, Json, Model, Out, SecondCorpus, app, drop_unset, notes, out_console, print_line
from progloc.errors import ProglocError
from progloc.report.printing import print_json

if TYPE_CHECKING:
    from progloc.paper.suite import Suite


@app.command()
def reproduce(
    suite: Annotated[
        str,
        typer.Option(help="paper-v1 or paper-v3; quick or quick-v3 for a small model; or a YAML file."),
    ] = "quick",
    model: Model = None,
    corpus: Corpus = None,
    second_corpus: SecondCorpus = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Number of seeds, or a range FIRST:END (2:3 is seed 2 alone); default: the suite's."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run the paper's experiments, with all architectures (v1) or semantic blocks (v3), and test its claims."""
    from progloc.paper.plan import plan, read_preset
    from progloc.paper.runner import run_suite
    from progloc.paper.suite_report import write_report

    name, preset = read_preset(suite)
    folder = out or Path("results") / name
    planned = plan(name, preset, drop_unset(model=model, corpus=corpus, second_corpus=second_corpus), _seeds(seeds))
    run_suite(planned, folder, notes, "progloc " + shlex.join(sys.argv[1:]))
    _show_report(write_report(folder), folder, as_json)


def _seeds(text: str | None) -> int | range | None:
    """Return what is asked for as `plan` takes it: a number of seeds, or those from FIRST to before END."""
    if text is None:
        return None
    try:
        first, colon, end = text.partition(":")
        return range(int(first), int(end)) if colon else int(text)
    except ValueError:
        raise ProglocError(f"--seeds {text}; expected a whole number ≥ 1, or FIRST:END, as in 2:3") from None


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="A folder that `progloc reproduce` made.")],
    as_json: Json = False,
) -> None:
    """Write the tables, figures and page of a suite again, from its finished runs."""
    from progloc.paper.suite_report import write_report

    _show_report(write_report(results), results, as_json)


def _show_report(suite: Suite, folder: Path, as_json: bool) -> None:
    from progloc.cli.display import claims_table
    from progloc.paper.claims import answers
    from progloc.paper.suite import rows
    from progloc.paper.suite_report import summary
    from progloc.paper.tables import suite_tables
    from progloc.report.table import to_terminal

    claims = answers(suite)
    files = [str(folder / name) for name in ("tables.md", "results.csv", "figures", "report.html")]
    if as_json:
        print_json({"results": rows(suite), "claims": [dataclasses.asdict(claim) for claim in claims], "files": files})
        return
    out_console.print(to_terminal(suite_tables(suite)))
    out_console.print(claims_table(claims))
    out_console.print(summary(suite, claims))
    print_line("\nAlso written: " + ", ".join(files[:-1]))
    print_line(f"The page, with intervals and reasons: {files[-1]}")
