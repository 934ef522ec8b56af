"""What every live display does: it is a context, it says why it waits, it prints lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ndrepro.cli.display import terminal, words
from ndrepro.cli.display.counting import ImagesCounter

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console, RenderableType
    from rich.live import Live


class LineDisplay:
    """Prints to ``console``, a line at a time; used as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None  # what moves below the lines that stay, if anything does
        self._counter: ImagesCounter | None = None

    def __enter__(self) -> Self:
        """Show nothing before there is something to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take away what moves, and show the cursor again."""
        if self._live is not None:
            with self._silent_when_broken():
                self._live.stop()
            self._live = None

    def show_live(self) -> None:
        """Begin to show what moves; no thread refreshes it: ``redraw`` does when there is news."""
        from rich.live import Live

        self._live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def redraw(self, picture: Callable[[], RenderableType]) -> None:
        """Show this below the lines that stay, if anything moves there."""
        if self._live is not None:
            with self._silent_when_broken():
                self._live.update(picture(), refresh=True)

    @contextmanager
    def _silent_when_broken(self) -> Iterator[None]:
        """Where printing fails, nothing more is printed."""
        try:
            yield
        except OSError:
            self.console.quiet = True

    def reading(self, dataset: str, data: Path) -> None:
        """Say why nothing else is seen for a while, and count what is read."""
        self.say(words.reading(dataset, terminal.here(data)))
        self._counter = ImagesCounter(dataset)

    def images_read(self, what: str, done: int, total: int) -> None:
        """Show how many images are read."""
        if self._counter is not None:
            self._counter.show(what, done, total)

    def reading_ended(self) -> None:
        """Take the counter away."""
        if self._counter is not None:
            self._counter.stop()
            self._counter = None

    def left_out(self, dataset: str, summary: str) -> None:
        """Say which files are not trained on."""
        self.say(terminal.single_line(f"{dataset}: {summary}"))

    def say(self, line: RenderableType) -> None:
        """Print one line, in one piece."""
        with self._silent_when_broken():
            self.console.print(line, soft_wrap=True)
