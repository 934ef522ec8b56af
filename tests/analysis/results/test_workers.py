"""Workers do what one process does, keep the order, and do not outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import wait_for

from ndrepro.analysis.results import workers
from ndrepro.analysis.results.examine import Refused
from ndrepro.analysis.results.workers import examine_all
from provenance.attestation.trust import TrustPolicy

SCRIPT = """
import itertools, pathlib, sys
from ndrepro.analysis.results.workers import examine_all
from provenance.attestation.trust import TrustPolicy
if __name__ == "__main__":
    policy = TrustPolicy(pathlib.Path("/nowhere"), None, ())
    for batch in examine_all(itertools.repeat(b"/nowhere"), 10_000, policy):
        print("working", flush=True)
"""


def test_every_path_is_answered_in_order_by_workers_as_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = TrustPolicy(tmp_path, None, ())
    paths = [b"/nowhere/%d" % number for number in range(23)]
    answers = []
    for worth in (1, 10**6):
        monkeypatch.setattr(workers, "_WORTH", worth)
        monkeypatch.setattr(workers, "_BATCH", 5)
        batches = list(examine_all(iter(paths), len(paths), policy))
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        answers.append([item for batch in batches for item in batch])
    assert answers[0] == answers[1]
    assert [os.fsencode(item.path) for item in answers[0] if isinstance(item, Refused)] == paths


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has no workers")
def test_workers_end_when_who_started_them_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    folder = Path(__file__).resolve().parents[3]
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=variables) as process:
        assert process.stdout is not None and process.stdout.readline()
        started = children(process.pid)
        assert len(started) >= 2, "the control: there are workers"
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
