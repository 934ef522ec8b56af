"""The command line as a process, and signed runs that the recorder itself made, without any training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ndrepro.execution.runs import run_account
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import SEGMENTS, RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Scores, read_json, write_json
from provenance.attestation.key_home import default_home
from provenance.attestation.manifest import Resource
from provenance.recording.recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that --json printed, without the version of its form, which every one has."""
        document = json.loads(self.out)
        assert document.pop("json_version") == 1
        return document


def process(*words: str, **variables: str | None) -> Answer:
    """Run a command as a process of its own; a variable of ``None`` is taken away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    done = subprocess.run([sys.executable, "-m", "ndrepro", *words], env=environment, capture_output=True, text=True)
    return Answer(done.returncode, done.stdout, done.stderr)


def begin_run(
    runs: RunsFolder,
    name: str,
    run: str,
    epochs: int = 2,
    *,
    repeats: str = "",
    segment_epochs: int | None = None,
    **settings: str,
) -> RunFolder:
    """A run folder as training leaves it: the request, and the results of some epochs.

    ``repeats`` is the run that it repeats, or of which it is a segment of ``segment_epochs`` epochs.
    """
    experiment = Experiment.from_name(name, settings)
    folder = runs.run(experiment.name + (SEGMENTS if segment_epochs else ""), run)
    folder.root.mkdir(parents=True)
    write_json(folder.request, Request(experiment, "digits.csv.gz", segment_epochs=segment_epochs).to_json())
    if repeats:
        write_json(
            folder.origin, {"name": "reproduced run", "digest": {"sha256": "0" * 64}, "annotations": {"run": repeats}}
        )
    rows = [asdict(Scores(n, 12 * n, 2.0 / n, 0.3 * n, 1.9 / n, 0.25 * n, 0.1)) for n in range(1, epochs + 1)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # no two seeds have the same
    folder.weights.write_bytes(f"w{zlib.crc32(str(experiment).encode()) % 10**6:06}".encode())
    return folder


def open_run(runs: RunsFolder, folder: RunFolder) -> Recorder:
    """The recorder on a run folder: lock taken, ledger told."""
    document = read_json(folder.request)
    return run_account.open_recorder(folder, Request.from_json(document), document, runs, default_home())


def sign_run(
    runs: RunsFolder,
    name: str,
    run: str,
    outcome: str = "completed",
    *,
    repeats: str = "",
    segment_epochs: int | None = None,
    machine: dict[str, Any] | None = None,
    **settings: str,
) -> RunFolder:
    """A run folder with a signed manifest and a ledger that has its beginning and end."""
    folder = begin_run(runs, name, run, repeats=repeats, segment_epochs=segment_epochs, **settings)
    experiment = Experiment.from_name(name, settings)
    recorder = open_run(runs, folder)
    began = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
    recorder.close(
        outcome=outcome,
        exit_code=0 if outcome == "completed" else 75,
        started=began,
        finished=began + timedelta(seconds=72),
        internal_parameters={
            "determinism": {
                "level": experiment.determinism,
                "start": {"cudnn_benchmark": False, "threads": 2},
                "end": {"cudnn_benchmark": True, "threads": 2},
            },
            "threads": experiment.threads,
            "device": "cpu",
            "libraries": {"torch": "2.13.0", "cuda": "13.0"},
            "usage": {"wall_seconds": 70.0, "user_seconds": 60.0},
        },
        dependencies=[
            Resource(
                "source",
                digest={"gitCommit": "0123456789abcdef0123456789abcdef01234567"},
                annotations={"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
            ),
            Resource(
                "dataset:digits", digest={"sha256": "ab" * 32}, annotations={"canonical": None, "train_images": 64}
            ),
        ],
        byproducts=[Resource("layer census", annotations={"trainable_parameters": 61706, "conv2d_layers": 2})],
        machine=machine or {"python": {"version": "3.11.2"}},
    )
    return folder
