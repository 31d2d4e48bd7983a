"""Show text that progloc did not write itself as it is: no markup, nothing hidden, in any encoding."""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

_HIDDEN = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, surrogates, and what Unicode calls ignorable: of no width, or turning the direction of writing.

Tab, line break, and the two marks that choose between a symbol and its emoji are not among them.
"""
_ASCII = str.maketrans({
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "λ": "lambda", "ρ": "rho", "Σ": "sum", "ℓ": "l"},
    **{"×": "x", "÷": "/", "±": "+/-", "−": "-", "·": "-", "–": "-", "—": "-", "…": "...", "°": "o", "Δ": "d"},
    **{"≤": "<=", "≥": ">=", "→": "->", "←": "<-", "▸": ">", "│": "|", "█": "#", "“": '"', "”": '"', "’": "'"},
})  # fmt: skip
"""The symbols of progloc's own tables and sentences."""
_ON_ANY = "progloc.on-any-encoding"


def visible(text: str) -> str:
    """Return a text with the name, as `<U+202E>`, of every character that hides or reorders text or is a control."""
    return _HIDDEN.sub(lambda hidden: f"<U+{ord(hidden[0]):04X}>", text)


def one_line(text: str) -> str:
    """Return a text as `visible` shows it, with one space for every run of white space."""
    return " ".join(visible(text).split())


class _Plain(Console):
    """A console that prints strings as they are: no markup, no emoji, nothing hidden; in a pipe, lines stay whole."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich's text."""
        return super().render_str(visible(text), **options)


def console(*, stderr: bool = False) -> Console:
    """Return a console for the present standard output or standard error."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else sys.maxsize
    return _Plain(stderr=stderr, markup=False, emoji=False, width=width)


def with_title(title: str, table: RenderableType, *below: str) -> Group:
    """Return a table under its title and above some lines; rich's own titles and captions break at a table's width."""
    return Group(Text(visible(title), style="table.title"), table, *below)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Write in ASCII what an encoding lacks: progloc's own symbols by name, others as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_ON_ANY, _replaced)


def print_on_any_encoding() -> None:
    """Make standard output and error accept any text from now on, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ON_ANY)


def print_json(value: object, indent: int | None = 2) -> None:
    """Print one JSON document, in ASCII: every encoding has it, and it holds no control characters."""
    print(json.dumps(value, indent=indent))
