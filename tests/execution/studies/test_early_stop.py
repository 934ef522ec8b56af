"""Ctrl-C in a study's first moments: nothing is half made, and the command that is offered carries on to the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_runs import Bench, children_of, command_of, wait_for
from small_studies import write_study

from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.run_status import DONE
from ndrepro.execution.studies.study_file import load_study
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify

GRIDS = "[grids.first]\naxes = { seed = [0], method = ['bn'] }\n[grids.second]\naxes = { seed = [1], method = ['bn'] }"
Process = subprocess.Popen[str]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def variables(bench: Bench) -> dict[str, str]:
    return {**os.environ, "NDREPRO_HOME": str(bench.options.home)}


@contextmanager
def study(bench: Bench, file: Path, *words: str) -> Iterator[Process]:
    """``ndrepro study run`` in a process of its own."""
    command = [sys.executable, "-m", "ndrepro", "study", "run", str(file), "--runs", str(bench.options.runs.root)]
    with subprocess.Popen(
        [*command, *words], env=variables(bench), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line_with(process: Process, word: str) -> None:
    """Wait for a line that the process prints."""
    assert process.stdout is not None
    assert any(word in line for line in process.stdout), process.communicate()


def job_exists(process: Process) -> None:
    """Wait for a job's process; its handlers do not stand before its modules are imported."""
    wait_for(lambda: any(b"studies.job" in command_of(pid) for pid in children_of(process.pid)), process)


def begins(process: Process) -> None:
    """Wait until a run has its folder."""
    line_with(process, "starts in")


def is_told(process: Process) -> None:
    """Wait until the plan is printed: the next is the first run."""
    line_with(process, "to do")


@pytest.mark.parametrize(
    ("moment", "jobs"),
    [
        (is_told, "1"),
        pytest.param(job_exists, "1", marks=pytest.mark.slow),
        (job_exists, "2"),
        pytest.param(begins, "1", marks=pytest.mark.slow),
        (begins, "2"),
    ],
)
def test_a_stop_leaves_nothing_half_made_and_the_offered_command_carries_on(
    moment: Callable[[Process], None], jobs: str, bench: Bench, hears_ctrl_c: None
) -> None:
    file = write_study(bench.root, GRIDS)
    with study(bench, file, "--jobs", jobs) as process:
        moment(process)
        if moment is begins and jobs == "2":
            begins(process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert process.returncode == 3, errors
    what, cure = errors.splitlines()
    assert "interrupted" in what and "killed" not in output
    runs, trust = bench.options.runs, TrustPolicy.load(bench.options.home)
    for folder in runs.runs():  # a run this small may end before the signal is handled
        verdict = verify(folder.root, trust=trust, ledger=Ledger(runs.ledger), extra_checks=CHECKS)
        assert verdict.ok and verdict.manifest is not None
        assert verdict.manifest.outcome in ("interrupted", "completed")
    events = [entry.event for entry in Ledger(runs.ledger).entries()]
    assert events.count("begun") == events.count("ended") == len(runs.runs())
    command = next(iter(re.findall(r"`(.+)`", cure)), f"ndrepro study run {file} --runs {runs.root}")
    assert ("study resume" if len(runs.runs()) == 2 else "study run") in command, "resume: both grids have been started"
    words = command.split()[command.split().index("study") :]
    subprocess.run([sys.executable, "-m", "ndrepro", *words], env=variables(bench), check=True, capture_output=True)
    assert make_plan(load_study(file), (), bench.options).states == {DONE: 2}


# the command line, but that reading the ledger takes for ever
SLOW_PLAN = """
import sys, time
from ndrepro.cli import main
from ndrepro.execution.studies.run_status import Survey
def read(*_):
    print("planning", file=sys.stderr, flush=True)
    time.sleep(3600)
Survey.__init__ = read
sys.exit(main())
"""


def test_a_stop_while_the_study_is_planned_makes_nothing(bench: Bench, hears_ctrl_c: None) -> None:
    file = write_study(bench.root, GRIDS)
    words = ["study", "run", str(file), "--runs", str(bench.options.runs.root)]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_PLAN, *words], env=variables(bench), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None and process.stderr.readline() == "planning\n"
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 3
    assert errors == "error: interrupted\n  hint: type the command again\n"
    assert [path.name for path in bench.root.rglob("*")] == ["mini.toml"]
