"""The signed record of a run's checkpoints, which its parent process writes as they appear.

A manifest is signed when an attempt ends. An attempt whose recorder is killed has none, and whatever could write into
the run folder meanwhile could change what it is resumed from. So the parent hashes every checkpoint when it first sees
it, and every log up to the checkpoint's step, and signs the list with the run's key. The record lies beside the runs,
out of the folder that the training process writes into, and is removed when the manifest is signed.

    RUNS/.checkpoints/EXPERIMENT.RUN.dsse.json    in-toto statement; subjects: request.json and the checkpoints
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from provenance.attestation.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.errors import ManifestError, ProvenanceError, StorageError
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.digest import file_digest
from provenance.formats.metrics_log import parse_row, read_scalars
from provenance.formats.strict_json import Field
from provenance.formats.trail import Trail
from provenance.signatures.public_key import PublicKey

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "urn:ndrepro:checkpoints:v1"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class BoundCheckpoint:
    """A checkpoint's SHA-256, and size and SHA-256 of each log's part up to its ``step``."""

    step: int
    sha256: str
    logs: dict[str, tuple[int, str]]

    @classmethod
    def of(cls, folder: RunFolder, step: int) -> BoundCheckpoint:
        """What is there now. Raises ProvenanceError or OSError where a file is missing or too short."""
        return cls(step, file_digest(folder.checkpoint(step), follow_symlinks=False).sha256, _logs(folder, step))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: step, sha256, and of each log its size and sha256."""
        logs = {name: {"size": size, "sha256": digest} for name, (size, digest) in self.logs.items()}
        return {"step": self.step, "sha256": self.sha256, "logs": logs}

    @classmethod
    def from_json(cls, field: Field) -> BoundCheckpoint:
        """The reverse. Raises ManifestError."""
        members = field.members(("step", "sha256", "logs"))
        logs = {}
        for name, item in members["logs"].mapping().items():
            part = Field(item, f"{field.path}.logs.{name}", ManifestError).members(("size", "sha256"))
            logs[name] = (part["size"].integer(0), part["sha256"].sha256())
        return cls(members["step"].integer(0), members["sha256"].sha256(), logs)


@dataclass(frozen=True)
class CheckpointRecord:
    """What a record says: the run, the SHA-256 of its request, its checkpoints."""

    run: str
    request: str
    checkpoints: tuple[BoundCheckpoint, ...]


class CheckpointRecorder:
    """Keeps the record of one attempt. Make one when the folder is held; call ``look`` while the attempt lasts."""

    def __init__(self, folder: RunFolder, path: Path, keys: KeyRing) -> None:
        self._folder = folder
        self._path = path
        self._signer = keys.signer()
        self._bound: dict[int, BoundCheckpoint] = {}
        self._written: tuple[int, ...] | None = None

    def look(self) -> None:
        """Bind the checkpoints that are new. Raises StorageError where the record cannot be written."""
        steps = self._folder.checkpoint_steps()
        if self._written is not None and set(steps) <= set(self._bound):
            return
        for step in steps:
            if step not in self._bound:
                try:
                    self._bound[step] = BoundCheckpoint.of(self._folder, step)
                except (ProvenanceError, OSError):
                    continue  # replaced by a later one meanwhile, or damaged: then it is not resumed from
        kept = tuple(step for step in steps if step in self._bound)
        if kept != self._written:
            self._write([self._bound[step] for step in kept])
            self._written = kept

    def remove(self) -> None:
        """The manifest is signed: it says the same."""
        self._path.unlink(missing_ok=True)

    def _write(self, checkpoints: Sequence[BoundCheckpoint]) -> None:
        request = file_digest(self._folder.request, follow_symlinks=False).sha256
        subjects = [(self._folder.request, request)]
        subjects += [(self._folder.checkpoint(item.step), item.sha256) for item in checkpoints]
        statement = {
            "_type": _STATEMENT,
            "subject": [
                {"name": path.relative_to(self._folder.root).as_posix(), "digest": {"sha256": digest}}
                for path, digest in subjects
            ],
            "predicateType": _PREDICATE,
            "predicate": {
                "run": self._folder.root.name,
                "request": request,
                "checkpoints": [item.to_json() for item in checkpoints],
            },
        }
        envelope = sign_envelope(canonical_bytes(statement), self._signer)
        make_folder(self._path.parent)
        write_atomically(self._path, write_envelope(*read_envelope(envelope)))


def read_record(path: Path, keys: Sequence[PublicKey]) -> CheckpointRecord | None:
    """The record in ``path``; None where there is none. Raises ProvenanceError where no such key signed it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
    top = Field(parse(verify_envelope(data, keys).payload), "$", ManifestError).mapping()
    if (top.get("_type"), top.get("predicateType")) != (_STATEMENT, _PREDICATE):
        raise ManifestError(f"{path}: not a record of checkpoints")
    said = Field(top.get("predicate"), "$.predicate", ManifestError).members(("run", "request", "checkpoints"))
    checkpoints = tuple(BoundCheckpoint.from_json(item) for item in said["checkpoints"].items())
    return CheckpointRecord(said["run"].text(), said["request"].sha256(), checkpoints)


def _logs(folder: RunFolder, step: int) -> dict[str, tuple[int, str]]:
    """Of each log the part up to ``step``: what a resumed attempt keeps of it."""
    parts = {folder.trail: Trail(folder.trail).size_through(step)}
    rows = 0
    if folder.metrics.exists():
        logged = read_scalars(folder.metrics, tolerate_torn=True)
        rows = sum(Scores.from_row(row).step <= step for row in logged)
        parts[folder.metrics] = _size_of_rows(folder.metrics, rows)
    if folder.timing.exists():
        parts[folder.timing] = _size_of_rows(folder.timing, rows)
    if folder.states.exists():
        parts[folder.states] = _size_of_rows(folder.states, rows + 1)
    return {path.name: (size, _sha256(path, size)) for path, size in parts.items()}


def _size_of_rows(path: Path, count: int) -> int:
    with path.open("rb") as stream:
        lines = [stream.readline() for _ in range(count)]
    if not all(line.endswith(b"\n") and parse_row(line) for line in lines):
        raise CheckpointError(f"{path}: fewer than {count} rows")
    return sum(map(len, lines))


def _sha256(path: Path, size: int) -> str:
    digest, left = hashlib.sha256(), size
    with path.open("rb") as stream:
        while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    if left:
        raise CheckpointError(f"{path}: {size - left} bytes, {size} expected")
    return digest.hexdigest()
