"""Chooses the state that a run is resumed from: the latest checkpoint that was signed and is unchanged.

What an earlier attempt left is believed as far as a trusted key signed it: by that attempt's manifest, or, where its
recorder was killed, by the ledger, in which its parent bound the request and every checkpoint. The request and the logs
up to the checkpoint must be those that were signed, the checkpoint's file too, and the state in it must have its
recorded digest. A later checkpoint that fails is refused, with the reason, and an earlier one is taken, or the start.

Nothing is taken over from an attempt that another key signed: the resumed run is signed with the own key, results and
weights of the earlier attempt included, and nobody here saw them made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.resumption.checkpoint_record import BoundCheckpoint, bound_checkpoints, bound_requests
from ndrepro.execution.resumption.recorded_states import checkpoint_state, expect_state
from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_state import read_states
from provenance.attestation.dsse import verify_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import file_digest
from provenance.signatures.public_key import PublicKey

_UNBOUND = "nobody signed it with this machine's key: its recorder was killed before, or an earlier release wrote it"
_OF_ANOTHER = "every checkpoint: another key signed the earlier attempt, whose results this run would vouch for"


@dataclass(frozen=True)
class ResumeStart:
    """The step to resume from, 0 for the start, and in words why each later checkpoint is not taken."""

    step: int
    refused: tuple[str, ...]


def choose_start(folder: RunFolder, ledger: Ledger, keys: Sequence[PublicKey], own: Sequence[PublicKey]) -> ResumeStart:
    """The latest checkpoint of the run that verifies with one of the ``own`` keys, by its manifest or the ledger of the
    runs; ``keys`` are all that are trusted.

    Raises CheckpointError where the request is not the one that was signed, TrustError or EnvelopeError where the
    signature of an earlier attempt does not hold.
    """
    manifest = _last_manifest(folder, keys)
    bound: Mapping[int, BoundCheckpoint] = {}
    if manifest is not None:
        _expect_request(folder, _artifact(manifest, folder, folder.request))
        signers = verify_envelope(read_bounded(folder.manifest), keys).signers
        if not set(signers) <= {key.keyid for key in own}:
            return ResumeStart(0, (_OF_ANOTHER,) if folder.checkpoint_steps() else ())
    else:
        entries = ledger.entries_of(folder.root.name, own)
        if requests := bound_requests(entries):
            _expect_request(folder, *requests)
        bound = bound_checkpoints(entries)
    refused: list[str] = []
    for step in reversed(folder.checkpoint_steps()):
        try:
            if manifest is not None:
                _expect_signed(folder, manifest, step)
            elif step not in bound:
                raise CheckpointError(_UNBOUND)
            elif BoundCheckpoint.of(folder, step) != bound[step]:
                raise CheckpointError("it, or a log up to its step, was changed after it was recorded")
            _expect_recorded_state(folder, step)
            return ResumeStart(step, tuple(refused))
        except (ProvenanceError, OSError, ValueError) as error:
            refused.append(f"{folder.checkpoint(step).name}: {getattr(error, 'message', None) or error}")
    return ResumeStart(0, tuple(refused))


def _last_manifest(folder: RunFolder, keys: Sequence[PublicKey]) -> Manifest | None:
    """The manifest of the last attempt; None where its recorder was killed, or there was none."""
    path = folder.manifest
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
    manifest = Statement.from_bytes(verify_envelope(data, keys).payload).manifest
    if manifest.invocation_id != folder.root.name:
        raise CheckpointError(f"{path}: the manifest of {manifest.invocation_id}", "get the run's own manifest")
    return manifest


def _artifact(manifest: Manifest, folder: RunFolder, path: Path) -> str | None:
    signed = manifest.artifact(path.relative_to(folder.root).as_posix())
    return None if signed is None else signed.sha256


def _expect_request(folder: RunFolder, *signed: str | None) -> None:
    if file_digest(folder.request, follow_symlinks=False).sha256 not in signed:
        raise CheckpointError(
            f"{folder.request}: not the request that was signed", "get the original file, or start a new run"
        )


def _expect_signed(folder: RunFolder, manifest: Manifest, step: int) -> None:
    for path in (folder.checkpoint(step), folder.trail, folder.metrics, folder.timing, folder.states):
        signed = _artifact(manifest, folder, path)
        if (signed is not None or path.exists()) and (
            not path.exists() or file_digest(path, follow_symlinks=False).sha256 != signed
        ):
            raise CheckpointError(f"{path.name} is not the file that was signed")


def _expect_recorded_state(folder: RunFolder, step: int) -> None:
    path = folder.checkpoint(step)
    rows = {row.step: row for row in read_states(folder.states, tolerate_torn=True)}
    if step in rows:
        expect_state(path, rows[step])
    else:
        checkpoint_state(path)
