"""A small run, really recorded without training: a folder with a few files, a key home, a ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Builder, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.recording.recorder import Recorder

MOMENT = "2026-11-21T10:15:02.000001Z"


@dataclass(frozen=True)
class SmallRun:
    """A folder ``run`` beside its ``ledger.jsonl``, recorded with the key in ``home``."""

    folder: Path
    ledger: Ledger
    home: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.dsse.json"

    def open(self, **changes: Any) -> Recorder:
        given: dict[str, Any] = {
            "ledger": self.ledger,
            "home": self.home,
            "build_type": "urn:ndrepro:test:v1",
            "name": "small",
            "run_id": self.folder.name,
            "external_parameters": {"seed": 0, "name": "žluťoučký"},
            "builder": Builder("urn:ndrepro:test", {"ndrepro": "0.1"}),
        }
        return Recorder.open(self.folder, **{**given, **changes})

    def close(self, recorder: Recorder, **changes: Any) -> Path:
        given: dict[str, Any] = {
            "outcome": "completed",
            "exit_code": 0,
            "started": MOMENT,
            "finished": MOMENT,
            "internal_parameters": {"threads": 2, "driver": {"unavailable": "no GPU"}},
            "dependencies": [Resource("torch", uri="pkg:pypi/torch@2.13.0", digest={"unavailable": "no RECORD"})],
            "byproducts": [Resource("layer census", annotations={"layers": 16})],
            "machine": {"cpu": "some", "gpu": None},
        }
        return recorder.close(**{**given, **changes})

    def record(self, **changes: Any) -> Path:
        return self.close(self.open(), **changes)

    def verify(self, **changes: Any) -> Verdict:
        given: dict[str, Any] = {"trust": TrustPolicy.load(self.home), "ledger": self.ledger}
        return verify(changes.pop("path", self.folder), **{**given, **changes})


@pytest.fixture
def small_run(tmp_path: Path) -> Callable[..., SmallRun]:
    """Makes the folder of a run that has not been recorded yet; ``name`` and ``root`` say where."""

    def make(name: str = "run one žluťoučký", root: Path = tmp_path) -> SmallRun:
        folder = root / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "weights.bin").write_bytes(bytes(range(256)))
        (folder / "metrics.jsonl").write_text('{"step": 1}\n')
        (folder / "checkpoints" / "step 1.bin").write_bytes(b"\0" * 1000)
        (folder / "log.txt").write_bytes(b"")
        return SmallRun(folder, Ledger(tmp_path / "ledger.jsonl"), tmp_path / "home")

    return make


@pytest.fixture
def signed_run(small_run: Callable[..., SmallRun]) -> SmallRun:
    """A run that was recorded and verifies."""
    run = small_run()
    run.record()
    assert run.verify().ok
    return run
