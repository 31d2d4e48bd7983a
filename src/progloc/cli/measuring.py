"""`progloc evaluate`, `generate` and `dial`: a model as it is, and as it is dialled."""

from __future__ import annotations

__all__ = ["dial_command", "evaluate", "generate"]

from pathlib import Path
from typing import Annotated

import typer
from rich.segment import Segment, Segments
from rich.style import Style

from progloc.cli.options import (
    Blocks,
    Corpus,
    Json,
    Length,
    Out,
    Schedule,
    app,
    dial_value,
    notes,
    numbers,
    out_console,
    print_line,
    schedule_value,
    text_given,
)
from progloc.report.printing import print_json, visible


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face folder or hub name, or a run's folder.")
    ],
    corpus: Corpus = "python-docs",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequence_length: Length = None,
    as_json: Json = False,
) -> None:
    """Measure a model on a text: perplexity, fidelity, entropy, penalty and sink mass, by layer and head."""
    from progloc.cli.display import report_table
    from progloc.evaluation import evaluate_folder

    measured = evaluate_folder(
        model,
        corpus or "python-docs",
        schedule=schedule_value(schedule) if schedule is not None else None,
        blocks=blocks,
        sequence_length=sequence_length,
        console=notes,
    )
    if as_json:
        print_json(measured.to_dict())
    else:
        out_console.print(report_table(measured))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or hub name.")],
    prompt: Annotated[str, typer.Option(help="What to go on from; - reads standard input.")],
    dial: Annotated[str, typer.Option(help="δ in [0, 1], or one a layer: 0 as trained, 1 strictly local.")] = "0",
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens at most.")] = 64,
    sample: Annotated[
        bool | None,
        typer.Option(help="Draw tokens, or take the most likely; default as the model's generation_config.json says."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    as_json: Json = False,
) -> None:
    """Let a model go on from a prompt, as local as the dial says."""
    from progloc.evaluation import continue_text

    text = text_given(prompt, "--prompt")
    found = continue_text(model, text, dial=dial_value(dial), tokens=max_new_tokens, sample=sample, seed=seed)
    if as_json:
        print_json(found)
    else:
        parts = ((found["prompt"], Style(dim=True)), (found["continuation"], None), ("\n", None))
        # segments, for in rich's texts a tab becomes blanks
        out_console.print(Segments([Segment(visible(part), style) for part, style in parts]), soft_wrap=True, end="")


@app.command(name="dial")
def dial_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or hub name.")],
    corpus: Corpus = "python-docs",
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model, e.g. one never localised; may be repeated."),
    ] = None,
    deltas: Annotated[str, typer.Option(help="Places of the dial.")] = "0,0.25,0.5,0.75,0.9,1",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequences: Annotated[int, typer.Option(help="How many sequences of the text, spread over it.")] = 32,
    sequence_length: Length = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure a model over the dial: perplexity, locality, and how far what it says moves; a table and a figure."""
    from progloc.dial_curve.dial_report import dial_report, write_dial
    from progloc.report.table import to_rich

    found = dial_report(
        model,
        corpus or "python-docs",
        against or (),
        deltas=numbers(deltas, "--deltas"),
        schedule=None if schedule is None else schedule_value(schedule),
        blocks=blocks,
        sequences=sequences,
        sequence_length=sequence_length,
        console=notes,
    )
    files = write_dial(found, out or Path("results") / f"dial-{Path(model).name.replace(':', '-')}")
    if as_json:
        print_json(found.to_dict())
        return
    for table in (table for table in found.tables() if not table.detail):
        out_console.print(to_rich(table))
    out_console.print(found.conclusion())
    print_line("\nAlso written: " + ", ".join(map(str, files)))
