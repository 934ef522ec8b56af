"""What a study looks like while it runs: in a terminal one bar over all its runs and a line for each under way.

    vgg11_bn_1_digits: completed, train 12.50 %, test 9.38 %, 0:09
    dpn92_nd_1_digits: failed: device=cuda: torch sees no GPU here
      study  ========--------------    7/24   1 failed   2:41 left
      preact18_nd_1_digits           training  ====----   1/2 steps

Elsewhere one plain line as a run begins and one as it ends. Whatever happens to the display, the study continues.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ndrepro.cli.display import study_words, terminal, words
from ndrepro.cli.display.lines import LineDisplay
from ndrepro.execution.runs.observer import Progress
from ndrepro.execution.studies.carry_out import StudyObserver
from ndrepro.execution.studies.launchers import Began, Ended, Event, Job, Moved
from ndrepro.execution.studies.plan import StudyPlan
from ndrepro.execution.studies.run_status import RunStatus
from ndrepro.protocol.study.study import StudyRun
from ndrepro.text.plurals import plural

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


_BAR_WIDTH = 30
_LEAST_WIDTH = 80


class StudyLines(LineDisplay, StudyObserver):
    """One line as a run begins and one as it ends; for pipes, log files and narrow terminals."""

    def __init__(self, console: Console, jobs: int) -> None:
        super().__init__(console)
        self.jobs = jobs
        self.total = self.done = self.failed = 0
        self.began_at: dict[str, float] = {}
        self.under_way: dict[str, tuple[Job, Progress | None]] = {}

    def started(self, plan: StudyPlan) -> None:
        """Say what there is to do."""
        self.total, self.done = len(plan.items), plan.states["done"]
        count = plural(len(plan.todo), "run")
        estimate = f"about {study_words.duration(plan.seconds)} of device time, {words.size(plan.disk_bytes)} of disk"
        self.say(f"{plan.study.name}: {self.done} of {self.total} done; {count} to do, {estimate}")
        if where := study_words.where(plan):
            self.say(f"in {where}")
        for note in plan.notes:
            self.say(f"note: {note}")
        if plan.disk_bytes > plan.free_bytes:
            self.say(f"warning: only {words.size(plan.free_bytes)} free on the disk of the runs")

    def event(self, event: Event) -> None:
        """Keep the account, and print what deserves a line."""
        key = event.job.run.identity
        if isinstance(event, Began):
            self.began_at[key] = time.monotonic()
            self.under_way[key] = (event.job, None)
            self.began(event)
        elif isinstance(event, Moved):
            self.under_way[key] = (event.job, event.progress)
        else:
            self.under_way.pop(key, None)
            completed = event.ending.outcome == "completed" and event.ending.signed
            self.done += completed
            self.failed += not completed
            self.say(self.ending(event))

    def began(self, event: Began) -> None:
        """Say where a run is."""
        word = "resumes" if event.job.resume else "starts"
        where = terminal.here(event.folder.root)
        self.say(f"[{self.done + self.failed + 1}/{self.total}] {event.job.run.label} {word} in {where}")

    def ending(self, event: Ended) -> str:
        """One finished run as one line."""
        ending, label = event.ending, event.job.run.label
        began = self.began_at.get(event.job.run.identity)
        spent = f", {words.clock(time.monotonic() - began)}" if began is not None else ""
        scores = f", {words.accuracies(ending.scores)}" if ending.scores else ""
        error = f": {' '.join(ending.error.message.split())}" if ending.error else ""
        return f"{label}: {ending.outcome}{scores}{spent}{error}"

    def passed(self, run: StudyRun, status: RunStatus) -> None:
        """Say why a run is not run."""
        self.done += status.state == "done"
        self.say(f"{run.label}: {status.state} already")

    def stopping(self, times: int) -> None:
        """Say that Ctrl-C was heard."""
        if times == 1:
            self.say("stopping: what is under way ends at its next step and is signed; Ctrl-C again does not wait")
        else:
            self.say("killing what is under way; it is signed as killed")

    def say(self, line: RenderableType) -> None:
        """Print one line, which a terminal breaks where it must."""
        with self._silent_when_broken():
            self.console.print(line, overflow="fold", soft_wrap=not self.console.is_terminal)


class LiveBar(StudyLines):
    """A bar over the whole study and a line for each run under way, below the lines that stay."""

    def __init__(self, console: Console, jobs: int) -> None:
        super().__init__(console, jobs)
        self._started_at = time.monotonic()
        self._seconds: dict[str, float] = {}  # estimated, of what was to do
        self._over = 0.0  # estimated seconds of what has ended since

    def started(self, plan: StudyPlan) -> None:
        """Say what there is to do, and begin to draw."""
        super().started(plan)
        self._seconds = {item.run.identity: item.left.seconds for item in plan.todo}
        self.show_live()
        self.redraw(self._picture)

    def event(self, event: Event) -> None:
        """Keep the account and draw it."""
        super().event(event)
        if isinstance(event, Ended):
            self._over += self._seconds.pop(event.job.run.identity, 0.0)
        self.redraw(self._picture)

    def began(self, event: Began) -> None:
        """Its line below the bar says so."""

    def _picture(self) -> RenderableType:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "right", "right"):
            table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
        inside = sum(_fraction(progress) for _, progress in self.under_way.values())
        counted = f"{self.done + self.failed}/{self.total}" + (f"  {self.failed} failed" if self.failed else "")
        share = (self.done + self.failed + inside) / max(1, self.total)
        table.add_row("study", _bar(share, "green"), counted, f"{words.clock(self._seconds_left())} left")
        for job, progress in self.under_way.values():
            phase = progress.phase if progress else "starting"
            steps = f"{progress.step}/{progress.total_steps} steps" if progress and progress.total_steps else ""
            table.add_row(job.run.label, _bar(_fraction(progress), "cyan"), phase, steps)
        return table

    def _seconds_left(self) -> float:
        """The estimate for what is left, corrected by how the estimates have held so far."""
        inside = sum(_fraction(progress) * self._seconds.get(key, 0.0) for key, (_, progress) in self.under_way.items())
        left = sum(self._seconds.values()) - inside
        estimated = self._over + inside
        pace = (time.monotonic() - self._started_at) / estimated if estimated > 0 else 1 / self.jobs
        return left * pace


def watching(*, jobs: int, error: bool) -> AbstractContextManager[StudyObserver]:
    """The observer that suits: the bar in a terminal wide enough, else plain lines.

    ``error`` puts it on standard error, where standard output is kept for JSON.
    """
    console = terminal.console(error)
    live = console.is_terminal and not console.is_dumb_terminal and console.width >= _LEAST_WIDTH
    return LiveBar(console, jobs) if live else StudyLines(console, jobs)


def _fraction(progress: Progress | None) -> float:
    if progress is None or not progress.total_steps:
        return 0.0
    return min(1.0, progress.step / progress.total_steps)


def _bar(share: float, style: str) -> RenderableType:
    from rich.progress_bar import ProgressBar

    return ProgressBar(
        total=1.0, completed=min(1.0, share), width=_BAR_WIDTH, complete_style=style, finished_style=style
    )
