"""What is shown of work that takes long: a bar, and notes in passing."""

from __future__ import annotations

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
        """Return the task's field `note`."""
        return Text(str(task.fields.get("note", "")))


def progress_bar(console: Console | None) -> Progress:
    """Return a progress bar that is shown only on a terminal, and removed when it is done.

    A task may have a field `note`, a text that is shown after its bar.
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


def print_note(console: Console | None, line: str) -> None:
    """Print a dim line, where there is a console."""
    if console is not None:
        console.print(line, style="dim", soft_wrap=True)
