"""What commands share: the application, its two consoles, and options that mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, overload

import typer

from progloc.environment import version
from progloc.errors import ProglocError
from progloc.files import decode_text, read_standard_input
from progloc.report.printing import console

app = typer.Typer(
    name="progloc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"progloc {version()}")
        raise typer.Exit


@app.callback()
def _progloc(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Localise a language model's attention, late layers most, and measure what it costs."""


out_console = console()
notes = console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for results; default: results/NAME.")]
Corpus = Annotated[
    str | None, typer.Option("--corpus", help="A text file, a folder of them, a datasets name, or python-docs.")
]
Model = Annotated[str | None, typer.Option("--model", help="A hub name, a folder, or scratch:tiny.")]
SecondCorpus = Annotated[
    str | None, typer.Option("--second-corpus", help="Another text on which to measure the trained model.")
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", help="Schedule λ(ℓ), e.g. quintic, sigmoid:0.8,12, heads:0.5,quintic, 0,0.5,1."),
]
Blocks = Annotated[
    str | None, typer.Option("--blocks", help="Partitioner that divides the text into blocks, e.g. fixed:5.")
]
Base = Annotated[
    str | None,
    typer.Option("--base", help="Model to compare with; default: the one before localising; 'none' for no comparison."),
]
Length = Annotated[int | None, typer.Option("--sequence-length", help="Tokens per sequence.")]


def text_given(value: str, option: str) -> str:
    """Return the text that an option was given; - reads standard input.

    Raises:
        ProglocError: it is not UTF-8.
    """
    return read_standard_input() if value == "-" else decode_text(value, option)


def print_line(line: str) -> None:
    """Print one line that holds a name or a path, which a terminal's edge does not break."""
    out_console.print(line, soft_wrap=True)


@overload
def schedule_value(text: str) -> str | tuple[float, ...]: ...
@overload
def schedule_value(text: None) -> None: ...
@overload
def schedule_value(text: str | None) -> str | tuple[float, ...] | None: ...
def schedule_value(text: str | None) -> str | tuple[float, ...] | None:
    """Return what --schedule was given: a schedule's name, or the numbers of a comma-separated list."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return numbers


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list, or refuse the option that gave it."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ProglocError(f"{option} '{text}'; expected numbers separated by commas, as in 0,0.5,1") from None


def dial_value(text: str) -> float | tuple[float, ...]:
    """Return what --dial was given: δ, or one δ per layer."""
    deltas = numbers(text, "--dial")
    return deltas[0] if len(deltas) == 1 else deltas


def drop_unset(**options: object) -> dict[str, Any]:
    """Return the options without those that nobody set."""
    return {name: value for name, value in options.items() if value is not None}
