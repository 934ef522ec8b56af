"""What a run may be resumed from, bound in the ledger by its parent process as it appears.

A manifest is signed when an attempt ends. An attempt whose recorder is killed has none, and whatever could write into
the run folder meanwhile could change what it is resumed from. So the entry that begins an attempt has the digest of
request.json, and the parent hashes every checkpoint when it first sees it, and every log up to the checkpoint's step,
and appends an entry of its own:

    event "checkpoint"   fields {"step", "sha256", "logs": {name: {"size", "sha256"}}}

Entries are signed, and chained to all that follow, so that not even the holder of the key binds another checkpoint in
their place once a later entry, or a head of the ledger, is known elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.errors import ManifestError, ProvenanceError
from provenance.formats.bounded_read import open_regular
from provenance.formats.digest import file_digest
from provenance.formats.metrics_log import parse_row, read_scalars
from provenance.formats.strict_json import Field
from provenance.formats.trail import Trail
from provenance.ledger_entries.entry import CHECKPOINT, Entry

# member of the entry that begins an attempt
REQUEST = "request"
_CHUNK_BYTES = 1 << 20
_ROW_BYTES = 1 << 22  # some 300 are used


@dataclass(frozen=True)
class BoundCheckpoint:
    """A checkpoint's SHA-256, and size and SHA-256 of each log's part up to its ``step``, and of the data's list."""

    step: int
    sha256: str
    logs: dict[str, tuple[int, str]]

    @classmethod
    def of(cls, folder: RunFolder, step: int) -> BoundCheckpoint:
        """What is there now. Raises ProvenanceError or OSError where a file is missing or too short."""
        return cls(step, file_digest(folder.checkpoint(step), follow_symlinks=False).sha256, _logs(folder, step))

    def is_kept(self, there: BoundCheckpoint) -> bool:
        """Whether what is ``there`` is what was bound; releases before this one bound no list of the data's files."""
        return self == replace(there, logs={name: there.logs[name] for name in there.logs if name in self.logs})

    def to_json(self) -> dict[str, Any]:
        """Step and SHA-256, and size and SHA-256 of each log."""
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


class CheckpointRecorder:
    """Binds the checkpoints of one attempt. Make one when the folder is held; call ``look`` while the attempt lasts."""

    def __init__(self, folder: RunFolder, ledger: Ledger, keys: KeyRing) -> None:
        self._folder = folder
        self._ledger = ledger
        self._keys = keys
        self._signer = keys.signer()
        self._seen: set[int] | None = None
        # one that an earlier attempt wrote and did not bind, being killed, may be anybody's by now
        self._before = {step: _identity(folder.checkpoint(step)) for step in folder.checkpoint_steps()}

    def look(self) -> None:
        """Bind the checkpoints that are new. Raises StorageError where the ledger cannot be written."""
        steps = self._folder.checkpoint_steps()
        if self._seen is None:
            # what an earlier attempt bound stays as it was bound, whatever the file is now
            self._seen = set(self._earlier()) & set(steps) if steps else set()
        for step in steps:
            if step not in self._seen and self._is_written(step):
                try:
                    found = BoundCheckpoint.of(self._folder, step)
                except (ProvenanceError, OSError):
                    continue  # replaced by a later one meanwhile, or damaged: then it is not resumed from
                self._ledger.append(CHECKPOINT, self._folder.root.name, self._signer, **found.to_json())
                self._seen.add(step)

    def _is_written(self, step: int) -> bool:
        """Whether this attempt wrote the checkpoint: another file than lay there when it began."""
        return step not in self._before or self._before[step] != _identity(self._folder.checkpoint(step))

    def _earlier(self) -> dict[int, BoundCheckpoint]:
        own = TrustPolicy.load(self._keys.home).own_keys()
        return bound_checkpoints(self._ledger.entries_of(self._folder.root.name, own))


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Which file it is; ``None`` where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def bound_checkpoints(entries: Iterable[Entry]) -> dict[int, BoundCheckpoint]:
    """The checkpoints that entries of a run bind, the last one of each step. Raises ManifestError."""
    # an unsigned one, as in ledgers of earlier releases, may be anybody's
    found = (entry for entry in entries if entry.event == CHECKPOINT and entry.key)
    bound = (BoundCheckpoint.from_json(Field(entry.fields, "$.fields", ManifestError)) for entry in found)
    return {each.step: each for each in bound}


def bound_requests(entries: Iterable[Entry]) -> list[str]:
    """The SHA-256 of request.json as each attempt at a run began with it; none of earlier releases."""
    return [str(entry.fields[REQUEST]) for entry in entries if REQUEST in entry.fields and entry.key]


def _logs(folder: RunFolder, step: int) -> dict[str, tuple[int, str]]:
    """Of each log the part up to ``step``: what a resumed attempt keeps of it; and the list of the data's files."""
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
    if folder.dataset_listing.exists():
        parts[folder.dataset_listing] = folder.dataset_listing.stat().st_size
    return {path.name: (size, _sha256(path, size)) for path, size in parts.items()}


def _size_of_rows(path: Path, count: int) -> int:
    with open(open_regular(path), "rb") as stream:
        lines = [stream.readline(_ROW_BYTES) for _ in range(count)]
    if not all(line.endswith(b"\n") and parse_row(line) for line in lines):
        raise CheckpointError(f"{path}: fewer than {count} rows")
    return sum(map(len, lines))


def _sha256(path: Path, size: int) -> str:
    digest, left = hashlib.sha256(), size
    with open(open_regular(path), "rb") as stream:
        while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    if left:
        raise CheckpointError(f"{path}: {size - left} bytes, {size} expected")
    return digest.hexdigest()
