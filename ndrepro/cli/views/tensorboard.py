"""A run in TensorBoard while it runs: an observer that writes event files beside what another one shows.

Where the files can no longer be written, the run continues: the reason is printed once, and nothing more is written.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.cli.display import terminal
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol import extras
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing
from provenance.errors import StorageError

if TYPE_CHECKING:
    from ndrepro.exports.tensorboard_events import EventFile

STEP_LOSS = "step_loss"


class TensorBoardObserver(Observer):
    """Forwards everything to ``shown``; writes the results of epochs, their speed, and losses of single steps.

    Results have the names and steps of ``metrics.jsonl``.
    """

    def __init__(self, shown: Observer, folder: Path) -> None:
        self._shown = shown
        self._folder = folder
        self._file: EventFile | None = None
        self._step = 0
        for name in ("reading", "images_read", "reading_ended", "left_out", "resuming"):  # nothing is written of these
            setattr(self, name, getattr(shown, name))

    def began(self, folder: RunFolder, request: Request) -> None:
        """Open the run's event file."""
        from ndrepro.exports.tensorboard_events import EventFile  # of few runs

        self._shown.began(folder, request)
        try:
            self._file = EventFile(self._folder, f"{folder.root.parent.name}/{folder.root.name}")
        except StorageError as error:
            self._give_up(error)

    def progress(self, progress: Progress) -> None:
        """Write the loss of the last step, once a step."""
        self._shown.progress(progress)
        if progress.loss is not None and progress.step > self._step:
            self._step = progress.step
            self._write(progress.step, {STEP_LOSS: progress.loss})

    def epoch(self, scores: Scores, timing: Timing) -> None:
        """Write the epoch's results, and have them on disk."""
        self._shown.epoch(scores, timing)
        results = {name: value for name, value in asdict(scores).items() if value is not None}
        step, epoch = results.pop("step"), results.pop("epoch")
        self._write(step, {**results, "epoch": epoch, "images_per_second": timing.images_per_second})
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._file is not None:
            self._file.__exit__(None, None, None)
            self._file = None

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._file is not None:
            try:
                self._file.add(step, values, time.time())
            except StorageError as error:
                self._give_up(error)

    def _give_up(self, error: StorageError) -> None:
        self._file = None
        terminal.write_line(f"note: --tensorboard: {error.message}; the run continues without event files", sys.stderr)


@contextmanager
def watched_in_tensorboard(shown: Observer, folder: Path | None) -> Iterator[Observer]:
    """``shown``, or an observer that writes event files below ``folder`` too. Raises MissingExtra before anything."""
    if folder is None:
        yield shown
        return
    extras.require("tensorboard")
    observer = TensorBoardObserver(shown, folder)
    try:
        yield observer
    finally:
        observer.close()
