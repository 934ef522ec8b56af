"""One undisturbed run for the whole session, a folder of runs for each test, and nothing left behind."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_runs import Bench, children_of

from ndrepro.execution.runs.run import Finished


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run that was never disturbed."""
    return Bench(tmp_path_factory.mktemp("undisturbed")).run()


@pytest.fixture
def reap() -> Iterator[Callable[["subprocess.Popen[str]"], None]]:
    """Whatever a test starts is gone when it ends."""
    started: list[subprocess.Popen[str]] = []
    yield started.append
    for process in started:
        for child in children_of(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """As at a terminal: shells start what runs in their background deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
