"""What a run reports while it runs: the terminal's live table is one observer, a study's progress bar another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing


@dataclass(frozen=True)
class Progress:
    """Where a run stands: steps done of all, the last step's loss (``None`` before the first), seconds so far.

    ``phase`` is starting, training, stopping or signing; ``images_per_second`` and ``seconds_left`` are those of the
    last minute, ``None`` until they can be measured.
    """

    phase: str
    step: int
    total_steps: int | None
    loss: float | None
    elapsed_seconds: float
    images_per_second: float | None
    seconds_left: float | None


class DataObserver:
    """Called while data are checked, before anything starts. Says nothing where a method is not its own."""

    def reading(self, dataset: str, data: Path) -> None:
        """Data that are new here are read to see that they are whole, which takes as long as in training."""

    def images_read(self, what: str, done: int, total: int) -> None:
        """So many of ``total`` images are read, of a split or of a pass over all; called a few times a second."""

    def reading_ended(self) -> None:
        """The data were read, or could not be."""

    def left_out(self, dataset: str, summary: str) -> None:
        """Files in the data's folders are not read: how many, why, and one by name."""


class Observer(DataObserver):
    """Called from the parent process, in this order: ``began``, then ``progress`` and ``epoch`` as they come.

    ``resuming`` comes before these, where an earlier attempt is resumed.
    """

    def resuming(self, step: int, refused: tuple[str, ...]) -> None:
        """The run is resumed after ``step`` steps, 0 for its start; why later checkpoints are refused, in words."""

    def began(self, folder: RunFolder, request: Request) -> None:
        """The run folder is made and the ledger has its entry."""

    def progress(self, progress: Progress) -> None:
        """A few times a second."""

    def epoch(self, scores: Scores, timing: Timing) -> None:
        """A whole epoch was trained and evaluated."""
