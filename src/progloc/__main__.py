"""`python -m progloc`."""

from progloc.cli import main

main()
