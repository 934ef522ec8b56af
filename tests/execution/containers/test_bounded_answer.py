"""An image of somebody else's that prints without end, or never answers, is killed with all that it started."""

from __future__ import annotations

import subprocess

import pytest
from real_runs import wait_for

from ndrepro.execution.containers import bounded_answer
from ndrepro.execution.containers.bounded_answer import answer
from ndrepro.protocol.errors import EngineError

VARIABLES = {"PATH": "/usr/bin:/bin"}


def running(argument: str) -> bool:
    return subprocess.run(["pgrep", "-f", f"sleep {argument}"], stdout=subprocess.DEVNULL).returncode == 0


def test_code_and_both_outputs_come_back() -> None:
    assert answer(["sh", "-c", "echo one; echo two >&2; printf '\\377'; exit 3"], VARIABLES) == (3, "one\ntwo\n�")


def test_one_that_prints_without_end_is_killed() -> None:
    with pytest.raises(EngineError, match="prints more than 16 MiB"):
        answer(["sh", "-c", "sleep 8642.1 & yes"], VARIABLES)
    wait_for(lambda: not running("8642.1"))


def test_one_that_never_answers_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_answer, "ANSWER_SECONDS", 0.5)
    with pytest.raises(subprocess.TimeoutExpired):
        answer(["sh", "-c", "sleep 8642.2 & sleep 8642.3"], VARIABLES)
    wait_for(lambda: not running("8642.[23]"))


def test_one_that_closes_its_output_and_stays_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_answer, "ANSWER_SECONDS", 0.5)
    with pytest.raises(subprocess.TimeoutExpired):
        answer(["sh", "-c", "exec > /dev/null 2>&1; sleep 8642.4"], VARIABLES)
    wait_for(lambda: not running("8642.4"))
