"""What the training process gets of its parent: environment variables, and a stop that comes early."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_runs import Bench, alive, children_named, wait_for

from ndrepro.execution.containers.container_spec import Process
from ndrepro.execution.runs import child_process, process_group
from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.execution.runs.observer import Observer
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request
from ndrepro.protocol.project_folders import CODE as PROJECT
from ndrepro.protocol.project_folders import UNUSED_IN_TRAINING, packages_of
from provenance.capture.source import package_digest
from provenance.code.snapshot import CodeCopy

REQUEST = Request(Experiment.from_name("lenet_bn_1_digits"), "data", "")
CODE = Path("/code")


def test_the_level_of_determinism_wins_over_what_is_set() -> None:
    inherited = {"OMP_NUM_THREADS": "64", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "HOME": "/home/a"}
    made = child_variables(REQUEST, CODE, inherited)
    assert made["OMP_NUM_THREADS"] == str(REQUEST.experiment.threads)
    assert made["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert made["HOME"] == "/home/a"
    assert made["PYTHONPATH"] == str(CODE)


def test_the_copy_has_all_that_training_imports_and_the_digest_of_everything(tmp_path: Path) -> None:
    with CodeCopy(packages_of(PROJECT), tmp_path / "copy", UNUSED_IN_TRAINING) as copy:
        assert copy.describe()["tree_sha256"] == package_digest(packages_of(PROJECT))["tree_sha256"]
        assert sorted(path.name for path in copy.place.glob("ndrepro/*/")) == ["protocol", "text", "training"]
        modules = [*copy.place.glob("ndrepro/training/**/*.py"), *copy.place.glob("ndrepro/protocol/**/*.py")]
        names = [".".join(path.relative_to(copy.place).with_suffix("").parts) for path in modules]
        assert len(names) > 100
        script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        variables = {**os.environ, "PYTHONPATH": str(copy.place), "PYTHONSAFEPATH": "1"}

        def imported(*names: str) -> int:
            words = [sys.executable, "-c", script, *names]
            return subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True).returncode

        assert imported(*(name for name in names if not name.endswith("__main__"))) == 0
        assert imported("ndrepro.report") == 1, "the control"


def test_where_keys_lie_is_withheld() -> None:
    assert "NDREPRO_HOME" not in child_variables(REQUEST, CODE, {"NDREPRO_HOME": "/keys"})


def test_idle_threads_sleep_unless_they_are_told_to_spin() -> None:
    assert child_variables(REQUEST, CODE, {})["OMP_WAIT_POLICY"] == "PASSIVE"
    assert child_variables(REQUEST, CODE, {"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize(("waits", "outcome"), [(True, "interrupted"), (False, "killed")])
def test_a_stop_in_the_instant_that_the_child_starts_waits_for_its_handlers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, waits: bool, outcome: str
) -> None:
    """And would kill it, were it not made to wait."""
    start = process_group.start

    def start_and_stop(*how: Any) -> Process:
        process = start(*how)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(process_group, "start", start_and_stop)
    if not waits:
        monkeypatch.setattr(child_process, "stops_wait", nullcontext)
    assert bench.run(epochs="500").outcome == outcome


class Insisting(Observer):
    """Asks the child to stop again and again, from when it has said how it ended until it is gone."""

    def began(self, folder: RunFolder, request: Request) -> None:
        threading.Thread(target=self._insist, args=(folder,), daemon=True).start()

    @staticmethod
    def _insist(folder: RunFolder) -> None:
        word = os.fsencode(folder.root)
        wait_for(lambda: children_named(word))
        (process,) = children_named(word)
        while alive(process):
            if folder.result.exists():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            time.sleep(0.001)


@pytest.mark.parametrize(("deaf", "outcome"), [(True, "completed"), (False, "killed")])
def test_a_stop_in_the_last_moments_of_the_child_is_too_late(
    bench: Bench, tmp_path: Path, deaf: bool, outcome: str
) -> None:
    """And would kill it, its work done, were it not deaf by then."""
    code = tmp_path / "code"
    for package in ("ndrepro", "provenance"):
        shutil.copytree(execution.CODE / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    if not deaf:
        main = code / "ndrepro" / "training" / "__main__.py"
        main.write_text(main.read_text(encoding="utf-8").replace("    stop.close()\n", ""), encoding="utf-8")
    for _ in range(1 if deaf else 6):  # the control's stop has to meet an instant, which a busy machine may miss
        finished = execution.run(bench.experiment(epochs="1"), replace(bench.options, code=code), Insisting())
        if finished.outcome == outcome:
            break
    assert finished.outcome == outcome
