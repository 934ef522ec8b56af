"""Manifests below a folder: all are found, workers answer as one process does, and end with who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import wait_for

from ndrepro.analysis.results import verification
from ndrepro.analysis.results.manifest_cache import ManifestCache
from ndrepro.analysis.results.verification import ReadLedger, examine_folder, manifest_files
from provenance.attestation.trust import TrustPolicy
from provenance.errors import StorageError
from provenance.ledger_entries.summary import LedgerSummary

SCRIPT = """
import pathlib
from ndrepro.analysis.results.verification import _examine_all
from provenance.attestation.trust import TrustPolicy
if __name__ == "__main__":
    policy = TrustPolicy(pathlib.Path("/nowhere"), None, ())
    for examined in _examine_all([pathlib.Path("/nowhere")] * 1_000_000, policy):
        print("working", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests that are none, in folders as runs have them, as kept runs have them, and where none counts."""
    for place in ("a/1", "a/2", "b", "c/kept/d/1", "a/1/attempts/1", "e/run", "too/deep/for/a/run"):
        run = tmp_path / "runs" / place
        run.mkdir(parents=True)
        if place == "e/run":
            (run / "request.json").write_text("{}")
            run = run / "inside"
            run.mkdir()
        (run / "manifest.dsse.json").write_text("{}")
    return tmp_path / "runs"


def test_every_run_s_manifest_is_found_in_the_order_of_paths(folder: Path) -> None:
    found = [str(path.parent.relative_to(folder)) for path in manifest_files(folder)]
    assert found == ["a/1", "a/2", "b", "c/kept/d/1"]
    assert list(manifest_files(folder / "b")) == list(manifest_files(folder / "b" / "manifest.dsse.json"))
    locked = folder / "a"
    locked.chmod(0)
    try:
        if not os.access(locked, os.R_OK):
            with pytest.raises(StorageError, match="cannot be listed"):
                list(manifest_files(folder))
    finally:
        locked.chmod(0o700)


def test_workers_answer_as_one_process_does_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, calls = TrustPolicy(folder, None, ()), []
    answers = []
    ledger = ReadLedger(folder / "ledger.jsonl", LedgerSummary(False))
    for worth in (1, 10**6):
        monkeypatch.setattr(verification, "_WORTH", worth)
        monkeypatch.setattr(verification, "_CHUNK", 1)
        monkeypatch.setattr(verification, "_AHEAD", 3)
        watch = lambda done, count: calls.append((done, count))  # noqa: E731
        answers.append(examine_folder(folder, policy, ManifestCache(None, policy), watch, ledger=ledger))
    assert answers[0] == answers[1]
    assert [item.path for item in answers[0]] == list(manifest_files(folder))
    assert calls == [(done, 4) for done in (1, 2, 3, 4)] * 2


def test_a_script_that_cannot_have_workers_is_served_by_one_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:").replace("1_000_000", "1_100"))
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, env=variables)
    assert answer.returncode == 0 and answer.stdout.count("working") == 1_100


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
