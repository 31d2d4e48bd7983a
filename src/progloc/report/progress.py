"""The one progress bar of everything that takes long."""

from __future__ import annotations

__all__ = ["progress_bar"]

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Note(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return what the task's field `note` says."""
        return Text(str(task.fields.get("note", "")))


def progress_bar(console: Console | None) -> Progress:
    """Return a bar that is seen on a terminal alone, and goes when it is done.

    A task may have a field `note`, a text that stands behind its bar.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Note(),
        console=console,
        transient=True,
        disable=console is None or not console.is_terminal,
    )
