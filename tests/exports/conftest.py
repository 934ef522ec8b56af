"""Recorded runs to export: one of a script, made in a second, and one that was really trained."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded_runs import ROOT, Answer, process

import provenance
from ndrepro.exports.run_facts import RunFacts
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify

PROGRAM = """
import json, pathlib
text = pathlib.Path("data.csv").read_text()
pathlib.Path("small.pt").write_text(text)
pathlib.Path("large.pt").write_bytes(bytes(3 << 20))
pathlib.Path("log.jsonl").write_text("".join(json.dumps({"step": n, "loss": 1 / n}) + "\\n" for n in (1, 2)))
"""
SMALL = ("--set", "train_images=96", "--set", "test_images=32", "--threads", "1", "--quiet")


@dataclass(frozen=True)
class RecordedFolder:
    """A folder with ``runs`` and the key home ``home``, and one run in it."""

    root: Path
    run: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def facts(self) -> RunFacts:
        """The run, verified as far as every kind of run is."""
        ledger = Ledger(self.runs / "ledger.jsonl")
        return RunFacts.of(self.run, verify(self.run, trust=TrustPolicy.load(self.home), ledger=ledger))

    def ndrepro(self, *words: str | Path) -> Answer:
        """The command line with this key home."""
        return process(*map(str, words), NDREPRO_HOME=str(self.home))


@pytest.fixture(scope="session")
def _script(tmp_path_factory: pytest.TempPathFactory) -> RecordedFolder:
    root = tmp_path_factory.mktemp("script")
    made = RecordedFolder(root, root / "runs" / "fit" / "one")
    model = root / "model.safetensors"
    model.write_bytes(bytes(range(200)))
    parameters = {"rate": 0.1, "layers": [3, 4], "nested": {"name": "žluťoučký"}}
    seeds, ledger = {"numpy": 3}, made.runs / "ledger.jsonl"
    made.runs.mkdir()
    with provenance.record(
        made.run, name="fit", parameters=parameters, seeds=seeds, ledger=ledger, home=made.home
    ) as run:
        for step in (1, 2, 3):
            run.log(step=step, loss=1.0 / step)
        run.artifact(model)
    return made


@pytest.fixture
def script(_script: RecordedFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedFolder]:
    """A recorded script, with one model and three rows of metrics; not to be changed."""
    monkeypatch.setenv("NDREPRO_HOME", str(_script.home))
    yield _script


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> RecordedFolder:
    """A program that ``ndrepro record`` ran: it read a file, logged a metric, and wrote two models, a large one too."""
    root = tmp_path_factory.mktemp("program")
    work = root / "work"
    work.mkdir()
    (work / "data.csv").write_text("1,2\n")
    (work / "program.py").write_text(PROGRAM)
    options = ["--name", "toy", "--data", "data.csv", "--metrics", "log.jsonl", "--runs", str(root / "runs"), "-q"]
    command = [sys.executable, "-m", "ndrepro", "record", *options, "--", sys.executable, "program.py"]
    variables = {**os.environ, "NDREPRO_HOME": str(root / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (manifest,) = root.glob("runs/*/*/manifest.dsse.json")
    return RecordedFolder(root, manifest.parent)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RecordedFolder:
    """A network that was really trained, through the command line; not to be changed."""
    root = tmp_path_factory.mktemp("trained")
    words = ("run", "lenet_bn_1_digits", *SMALL, "--runs", str(root / "runs"))
    done = process(*words, NDREPRO_HOME=str(root / "home"))
    assert done.code == 0, done.err
    (manifest,) = root.glob("runs/*/*/manifest.dsse.json")
    return RecordedFolder(root, manifest.parent)
