"""What is seen while many manifests are verified: a line on the terminal, which goes when it is done.

It is on standard error, and nowhere in a pipe or with ``--json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ndrepro.cli.display import terminal

# fewer are done before the line could be read
_WORTH = 500


@contextmanager
def counted(as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A function that is called with how many manifests are verified, and of how many."""
    if as_json or not terminal.console(error=True).is_terminal:
        yield lambda done, count: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn("verifying manifests")
    numbers = TextColumn("{task.completed:,.0f} of {task.total:,.0f}")
    columns = words, BarColumn(), numbers, TimeRemainingColumn()
    with Progress(*columns, console=terminal.console(error=True), transient=True, auto_refresh=False) as line:
        task = line.add_task("", total=None, visible=False)

        def show(done: int, count: int) -> None:
            line.update(task, completed=done, total=count, visible=count >= _WORTH and done < count, refresh=True)

        yield show
