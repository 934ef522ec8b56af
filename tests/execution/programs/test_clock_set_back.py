"""A clock that is set back while a program or a script runs is said, and its run verifies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from recorded_programs import Programs

import provenance
from ndrepro.execution.verification import program_checks, script_checks
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import ExtraCheck, verify
from provenance.formats import strict_json
from provenance.recording import run_clock


@pytest.fixture
def offset(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """By how many seconds the recorder's wall clock is ahead of this machine's: whoever writes the file sets it."""
    path = programs.place / "offset"
    path.write_text("0")

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=float(path.read_text()))

    for module in (run_clock, strict_json):
        monkeypatch.setattr(module, "datetime", Clock)
    return path


def expect_sound(folder: Path, programs: Programs, checks: Sequence[ExtraCheck], said: bool) -> None:
    verdict = verify(
        folder, trust=TrustPolicy.load(programs.home), ledger=Ledger(programs.runs.ledger), extra_checks=checks
    )
    assert verdict.ok, verdict.failure
    (message,) = (check.message for check in verdict.checks if check.name == "times")
    assert ("the clock was set back by" in message) == said


@pytest.mark.parametrize("seconds", [-10, -400, -3600, -86400 * 30, 3600])
def test_during_a_program(programs: Programs, offset: Path, seconds: int) -> None:
    finished = programs.finish(sys.executable, "-c", f"open({str(offset)!r}, 'w').write('{seconds}')")
    assert finished.outcome == "completed" and finished.error is None
    expect_sound(finished.folder.root, programs, program_checks.CHECKS, said=seconds < -run_clock.SET_BACK_SECONDS)


@pytest.mark.parametrize("seconds", [-10, -400, -3600, 3600])
def test_during_a_script(programs: Programs, offset: Path, seconds: int) -> None:
    with provenance.record(name="script", runs=programs.runs.root, home=programs.home) as run:
        run.log(step=1, loss=0.5)
        offset.write_text(str(seconds))
    expect_sound(run.folder, programs, script_checks.CHECKS, said=seconds < -run_clock.SET_BACK_SECONDS)
