"""Small studies for tests: LeNet on a few of the bundled digits, one thread, seconds a run."""

from __future__ import annotations

from pathlib import Path

from ndrepro.execution.studies.carry_out import StudyObserver
from ndrepro.execution.studies.launchers import Event
from ndrepro.execution.studies.run_status import RunStatus
from ndrepro.protocol.study.study import StudyRun

SETTINGS = """
[settings]
dataset = "digits"
arch = "lenet"
epochs = 1
batch_size = 16
train_images = 48
test_images = 16
threads = 1
"""


def write_study(folder: Path, grids: str, name: str = "mini", settings: str = SETTINGS) -> Path:
    """A study file with those grids."""
    path = folder / f"{name}.toml"
    path.write_text(f'title = "a small study"\n{settings}\n{grids}\n', encoding="utf-8")
    return path


class Watched(StudyObserver):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.passed_over: list[tuple[StudyRun, RunStatus]] = []
        self.stops = 0
        self.read: list[str] = []

    def reading(self, dataset: str, data: Path) -> None:
        """Keep the name."""
        self.read.append(dataset)

    def event(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def passed(self, run: StudyRun, status: RunStatus) -> None:
        """Keep it."""
        self.passed_over.append((run, status))

    def stopping(self, times: int) -> None:
        """Keep the count."""
        self.stops = times
