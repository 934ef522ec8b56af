"""Real runs for tests: a small network on the bundled digits, a few steps, real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ndrepro.execution.runs import run as runs_module
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, RunOptions
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder

# kept checkpoints: a test that kills a run finds one to resume from
SMALL = {"train_images": "96", "test_images": "32", "batch_size": "16", "threads": "1", "checkpoint_epochs": "1"}
NAME = "lenet_nd_5_digits"


@dataclass
class Bench:
    """A folder of runs with its own key home."""

    root: Path
    options: RunOptions = field(init=False)

    def __post_init__(self) -> None:
        self.options = RunOptions(runs=RunsFolder(self.root / "runs"), home=self.root / "keys")

    def experiment(self, name: str = NAME, **settings: str) -> Experiment:
        return Experiment.from_name(name, {**SMALL, **settings})

    def run(self, name: str = NAME, **settings: str) -> Finished:
        return runs_module.run(self.experiment(name, **settings), self.options, Observer())

    def resume(self, folder: RunFolder) -> Finished:
        return runs_module.resume(folder, self.options, Observer())

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ndrepro", *arguments]

    def start(self, name: str = NAME, **settings: str) -> "subprocess.Popen[str]":
        """The command line in a process of its own."""
        chosen = [f"--set={key}={value}" for key, value in {**SMALL, **settings}.items()]
        return subprocess.Popen(
            self.command("run", name, "--runs", str(self.options.runs.root), *chosen),
            env={**os.environ, "NDREPRO_HOME": str(self.options.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def wait_for(
    condition: Callable[[], object], process: "subprocess.Popen[str] | None" = None, seconds: float = 3600.0
) -> None:
    """Wait until something holds; a failure after ``seconds``, or when ``process`` ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"it ended before: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def children_named(word: bytes) -> list[int]:
    """This process's children with that word in their command lines; it may have others, multiprocessing's for one."""
    return [pid for pid in children_of(os.getpid()) if word in command_of(pid)]


def command_of(pid: int) -> bytes:
    """The command line of a process, its words apart by zeros; empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
