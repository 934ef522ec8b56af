"""Tools of others that judge what this project writes, each in an environment of its own.

Their versions and hashes are in ``tests/exports/validators/*.lock``, written by ``make lock``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from recorded_runs import ROOT

from ndrepro.execution.environments.interpreters import uv_executable, uv_variables

FOLDER = ROOT / "tests" / "exports" / "validators"


@dataclass(frozen=True)
class Answer:
    """What a validator said of one case."""

    accepted: bool
    problem: str
    read: Any


def ask(environment: Path, kind: str, *cases: tuple[str | Path, ...]) -> list[Answer]:
    """What the validator says of each case; see ``validate.py`` for the arguments of each kind."""
    words = json.dumps([[str(word) for word in case] for case in cases])
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(environment), "MLFLOW_DISABLE_TELEMETRY": "1"}
    command = [str(environment / "bin" / "python"), str(FOLDER / "validate.py"), kind, words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=environment)
    assert done.returncode == 0, done.stderr
    return [Answer(**answer) for answer in json.loads(done.stdout)]


def environment(kind: str, folder: Path) -> Path:
    """The environment of a validator in ``folder``, made on first use.

    Skips the test where the package index is out of reach.
    """
    place, uv, lock = folder / kind, str(uv_executable()), str(FOLDER / f"{kind}.lock")
    if place.exists():
        return place
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(place)], check=True, env=uv_variables())
    words = ["pip", "sync", "-q", "--require-hashes", "-p", str(place / "bin" / "python"), lock]
    done = subprocess.run([uv, *words], env=uv_variables(), capture_output=True, text=True)
    if done.returncode:
        unreachable(f"the validator {kind} cannot be installed: {done.stderr.strip()[-300:]}")
    return place


def ndrepro(environment: Path, home: Path, *words: str | Path) -> Any:
    """What this project's command line answers, as JSON, in that environment, which has its dependencies."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(environment), "NDREPRO_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [str(environment / "bin" / "python"), "-m", "ndrepro", *map(str, words)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unreachable(why: str) -> NoReturn:
    """Skip a test whose tool of others cannot be had; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
