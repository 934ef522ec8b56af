"""Open, observe, close: one attempt at a run, from the ledger's "begun" to the signed manifest and its "ended".

``open`` takes the folder's lock, makes sure that signing will work, and writes "begun" (or "resumed") to the ledger
before anything is done. ``close`` hashes every file of the folder itself, whatever the run said of them, builds the
manifest, signs it, writes it whole or not at all, and then writes "ended" with the manifest's digest. Between the two
the caller runs whatever is recorded, best in a process that never sees the key.

Nothing false is signed: what is no regular file, too large, or still changing is named in the manifest with the
reason, and the run is signed as failed. Where nothing can be signed, as on a full disk, the ledger (which may be on
another disk) records why the run failed. If this process dies as well, the ledger has a beginning without an end.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.attestation.dsse import sign_envelope
from provenance.attestation.key_home import KeyRing, default_home
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import (
    ERROR,
    NOT_RECORDED,
    OUTCOMES,
    Attempt,
    Builder,
    LedgerReference,
    Manifest,
    Resource,
)
from provenance.attestation.run_files import BUNDLES, MANIFEST, hold, inventory
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.capture.unavailable import printable
from provenance.errors import DigestError, ProvenanceError, UsageError, message_of
from provenance.formats.atomic_io import make_folder, storage_error, sync_folder, write_atomically
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import Field, read_record, timestamp
from provenance.ledger_entries.entry import CHECKPOINT, Entry
from provenance.redaction.redact import redact_text
from provenance.signatures.public_key import PublicKey

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner


class Recorder:
    """One attempt at a run. Make one with ``open``; end it with ``close``, or with ``release`` to leave it unsigned.

    Attributes:
        folder: the run folder.
        run_id: the run's name in the ledger and the manifest's invocationId.
        entry: the ledger's entry that began this attempt; ``entry.event`` is "begun" or "resumed".
        lock_fd: the lock's file descriptor; a child that inherits it keeps the folder busy while it lives.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        *,
        ledger: Ledger,
        keys: KeyRing,
        build_type: str,
        external_parameters: Mapping[str, Any],
        builder: Builder,
        lock_fd: int,
        entry: Entry,
        signer: MessageSigner,
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self.lock_fd = lock_fd
        self.entry = entry
        self._ledger = ledger
        self._keys = keys
        self._signer = signer
        self._build_type = build_type
        self._external_parameters = external_parameters
        self._builder = builder

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        ledger: Ledger | Path,
        home: Path | None = None,
        build_type: str,
        name: str,
        run_id: str,
        external_parameters: Mapping[str, Any],
        builder: Builder | Mapping[str, Any],
        bound: Mapping[str, Any] | None = None,
    ) -> Recorder:
        """Hold ``folder`` and tell the ledger that the run begins, or is resumed where it has been started before.

        Args:
            folder: the run folder, made where it is missing.
            ledger: the list of runs, or its path.
            home: the key home; ``default_home()`` where it is left out.
            build_type: the URI of what kind of run this is.
            name: what the run is called by people; it goes into the ledger.
            run_id: the run's identifier, never used for another.
            external_parameters: what was asked for, as JSON.
            builder: who runs it, with ``id`` and ``version``.
            bound: what else the ledger's entry binds, as JSON.

        Raises:
            BusyError: another process holds the folder.
            KeyFileError: there is no key to sign with and none can be made.
            CanonicalError: a parameter has no JSON form.
            UsageError: the identifier is empty or has more than 255 bytes, or the ledger is in the folder.
            StorageError: the folder or the ledger cannot be written.
        """
        folder = Path(folder)
        ledger = ledger if isinstance(ledger, Ledger) else Ledger(Path(ledger))
        builder = builder if isinstance(builder, Builder) else read_record(Builder, Field(dict(builder), "builder"))
        Field(run_id, "run_id", UsageError).identifier()
        parameters = canonical_bytes(external_parameters)
        if ledger.path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{ledger.path}: lies inside the run folder, which is signed", "keep the ledger beside it")
        keys = KeyRing(default_home() if home is None else Path(home))
        make_folder(folder)
        lock_fd = hold(folder)
        try:
            # now, not after hours of training
            signer, own = keys.signer(), TrustPolicy.load(keys.home).own_keys()
            known = (folder / MANIFEST).exists() or ledger.entries_of(run_id, own)
            event = "resumed" if known else "begun"
            said = {**(bound or {}), "name": name, "parameters": bytes_digest(parameters)}
            entry = ledger.append(event, run_id, signer, **said)
        except BaseException:
            os.close(lock_fd)
            raise
        recorder = cls(
            folder,
            run_id,
            ledger=ledger,
            keys=keys,
            build_type=build_type,
            external_parameters=external_parameters,
            builder=builder,
            lock_fd=lock_fd,
            entry=entry,
            signer=signer,
        )
        try:
            _put_aside(folder)
        except BaseException as error:
            recorder._tell("failed", error)
            recorder.release()
            raise
        return recorder

    def close(
        self,
        *,
        outcome: str,
        exit_code: int | Mapping[str, Any] | None,
        started: datetime | str,
        finished: datetime | str,
        internal_parameters: Mapping[str, Any],
        dependencies: Iterable[Resource] = (),
        byproducts: Iterable[Resource] = (),
        machine: Any = None,
        attempts: Iterable[Attempt] | None = None,
        hashing: AbstractContextManager[object] | None = None,
        contradiction: Callable[[Manifest], ProvenanceError | None] = lambda manifest: None,
    ) -> Path:
        """Hash, sign, write the manifest, tell the ledger, release the folder; the manifest's path.

        ``attempts`` are taken from the ledger where they are left out. ``hashing`` is open while files are hashed, the
        only part that takes long: a stop may interrupt it. ``contradiction`` is asked what the files of a completed run
        say against its manifest, before that is signed. Whatever goes wrong, it is recorded in the ledger (if it can be
        written) and the folder is released.

        Raises:
            ManifestError: a value breaks the schema. CanonicalError: a value has no JSON form.
            StorageError: the disk is full; nothing is signed.
            DigestError: the folder holds what cannot be recorded, or a file was still changing; the manifest is signed
                as that of a failed run and names it. What ``contradiction`` returns, likewise.
            UsageError: the recorder was closed before, or the outcome is none of ``OUTCOMES``.
        """
        if self.lock_fd < 0:
            raise UsageError(f"{self.folder}: this recorder is closed", "open another")
        if outcome not in OUTCOMES:
            raise UsageError(f"outcome {outcome!r}, expected one of {', '.join(OUTCOMES)}")
        try:
            began, ended = _time(started), _time(finished)
            made = Manifest(
                build_type=self._build_type,
                external_parameters=self._external_parameters,
                internal_parameters=internal_parameters,
                dependencies=tuple(dependencies),
                builder=self._builder,
                invocation_id=self.run_id,
                started_on=began,
                finished_on=ended,
                byproducts=tuple(byproducts),
                outcome=outcome,
                exit_code=exit_code,
                attempts=self._attempts(Attempt(began, ended, outcome)) if attempts is None else tuple(attempts),
                machine=machine,
                ledger=LedgerReference(self.entry.sequence, self.entry.digest, self.keyid),
                artifacts=(),
            )
            wrong: ProvenanceError | None = None
            with hashing or contextlib.nullcontext():
                found = inventory(self.folder)
                made = replace(made, artifacts=found.artifacts)
                if found.refused:
                    made = _failed(made, Resource(NOT_RECORDED, annotations=dict(found.refused)))
                elif outcome == "completed" and (wrong := contradiction(made)) is not None:
                    made = _failed(made, error_resource(wrong))
            path, digest = self._sign(made)
        except BaseException as error:
            self._tell("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error)
            self.release()
            raise
        try:
            self._ledger.append("ended", self.run_id, self._signer, outcome=made.outcome, manifest=digest)
        finally:
            self.release()
        for name, reason in found.refused.items():
            more = f", nor {len(found.refused) - 1} more" if len(found.refused) > 1 else ""
            raise DigestError(
                f"{self.folder / name}: not recorded{more}: {reason}; the run was signed as failed",
                "remove it, or put the file itself there, and resume or repeat the run",
            )
        if wrong is not None:
            raise wrong
        return path

    @property
    def keyid(self) -> str:
        """The identifier of the key that signs."""
        return PublicKey.of_signer(self._signer).keyid

    def fail(self, error: BaseException | None) -> None:
        """Where ``close`` was never reached: tell the ledger that the run failed, and release the folder."""
        if self.lock_fd >= 0:
            self._tell("failed", error or ProvenanceError("it ended before it could be signed"))
            self.release()

    def release(self) -> None:
        """Let go of the folder without a manifest; after ``close`` it does nothing.

        The descriptor is closed and not unlocked: a child that still has it keeps the folder busy.
        """
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def _sign(self, manifest: Manifest) -> tuple[Path, str]:
        """Sign and write the manifest; its path and digest."""
        payload = Statement.about(manifest).to_bytes()
        # read back before it is signed: what breaks the schema is found here and not by whoever verifies
        Statement.from_bytes(payload)
        data = sign_envelope(payload, self._keys.signer())
        path = self.folder / MANIFEST
        write_atomically(path, data)
        return path, bytes_digest(data)

    def _tell(self, outcome: str, error: BaseException) -> None:
        """Note in the ledger why there is no manifest; the error itself is on its way to the caller."""
        reason = f"{type(error).__name__}: {message_of(error)}".encode("utf-8", "backslashreplace").decode()
        with contextlib.suppress(ProvenanceError, OSError):
            self._ledger.append("ended", self.run_id, self._signer, outcome=outcome, manifest=None, reason=reason)

    def _attempts(self, this: Attempt) -> tuple[Attempt, ...]:
        """Every attempt that the ledger knows of, and this one. One without an end was killed with its recorder."""
        if self.entry.event == "begun":
            return (this,)
        done: list[Attempt] = []
        started: str | None = None
        for entry in self._ledger.entries_of(self.run_id, TrustPolicy.load(self._keys.home).own_keys()):
            if entry.sequence >= self.entry.sequence or entry.event == CHECKPOINT:
                continue
            if entry.event == "ended" and started is not None:
                done.append(Attempt(started, entry.time, str(entry.fields.get("outcome"))))
                started = None
            elif entry.event != "ended":
                done += [Attempt(started, None, "killed")] if started else []
                started = entry.time
        done += [Attempt(started, None, "killed")] if started else []
        return (*done, this)


def _put_aside(folder: Path) -> None:
    """Move an earlier attempt's manifest, with Sigstore's signatures on it, into attempts/<n>/; remove what a power cut
    left of another."""
    try:
        for leftover in (*folder.glob(f".{MANIFEST}.*.tmp"), *folder.glob(f".{BUNDLES}.*.tmp")):
            leftover.unlink()
        if not (folder / MANIFEST).exists():
            return
        number = 1
        attempts = folder / "attempts"
        attempts.mkdir(exist_ok=True)
        if attempts.is_symlink():
            raise OSError(errno.ELOOP, "a symbolic link, expected a folder")
        while os.path.lexists(attempts / str(number)):
            number += 1
        aside = attempts / str(number)
        aside.mkdir()
        if os.path.lexists(folder / BUNDLES):
            os.rename(folder / BUNDLES, aside / BUNDLES)
        os.rename(folder / MANIFEST, aside / MANIFEST)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(folder, error) from error


def _failed(manifest: Manifest, why: Resource) -> Manifest:
    """The same as that of a run that failed."""
    last = (replace(attempt, outcome="failed") for attempt in manifest.attempts[-1:])
    attempts = (*manifest.attempts[:-1], *last)
    return replace(manifest, outcome="failed", byproducts=(*manifest.byproducts, why), attempts=attempts)


def error_resource(error: ProvenanceError) -> Resource:
    """What a manifest says of the error with which a run ended."""
    said = {"type": type(error).__name__, "message": redact_text(error.message), "cure": error.cure}
    return Resource(ERROR, annotations=printable(said))


def _time(when: datetime | str) -> str:
    return timestamp(when) if isinstance(when, datetime) else when
