"""What every script here does with its command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from progloc.errors import ProglocError


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
