"""Many runs while they run: one line each, from what their folders hold, however they were started.

Nothing is asked of the processes themselves. A run that appears is added, and one that has ended keeps its line with
how it ended; a folder that cannot be read says so and hides no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.cli.display import words
from ndrepro.execution.runs.run_lookup import RUNNING, RunSummary, summaries
from ndrepro.execution.runs.run_resolver import LATEST
from ndrepro.protocol.experiment.names import folder_name
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.run_kind import TRAINING
from provenance.errors import ProvenanceError
from provenance.formats.trail import Trail

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"completed": "green", RUNNING: "cyan", "interrupted": "yellow"}


@dataclass(frozen=True)
class WatchedRun:
    """A run as it is now: the last step of its trail and the loss there, where there is one."""

    summary: RunSummary
    step: int | None
    loss: float | None

    @property
    def progress(self) -> str:
        """Whole epochs of all, or what kind of run it is."""
        if self.summary.build != TRAINING:
            return self.summary.build
        total = "?" if self.summary.total_epochs is None else self.summary.total_epochs
        return f"{self.summary.epochs}/{total}"

    def to_json(self) -> dict[str, Any]:
        """The run as ``ndrepro list`` has it, with its last step and the loss there."""
        return {**self.summary.to_json(), "step": self.step, "loss": self.loss}


class Watched:
    """The runs of a folder that a view shows: those asked for, and without any the unfinished and what follows them."""

    def __init__(self, runs: Path, asked: Sequence[str]) -> None:
        self._runs = RunsFolder(runs)
        self._asked = tuple(map(folder_name, asked))
        self._before: frozenset[str] | None = None

    def look(self) -> list[WatchedRun]:
        """The runs as they are now, the oldest first."""
        found = summaries(self._runs)
        if self._before is None:
            # what had ended before anybody looked is not watched
            self._before = frozenset(each.run for each in found if each.outcome != RUNNING)
        last = found[-1].run if found and LATEST in self._asked else ""
        return [_watched(each) for each in found if each.run == last or self._is_shown(each)]

    def _is_shown(self, run: RunSummary) -> bool:
        if self._asked:
            return any(run.experiment == word or run.run.startswith(word) for word in self._asked)
        return run.run not in (self._before or ())


def any_running(runs: Iterable[WatchedRun]) -> bool:
    """Whether one of them still runs."""
    return any(each.summary.outcome == RUNNING for each in runs)


def table(runs: Sequence[WatchedRun], rows: int) -> Table:
    """The last ``rows`` runs as a table that fits the terminal."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="dim")
    for heading, justify in (("experiment", "left"), ("run", "left"), ("outcome", "left")):
        shown.add_column(heading, justify=justify, overflow="ellipsis", no_wrap=True)  # type: ignore[arg-type]
    for heading in ("epochs", "step", "loss", "train %", "test %"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in list(runs)[-max(rows, 1) :]:
        texts = [Text(cell) for cell in cells(each)]
        texts[2].stylize(_STYLES.get(each.summary.outcome, "red"))
        shown.add_row(*texts)
    return shown


def cells(run: WatchedRun) -> tuple[str, ...]:
    """One run as words: experiment, identifier, outcome, epochs, step, loss, accuracies."""
    found = run.summary
    return (
        found.experiment,
        found.run[-6:] if len(found.run) > 20 else found.run,
        found.outcome,
        run.progress,
        "-" if run.step is None else str(run.step),
        words.loss(run.loss),
        words.percent(found.train_accuracy).removesuffix(" %"),
        words.percent(found.test_accuracy).removesuffix(" %"),
    )


def _watched(summary: RunSummary) -> WatchedRun:
    """The run with the last step of its trail; of several trails of a program that of the longest."""
    folder = RunFolder(summary.folder)
    last: tuple[int, float] | None = None
    paths = [folder.trail] if summary.build == TRAINING else []
    with suppress(OSError):
        paths += sorted(folder.trails.iterdir()) if folder.trails.is_dir() else []
    for path in paths:
        # a trail that has only started, or is being written, is read the next time
        with suppress(ProvenanceError, OSError, ValueError):
            here = Trail(path).last()
            last = max(filter(None, (last, here)), key=lambda each: each[0], default=None)
    return WatchedRun(summary, *(last or (None, None)))
