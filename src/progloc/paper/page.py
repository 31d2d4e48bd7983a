"""A suite as part of a page of the documentation, and the little of its folder that is kept to write it again."""

from __future__ import annotations

__all__ = ["keep", "kept_in", "suite_markdown", "write_tables"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from progloc.files import read_mapping, write_json, write_text
from progloc.paper.claims import answers
from progloc.paper.figures import Drawing
from progloc.paper.provenance import made_by
from progloc.paper.report import summary
from progloc.paper.results import SUITE_FILE, Suite, load_suite
from progloc.paper.tables import reading, suite_tables
from progloc.paper.verdicts import Answer
from progloc.report.table import Column, Table, filled, to_markdown
from progloc.run_folder import RESULT_FILE


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


def _claims(found: list[Answer]) -> Table:
    columns = tuple(Column(label, text=True) for label in ("Claim", "Verdict", "Figure", "Interval", "Reason"))
    rows = tuple((f"{a.id} {a.question}", a.verdict, a.figure, a.interval, a.reason) for a in found)
    note = "“Cannot tell” means: not from this run. It is no verdict on the claim."
    return Table("The paper's claims, put to the test", note, columns, rows)


def suite_markdown(suite: Suite, pictures: Mapping[str, Drawing]) -> str:
    """Return a suite's section of a page: summary, claims, figures, every table, and what made it.

    Args:
        suite: with at least one finished run.
        pictures: its figures, by where the page finds them.
    """
    found = answers(suite)
    missing = [f"- **missing runs**: {', '.join(run.folder for run in suite.missing)}"] if suite.missing else []
    return "\n".join(
        [
            f"## Suite {suite.plan.get('suite', '')}".rstrip(),
            "",
            summary(suite, found),
            "",
            reading(suite),
            "",
            f"#{to_markdown(_claims(found))}",
            *(f"![{each.title}]({path})\n\n*{each.title}.* {each.caption}\n" for path, each in pictures.items()),
            *(f"#{to_markdown(made)}" for made in suite_tables(suite)),
            "### What made it",
            "",
            *(f"- {label}: `{value}`" for label, value in made_by(suite)),
            *missing,
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
