"""What a run looks like while it runs: in a terminal a live table, elsewhere one plain line an epoch.

    lenet with nd on digits, 3 epochs, batch 128, seed 0, deterministic, 2 threads
    runs/lenet_nd_3_digits/20261121T101502Z-3f9a1c

      epoch      loss      train       test   images/s      left
        1/3    2.3121    10.86 %    14.17 %        212      0:24
        2/3    1.9023    ===========-------        215      0:12

Finished epochs are printed for good and scroll away as any text does; only the last row moves, its bar showing how
much of the epoch is done. An observer that can no longer print goes silent: the run is worth more than its display.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ndrepro.cli.display import terminal, words
from ndrepro.cli.display.lines import LineDisplay
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_HEADINGS = ("epoch", "loss", "train", "test", "images/s", "left")
_WIDTHS = (11, 10, 11, 11, 11, 10)
# the bar stands in the place of both accuracies, clear of the loss
_BAR_INDENT = 4
_BAR_WIDTH = _WIDTHS[2] + _WIDTHS[3] - _BAR_INDENT


class Display(LineDisplay, Observer, ABC):
    """An observer that prints to ``console`` and knows how far the run is; used as a context manager."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.experiment: Experiment | None = None
        self.epochs_done = 0
        self.seconds_left: float | None = None

    def resuming(self, step: int, refused: tuple[str, ...]) -> None:
        """Print where the run resumes, and every checkpoint that is not taken."""
        for line in refused:
            self.say(f"refused  {line}")
        self.say(f"resuming from the checkpoint after step {step}" if step else "starting over: no checkpoint verifies")

    def began(self, folder: RunFolder, request: Request) -> None:
        """Say what runs and where."""
        self.experiment = request.experiment
        self.say(words.summary(request.experiment))
        self.say(terminal.here(folder.root))

    def progress(self, progress: Progress) -> None:
        """Remember the time left, for the next epoch's row."""
        self.seconds_left = progress.seconds_left

    def epoch(self, scores: Scores, timing: Timing) -> None:
        """Print the epoch's row."""
        self.epochs_done = scores.epoch
        cells = (
            self.counted(scores.epoch),
            words.loss(scores.train_loss),
            words.percent(scores.train_accuracy),
            words.percent(scores.test_accuracy),
            words.rate(timing.images_per_second),
            words.clock(self.seconds_left),
        )
        self.say(self.row(cells))

    @abstractmethod
    def row(self, cells: tuple[str, ...]) -> str:
        """One finished epoch as one line, of its cells in the order of ``_HEADINGS``."""

    def counted(self, epoch: int) -> str:
        """``2/3``."""
        return f"{epoch}/{self.experiment.epochs if self.experiment else '?'}"


class PlainLines(Display):
    """For pipes, log files and dumb terminals: one line an epoch, nothing that moves."""

    def row(self, cells: tuple[str, ...]) -> str:
        """The epoch with every number named, so that a line stands for itself."""
        epoch, loss, train, test, rate, left = cells
        return f"epoch {epoch}  loss {loss}  train {train}  test {test}  {rate} images/s  {left} left"


class LiveTable(Display):
    """For terminals: finished epochs as rows, and one moving row below them."""

    def began(self, folder: RunFolder, request: Request) -> None:
        """Print the heading and start the moving row."""
        from rich.text import Text

        super().began(folder, request)
        self.say("")
        self.say(Text(_columns(_HEADINGS), style="dim"))
        self.show_live()
        self.progress(Progress("starting", request.resume_step, None, None, 0.0, None, None))

    def progress(self, progress: Progress) -> None:
        """Redraw the moving row."""
        super().progress(progress)
        self.redraw(lambda: self._moving_row(progress))

    def row(self, cells: tuple[str, ...]) -> str:
        """The epoch in columns."""
        return _columns(cells)

    def _moving_row(self, progress: Progress) -> RenderableType:
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        fraction = self._epoch_fraction(progress)
        middle: RenderableType
        if progress.phase == "training" and fraction is not None:
            bar = ProgressBar(
                total=1.0, completed=fraction, width=_BAR_WIDTH, complete_style="cyan", finished_style="cyan"
            )
            middle = Padding(bar, (0, 0, 0, _BAR_INDENT))
        else:
            middle = Text(f"{progress.phase} {words.clock(progress.elapsed_seconds)}", style="cyan")
        epochs = self.experiment.epochs if self.experiment else 0
        left = _columns((self.counted(min(self.epochs_done + 1, epochs)), words.loss(progress.loss)))
        right = (
            f"{words.rate(progress.images_per_second):>{_WIDTHS[4]}}{words.clock(progress.seconds_left):>{_WIDTHS[5]}}"
        )
        row = Table.grid(padding=0)
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, width=_BAR_INDENT + _BAR_WIDTH, justify="right")
        row.add_column(no_wrap=True)
        row.add_row(Text(left), middle, Text(right))
        return row

    def _epoch_fraction(self, progress: Progress) -> float | None:
        """How much of the epoch in hand is done; it stays full while the epoch is evaluated."""
        if not (progress.total_steps and self.experiment and self.experiment.epochs):
            return None
        steps_per_epoch = progress.total_steps / self.experiment.epochs
        return min(1.0, max(0.0, progress.step / steps_per_epoch - self.epochs_done))


def watching(*, quiet: bool, error: bool) -> AbstractContextManager[Observer]:
    """The observer that suits: none if ``quiet``, in a terminal wide enough the table, else plain lines.

    ``error`` puts it on standard error, where standard output is kept for JSON.
    """
    if quiet:
        return nullcontext(Observer())
    console = terminal.console(error)
    table = console.is_terminal and not console.is_dumb_terminal and console.width >= sum(_WIDTHS)
    return LiveTable(console) if table else PlainLines(console)


def _columns(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))
