"""A stop at any moment: while the training process hangs, deaf to it, and while files are hashed."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lying_child import code_of
from real_runs import Bench, wait_for

from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request
from provenance.attestation.ledger import Ledger

DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])"


class Stopping(Observer):
    """Sends this process a signal twice: in ``began`` once the training process is deaf, or while it is signed."""

    def __init__(self, number: int, phase: str) -> None:
        self.number, self.phase = number, phase

    def began(self, folder: RunFolder, request: Request) -> None:
        if self.phase == "training":
            threading.Thread(target=self._twice, args=(folder,), daemon=True).start()

    def progress(self, progress: Progress) -> None:
        if progress.phase == self.phase == "signing":
            os.kill(os.getpid(), self.number)

    def _twice(self, folder: RunFolder) -> None:
        wait_for((folder.root / "deaf").exists)
        for _ in range(2):
            os.kill(os.getpid(), self.number)
            time.sleep(0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_stop_kills_a_training_process_that_hangs(tmp_path: Path, number: int) -> None:
    bench = Bench(tmp_path)
    code = code_of(tmp_path / "code", DEAF + "; open('deaf', 'w').close()", seconds=3600)
    options = replace(bench.options, code=code)
    ended = execution.run(bench.experiment("lenet_bn_1_digits"), options, Stopping(number, "training"))
    assert ended.outcome == "killed" and ended.manifest is not None
    entries = Ledger(bench.options.runs.ledger).entries()
    assert [entry.event for entry in entries] == ["begun", "ended"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_stop_while_it_is_signed_waits(tmp_path: Path, number: int) -> None:
    bench = Bench(tmp_path)
    options = replace(bench.options, code=code_of(tmp_path / "code", seconds=0.1))
    ended = execution.run(bench.experiment("lenet_bn_1_digits"), options, Stopping(number, "signing"))
    assert ended.outcome == "completed" and ended.manifest is not None
