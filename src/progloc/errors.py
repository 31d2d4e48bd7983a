"""The one exception a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ProglocError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that says what was given, what is expected and, where it helps, what to run next.
    The command line prints it and exits with status 2; nothing has been half-written when it is raised.
    """


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``"known: a, b, c"``, preceded by the nearest match to ``name`` where there is one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return (f"did you mean '{near[0]}'? " if near else "") + "known: " + ", ".join(names)
