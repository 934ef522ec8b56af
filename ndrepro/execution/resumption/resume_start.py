"""Chooses the state that a run is resumed from: the latest checkpoint that was signed and is unchanged.

What an earlier attempt left is believed as far as a trusted key signed it: by that attempt's manifest, or, where its
recorder was killed, by the ledger, in which its parent bound the request and every checkpoint. The request and the logs
up to the checkpoint must be those that were signed, the checkpoint's file too, and the state in it must have its
recorded digest. A later checkpoint that fails is refused, with the reason, and an earlier one is taken, or the start.

A run of which another trusted key signed an attempt is not resumed, nor anything of it removed: it would be signed with
the own key, results and weights of the earlier attempt included, and nobody here saw them made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.resumption.checkpoint_record import BoundCheckpoint, bound_checkpoints, bound_requests
from ndrepro.execution.resumption.recorded_states import checkpoint_state, expect_state
from ndrepro.protocol.errors import CheckpointError, NotOwnRun
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_state import read_states
from provenance.attestation.countersignature import ORIGIN, ended_here
from provenance.attestation.dsse import verify_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN, Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.digest import file_digest
from provenance.ledger_entries.entry import Entry

_UNBOUND = "nobody signed it with this machine's key: its recorder was killed before, or an earlier release wrote it"


@dataclass(frozen=True)
class ResumeStart:
    """The step to resume from, 0 for the start, and in words why each later checkpoint is not taken."""

    step: int
    refused: tuple[str, ...]


def began_for_itself(folder: RunFolder, ledger: Ledger, trust: TrustPolicy) -> bool:
    """Whether this machine's recorder made what is in a run's folder, its request too, and not to repeat another run,
    whose author chose all in it.
    """
    own, verdict = _told(folder, ledger, trust)
    if folder.origin.exists() or any(ORIGIN in each.fields for each in own):
        return False
    if verdict is not None:  # from the list an entry may have been removed
        manifest = verdict.manifest
        if manifest is None or manifest.dependency(REPRODUCED_RUN) is not None:
            return False
        if _artifact(manifest, folder, folder.request) != _digest_of_request(folder):
            return False
    return _begun_here(folder, own, verdict)


def _told(folder: RunFolder, ledger: Ledger, trust: TrustPolicy) -> tuple[list[Entry], Verdict | None]:
    """What the own keys signed of a run in the ledger, and the verdict on its manifest, where it has one."""
    own = ledger.entries_of(folder.root.name, trust.own_keys())
    return own, verify(folder.manifest, trust=trust, manifest_only=True) if folder.manifest.exists() else None


def _begun_here(folder: RunFolder, own: Sequence[Entry], verdict: Verdict | None) -> bool:
    """Whether by the ledger the own key ended the run with its manifest, or, where it has none, began an attempt with
    its request.
    """
    return ended_here(verdict, own) if verdict else _digest_of_request(folder) in bound_requests(own)


def choose_start(folder: RunFolder, ledger: Ledger, trust: TrustPolicy) -> ResumeStart:
    """The latest checkpoint of the run that verifies, by its manifest or the ledger of the runs.

    Raises NotOwnRun for a run that another trusted key signed or began, CheckpointError where the request is not the
    one that was signed or bound, TrustError or EnvelopeError where the signature of an earlier attempt does not hold.
    """
    keys = trust.keys()
    entries = ledger.entries_of(folder.root.name, keys)
    own_keys = {key.keyid for key in trust.own_keys()}
    _expect_own(folder, [key for key in keys if key.base64 in {entry.key for entry in entries}], own_keys)
    _expect_origin(folder, entries)
    own = _begun_here(folder, *_told(folder, ledger, trust))
    manifest = _last_manifest(folder, keys, own_keys, own=own)
    bound: Mapping[int, BoundCheckpoint] = {}
    if manifest is not None:
        is_known = _artifact(manifest, folder, folder.request) == _digest_of_request(folder)
    else:
        is_known = own or not any(entry.key for entry in entries)
        bound = bound_checkpoints(entries)
    if not is_known:
        raise CheckpointError(
            f"{folder.request}: not the request that was signed", "get the original file, or start a new run"
        )
    refused: list[str] = []
    for step in reversed(folder.checkpoint_steps()):
        try:
            if manifest is not None:
                _expect_signed(folder, manifest, step)
            elif step not in bound:
                raise CheckpointError(_UNBOUND)
            elif not bound[step].is_kept(BoundCheckpoint.of(folder, step)):
                raise CheckpointError("it, or a log up to its step, was changed after it was recorded")
            _expect_recorded_state(folder, step)
            return ResumeStart(step, tuple(refused))
        except (ProvenanceError, OSError, ValueError) as error:
            refused.append(f"{folder.checkpoint(step).name}: {getattr(error, 'message', None) or error}")
    return ResumeStart(0, tuple(refused))


def _expect_own(folder: RunFolder, signers: Sequence[TrustedKey], own_keys: Collection[str]) -> None:
    others = ", ".join(dict.fromkeys(key.name for key in signers if key.keyid not in own_keys))
    if others:
        raise NotOwnRun(
            f"{folder.root}: started or signed by {others}: what it has trained would be signed with your key",
            "let them resume it, or train it yourself from its start with `ndrepro run`",
        )


def _expect_origin(folder: RunFolder, entries: Sequence[Entry]) -> None:
    """Raises CheckpointError where a repetition does not say any more which run it repeats: it would pass for none."""
    bound = [entry.fields[ORIGIN] for entry in entries if ORIGIN in entry.fields and entry.key]
    if bound and (not folder.origin.is_file() or file_digest(folder.origin, follow_symlinks=False).sha256 not in bound):
        raise CheckpointError(
            f"{folder.origin}: not the file that the run began with, which says which run it repeats",
            "get the original file, or repeat that run anew with `ndrepro reproduce`",
        )


def _last_manifest(
    folder: RunFolder, keys: Sequence[TrustedKey], own_keys: Collection[str], *, own: bool
) -> Manifest | None:
    """The manifest of the last attempt; None where its recorder was killed, or there was none.

    A colleague may have countersigned an ``own`` run; without the entry that ended it, it is not known who recorded it.
    """
    path = folder.manifest
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
    verified = verify_envelope(data, keys)
    signers = [key for key in keys if key.keyid in verified.signers]
    manifest = Statement.from_bytes(verified.payload).manifest
    if not own:
        _expect_own(folder, signers, own_keys)
        raise NotOwnRun(
            f"{path}: the ledger beside the run does not say that this machine's key ended it with this manifest",
            "resume it beside the ledger that it was recorded in, or train it anew with `ndrepro run`",
        )
    if manifest.invocation_id != folder.root.name:
        raise CheckpointError(f"{path}: the manifest of {manifest.invocation_id}", "get the run's own manifest")
    return manifest


def _artifact(manifest: Manifest, folder: RunFolder, path: Path) -> str | None:
    signed = manifest.artifact(path.relative_to(folder.root).as_posix())
    return None if signed is None else signed.sha256


def _digest_of_request(folder: RunFolder) -> str:
    return file_digest(folder.request, follow_symlinks=False).sha256


def _expect_signed(folder: RunFolder, manifest: Manifest, step: int) -> None:
    logs = folder.trail, folder.metrics, folder.timing, folder.states, folder.dataset_listing
    for path in (folder.checkpoint(step), *logs):
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
