"""The doctor's findings as lines, as JSON, and as an exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
from recorded_runs import Answer

from ndrepro.execution.environments import doctor
from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding

FINE = Finding("python", OK, "3.11.7", "a cure that nobody needs")
CARE = Finding("source", WARNING, "DIRTY", "commit first")
BAD = Finding("torch", PROBLEM, "cannot be imported", "make env")


@pytest.mark.parametrize(("findings", "code"), [([FINE, CARE], 0), ([FINE, CARE, BAD], 1)])
def test_a_problem_is_exit_1_and_a_warning_is_not(
    findings: list[Finding], code: int, ndrepro: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda runs: iter(findings))
    answer = ndrepro("doctor")
    assert answer.code == code
    assert answer.out.startswith("ok       python                3.11.7\nwarning  source                DIRTY\n")
    assert "hint: commit first" in answer.out and "nobody needs" not in answer.out
    assert ndrepro("doctor", "--json").json == {
        "ok": code == 0,
        "findings": [asdict(finding) for finding in findings],
    }
