"""Two processes at work on one study start each run once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_runs import Bench
from small_studies import Watched, write_study

from ndrepro.execution.studies import job
from ndrepro.execution.studies.carry_out import carry_out
from ndrepro.execution.studies.launchers import Job, LocalLauncher
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.run_locks import Claims
from ndrepro.execution.studies.run_status import MISSING, RUNNING
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.layout import RunsFolder

HOLD = """
import sys
from pathlib import Path
from ndrepro.execution.studies.run_locks import Claims
from ndrepro.protocol.layout import RunsFolder
claims = Claims(RunsFolder(Path(sys.argv[1])))
print(claims.take(sys.argv[2]), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(runs: RunsFolder, identity: str) -> Iterator[str]:
    """A process that takes a claim and keeps it; gives what it was told."""
    words = [sys.executable, "-c", HOLD, str(runs.root), identity]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def test_a_claim_holds_against_other_processes_until_its_owner_ends(tmp_path: Path) -> None:
    runs = RunsFolder(tmp_path)
    with Claims(runs) as claims:
        with another_process(runs, "a") as told:
            assert told == "True"
            assert not claims.take("a") and claims.take("b")
            with another_process(runs, "b") as refused:
                assert refused == "False"
        assert claims.take("a"), "the process that had it is gone"
        claims.give_back("b")
        with another_process(runs, "b") as told:
            assert told == "True"


def test_a_run_that_another_study_is_about_to_start_is_passed_over(bench: Bench) -> None:
    path = write_study(bench.root, "[grids.main]\naxes = { method = ['bn'] }")
    plan = make_plan(load_study(path), (), bench.options)
    watched = Watched()
    with another_process(bench.options.runs, plan.items[0].run.identity) as told:
        assert told == "True"
        outcome = carry_out(plan, bench.options, LocalLauncher(1, bench.options), watched, {})
    assert watched.events == [] and outcome.plan.states == {MISSING: 1}
    assert [status.state for _, status in watched.passed_over] == [RUNNING]


def test_a_job_from_a_queue_leaves_a_run_alone_that_another_process_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(bench.root, "[grids.main]\naxes = { method = ['bn'] }")
    (item,) = make_plan(load_study(path), (), bench.options).items
    monkeypatch.setattr(job, "_CLAIM_SECONDS", 0.0)
    monkeypatch.setattr(job, "Stop", lambda: SimpleNamespace(asked=False))  # else it takes this process's signals
    monkeypatch.setenv("NDREPRO_HOME", str(bench.options.home))
    words = Job("mini", item.run).words(bench.options, "--recheck")
    with another_process(bench.options.runs, item.run.identity) as told:
        assert told == "True"
        assert job.main(words[words.index("-m") + 2 :]) == 0, "nothing failed"
    assert "another process has taken up this run" in capsys.readouterr().out
    assert not list(bench.options.runs.root.glob("*/*/request.json"))
