"""`python -m progloc`."""

from progloc.cli import main

__all__ = ["main"]

main()
