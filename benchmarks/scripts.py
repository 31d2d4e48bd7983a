"""What the scripts here share: their command line, and how their tables come into a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from progloc.errors import ProglocError
from progloc.files import write_text
from progloc.report.table import Table, filled, to_markdown


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose --help shows a script's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run_script(main: Callable[[], None]) -> None:
    """Call ``main``; bad input ends with one line on standard error and status 2."""
    try:
        main()
    except ProglocError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


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
