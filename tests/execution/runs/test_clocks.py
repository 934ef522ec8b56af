"""The nodes of a cluster have clocks of their own: nothing that is recorded or chosen depends on their agreement."""

import os
import signal
from datetime import datetime, timedelta, tzinfo

import pytest
from real_runs import Bench
from small_studies import write_study

from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.runs.run_lookup import duration_seconds
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.run_status import DONE, Survey
from ndrepro.execution.studies.study_file import load_study
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats import strict_json
from provenance.recording import run_clock

GRID = '[grids.main]\naxes = { method = ["bn"] }\n[grids.main.settings]\nepochs = 4\ncheckpoint_epochs = 1\n'


class Stopping(Observer):
    """Asks the run to stop, once, as soon as the child is there: it stops after its first step."""

    asked = False

    def progress(self, progress: Progress) -> None:
        if not self.asked:
            self.asked = True
            os.kill(os.getpid(), signal.SIGTERM)


def on_a_machine(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    """From now on this process's clock is so many minutes ahead."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(minutes=minutes)

    for module in (execution, run_clock, strict_json):
        monkeypatch.setattr(module, "datetime", Clock)


@pytest.mark.slow
def test_a_run_goes_on_on_a_machine_whose_clock_is_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_study(bench.root, GRID)
    (item,) = make_plan(load_study(path), [], bench.options).items
    on_a_machine(monkeypatch, 20)
    ahead = execution.run(item.run.experiment, bench.options, Stopping())
    assert ahead.outcome == "interrupted"
    on_a_machine(monkeypatch, -20)
    behind = execution.resume(ahead.folder, bench.options, Observer())
    assert behind.outcome == "completed"

    ledger = Ledger(bench.options.runs.ledger)
    assert ledger.verify() == []
    times = [entry.time for entry in ledger.entries()]
    assert times != sorted(times), "the clocks did differ"
    trust = TrustPolicy.load(bench.options.home)
    verdict = verify(ahead.folder.root, trust=trust, ledger=ledger, extra_checks=CHECKS)
    assert verdict.ok, verdict.failure
    assert verdict.manifest is not None
    first, second = verdict.manifest.attempts
    assert (first.outcome, second.outcome) == ("interrupted", "completed")
    assert second.started_on < first.started_on, "in the order in which they were, not in that of their clocks"
    assert 0 < duration_seconds(verdict.manifest) < 600
    assert Survey(bench.options.runs, bench.options.home).status(item.run).state == DONE


@pytest.mark.slow
def test_of_equal_runs_the_one_that_was_begun_last_stands_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(bench.root, GRID.replace("epochs = 4", "epochs = 1"))
    (item,) = make_plan(load_study(path), [], bench.options).items
    on_a_machine(monkeypatch, 20)
    ahead = execution.run(item.run.experiment, bench.options, Observer())
    on_a_machine(monkeypatch, -20)
    behind = execution.run(item.run.experiment, bench.options, Observer())
    assert behind.folder.root.name < ahead.folder.root.name, "by their names it would be the other"
    status = Survey(bench.options.runs, bench.options.home).status(item.run)
    assert (status.state, status.folder) == (DONE, behind.folder)
