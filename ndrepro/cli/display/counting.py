"""Counters of what takes long: manifests that are verified, images that are read. The line goes when it is done.

It is on standard error of a terminal, and nowhere else.
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


class ImagesCounter:
    """How many images of a data set are read, and for how long: of official archives the time alone."""

    def __init__(self, dataset: str) -> None:
        from rich.progress import Progress, TextColumn, TimeElapsedColumn

        console = terminal.console(error=True)
        columns = TextColumn("{task.description}"), TimeElapsedColumn()
        self._dataset = dataset
        self._line = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._line.add_task(f"reading {dataset}", total=None)
        self._line.start()

    def show(self, what: str, done: int, total: int) -> None:
        """Show how many of ``total`` images are read, of the split or pass ``what``."""
        text = f"reading {self._dataset}: {what}, {done:,} of {total:,} images"
        self._line.update(self._task, description=text)

    def stop(self) -> None:
        """Take the line away."""
        self._line.stop()
