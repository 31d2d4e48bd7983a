"""A suite as part of a page of the documentation, and the little of its folder that is kept to write it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from progloc.files import read_mapping, write_json, write_text
from progloc.paper.claims import answers
from progloc.paper.figures import Drawing
from progloc.paper.provenance import made_by
from progloc.paper.suite import SUITE_FILE, Suite, load_suite
from progloc.paper.suite_report import summary
from progloc.paper.tables import suite_tables
from progloc.paper.verdicts import Answer
from progloc.report.formats import ABSENT
from progloc.report.table import Column, Table, brief, filled, to_markdown
from progloc.run_folder import RESULT_FILE

_DECIDING = ("Table 7:", "Table 5, tested: gap at equal F°,", "Table 1:")
"""The tables that a page shows of a suite, by how their titles begin: the first one that there is."""


def _without_heads(report: Mapping[str, Any]) -> dict[str, Any]:
    layers = [{key: value for key, value in layer.items() if key != "heads"} for layer in report["layers"]]
    return {**report, "layers": layers}


def keep(folder: Path, kept: Path) -> None:
    """Copy a suite's `suite.json` and every `result.json`, without single heads and without epochs' layers.

    What `load_suite` reads and every table and figure needs is all there.

    Args:
        folder: a suite's folder.
        kept: where the copy goes, with the same layout; runs that are there and not in ``folder`` stay.

    Raises:
        ProglocError: ``folder`` holds no suite, or a file of it is damaged.
    """
    suite = load_suite(folder)
    for run in suite.runs:
        path = Path("runs") / f"{run.name}-seed{run.seed}" / RESULT_FILE
        result = read_mapping(folder / path)
        epochs = [
            {key: value for key, value in epoch.items() if not isinstance(value, list)} for epoch in result["epochs"]
        ]
        reports = {key: _without_heads(result[key]) for key in ("before", "final", "elsewhere") if result.get(key)}
        write_json(kept / path, {**result, **reports, "epochs": epochs})
    write_json(kept / SUITE_FILE, dict(suite.plan))


def kept_in(folder: Path) -> list[Path]:
    """Return the suites that `keep` left in a folder, by name; of others it may hold no more than their audits."""
    return sorted(path.parent for path in folder.glob(f"*/{SUITE_FILE}"))


def _claims(claims: list[Answer]) -> str:
    """Return a row for each claim that the suite's runs can test, and a line that names the others."""
    tested = [claim for claim in claims if claim.figure != ABSENT]
    columns = tuple(Column(label, text=True) for label in ("Claim", "Verdict", "Figure"))
    rows = tuple((f"{claim.id} {claim.question}", claim.verdict, claim.figure) for claim in tested)
    others = ", ".join(claim.id for claim in claims if claim not in tested)
    note = f"Not tested by these runs: {others}." if others else ""
    return to_markdown(Table("The paper's claims", note, columns, rows))


def _deciding_table(suite: Suite) -> list[Table]:
    """Return the table that answers what the suite was made for, without details; none before a run has finished."""
    tables = [table for start in _DECIDING for table in suite_tables(suite) if table.title.startswith(start)]
    # the page's head explains the columns of Table 1 once
    return [
        replace(brief(table), note="" if table.title.startswith(_DECIDING[-1]) else table.note) for table in tables[:1]
    ]


def suite_markdown(title: str, suite: Suite, pictures: Mapping[str, Drawing]) -> str:
    """Return a suite's section of a page: summary, the deciding table, claims, figures, and what made it.

    Args:
        title: the section's.
        suite: with at least one finished run.
        pictures: its figures, by where the page finds them.
    """
    claims, made = answers(suite), dict(made_by(suite))
    versions = ", ".join(f"{key} {made[key]}" for key in ("progloc", "torch", "transformers", "python"))
    missing = [f"Missing runs: {', '.join(run.folder for run in suite.missing)}.", ""] if suite.missing else []
    return "\n".join(
        [
            f"## {title}",
            "",
            summary(suite, claims),
            "",
            *(f"#{to_markdown(table)}" for table in _deciding_table(suite)),
            f"#{_claims(claims)}",
            *(f"![{picture.title}]({path})\n" for path, picture in pictures.items()),
            *missing,
            f"Made by `{made['command']}` ({versions}; {made['device']}).",
            "",
        ]
    )


def write_tables(page: Path, script: str, tables: Sequence[Table], console: Console) -> None:
    """Show a script's tables, and put them into the page that has a place for them, if it is there.

    Args:
        page: with the marks that `filled` looks for.
        script: the script, as the marks name it.
        tables: what it found.
        console: where they are shown.
    """
    written = "\n".join(map(to_markdown, tables))
    console.print(written, soft_wrap=True, markup=False, emoji=False)
    if page.exists():
        write_text(page, filled(page.read_text(encoding="utf-8"), script, written))
