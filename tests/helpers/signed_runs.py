"""Many signed runs in little time, without training: manifests as large as real ones, logs and a ledger that agree.

A real run's manifest is taken for its shape (some 90 distributions); experiment, seeds, results, clock, machine's name
and ledger entries are each run's own. Everything verifies. Ledger and manifests are written without waiting for the
disk, hence the speed; nothing here shows that the recorder works, other tests do.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import Results, read_results
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from provenance.attestation.dsse import PAYLOAD_TYPE, read_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Artifact, LedgerReference, Manifest, Resource
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.formats.digest import bytes_digest
from provenance.ledger_entries.entry import Entry, EntryLine
from provenance.signatures.public_key import pae

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "runs" / "vgg16_nd_1" / "manifest.dsse.json"

Row = dict[str, Any]
# a name that would run in a page that forgot to escape it
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass
class SignedRuns:
    """A folder of runs with its key home; ``close`` writes the ledger."""

    root: Path
    _lines: list[bytes] = field(default_factory=list)
    _last: Entry | None = None

    def __post_init__(self) -> None:
        self._signer, self._key = KeyRing(self.home).signer(), KeyRing(self.home).public_key()
        payload = read_envelope(SAMPLE.read_bytes())[1]
        self._sample = Statement.from_bytes(payload).manifest

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.root / "runs"

    @property
    def home(self) -> Path:
        """The key home."""
        return self.root / "keys"

    def add(
        self,
        experiment: Experiment,
        rows: Sequence[Row],
        *,
        run: str = "",
        seconds: float = 60.0,
        outcome: str = "completed",
        environment: str = "main",
        versions: Mapping[str, str] | None = None,
        official: bool = True,
        data_files: str = "",
    ) -> Path:
        """One run with these rows of results, on data whose files have that digest; returns its folder."""
        number = len(self._lines)
        run = run or f"20261121T{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}Z-{number:06x}"
        folder = self.runs / experiment.name / run
        folder.mkdir(parents=True)
        files = {
            "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
            "timing.jsonl": b"".join(_timing(row["epoch"], seconds / len(rows)) for row in rows),
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
        began = self._entry("begun", run, {"name": experiment.name})
        manifest = self._manifest(experiment, rows, run, environment, versions or {})
        manifest = replace(
            manifest, dependencies=_with_data(manifest.dependencies, experiment.dataset, official, data_files)
        )
        artifacts = tuple(Artifact(name, len(data), bytes_digest(data)) for name, data in files.items())
        ledger = LedgerReference(began.sequence, began.digest, self._key.keyid)
        manifest = replace(manifest, artifacts=artifacts, ledger=ledger, outcome=outcome)
        data = Statement.about(manifest).to_bytes()
        signature = bytes.fromhex(self._signer.sign(pae(PAYLOAD_TYPE, data)).signature)
        envelope = write_envelope(PAYLOAD_TYPE, data, [(self._signer.public_key.keyid, signature)])
        (folder / "manifest.dsse.json").write_bytes(envelope)
        self._entry("ended", run, {"outcome": outcome, "manifest": bytes_digest(envelope)})
        return folder

    def begin(self, run: str, name: str) -> None:
        """A run that the ledger knows, and nobody else."""
        self._entry("begun", run, {"name": name})

    def close(self) -> Path:
        """Write the ledger; returns the folder of runs."""
        self.runs.mkdir(parents=True, exist_ok=True)
        (self.runs / "ledger.jsonl").write_bytes(b"\n".join([*self._lines, b""]))
        return self.runs

    def scores(self) -> Results:
        """What verifies of it."""
        return read_results(self.runs, policy=TrustPolicy.load(self.home))

    def _entry(self, event: str, run: str, fields: dict[str, Any]) -> Entry:
        made = EntryLine.sign(event, run, fields, after=self._last, signer=self._signer, key=self._key)
        self._lines.append(made.to_bytes())
        self._last = made.entry
        return made.entry

    def _manifest(
        self, experiment: Experiment, rows: Sequence[Row], run: str, environment: str, versions: Mapping[str, str]
    ) -> Manifest:
        sample = self._sample
        seeds = {stream: str(experiment.seed_of(stream)) for stream in STREAMS}
        parameters = {"command": ["ndrepro", "run", experiment.name], "data": experiment.dataset, "seeds": seeds}
        parameters |= {"environment": environment, "experiment": experiment.to_json(), "name": experiment.name}
        last = {
            key: value if not isinstance(value, float) or math.isfinite(value) else str(value)
            for key, value in rows[-1].items()
        }
        summary = Resource("metrics summary", annotations={"epochs": len(rows), "last": last})
        others = tuple(item for item in sample.byproducts if item.name != summary.name)
        dependencies = tuple(_with_version(item, versions) for item in sample.dependencies)
        started = f"2026-11-21T{run[9:11]}:{run[11:13]}:{run[13:15]}.000000Z" if run[8:9] == "T" else sample.started_on
        return replace(
            sample,
            external_parameters=parameters,
            invocation_id=run,
            byproducts=(summary, *others),
            dependencies=dependencies,
            started_on=started,
        )


def rows(epochs: int, test: float, train: float | None = None, loss: float = 0.5) -> list[Row]:
    """Epochs of a training that ends at these accuracies (fractions) and this loss; more or less smoothly."""
    train = test + 0.02 if train is None else train
    found = []
    for epoch in range(1, epochs + 1):
        done = 1 - math.exp(-4 * epoch / epochs) if epoch < epochs else 1.0
        row = {
            "epoch": epoch,
            "step": 391 * epoch,
            "train_loss": loss + 2.0 * (1 - done),
            "test_loss": loss + 2.1 * (1 - done),
        }
        row |= {"train_accuracy": 0.1 + (train - 0.1) * done, "test_accuracy": 0.1 + (test - 0.1) * done}
        found.append({**row, "learning_rate": 0.1})
    return found


def noise(*key: Any) -> float:
    """A number from -1 to 1 that depends on ``key`` alone."""
    return zlib.crc32(repr(key).encode()) / 2**31 - 1


def _timing(epoch: int, seconds: float) -> bytes:
    row = {"epoch": epoch, "train_seconds": seconds, "test_seconds": seconds / 10, "trail_seconds": 0.0}
    row |= {"images_per_second": 50_000 / seconds, "peak_memory_bytes": 10**9, "peak_device_memory_bytes": 0}
    return json.dumps(row).encode() + b"\n"


def _with_version(item: Resource, versions: Mapping[str, str]) -> Resource:
    name = item.name.removeprefix("distribution:")
    if name == item.name or name not in versions:
        return item
    return replace(item, uri=f"pkg:pypi/{name}@{versions[name]}")


def _with_data(items: Sequence[Resource], dataset: str, official: bool, files: str) -> tuple[Resource, ...]:
    said: dict[str, Any] = {"canonical": official, **({"tree_sha256": files} if files else {})}
    return tuple(
        replace(item, name=f"dataset:{dataset}", annotations={**(item.annotations or {}), **said})
        if item.name.startswith("dataset:")
        else item
        for item in items
    )
