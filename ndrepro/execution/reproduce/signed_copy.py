"""A private copy of a run, every byte of which is signed: what a verdict is about cannot be exchanged meanwhile.

The author's folder may lie where the author can still write, and training takes hours: what is read later must be what
was verified. Each file is hashed as it is copied, the manifest decides, and the copy alone is planned from and judged.
Checkpoints, which may be many and large, are copied when the plan uses them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Artifact, Manifest
from provenance.errors import DigestError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.bounded_read import open_regular, read_bounded
from provenance.formats.digest import bytes_digest

_CHUNK_BYTES = 1 << 20
_CURE = "wait until nothing writes to the folder any more; its author may still do so"


@dataclass(frozen=True)
class SignedCopy:
    """The signed files of the run in ``source`` as copies in ``folder``, without checkpoints that nobody asked for."""

    source: RunFolder
    folder: RunFolder
    manifest: Manifest

    @classmethod
    def make(cls, source: RunFolder, manifest: Manifest, payload_digest: str | None, into: Path) -> SignedCopy:
        """Copy a run to the empty folder ``into``.

        ``payload_digest`` is that of the bytes from which ``manifest`` was read and whose signature was verified.
        Raises DigestError for a file that is not the signed one, StorageError where the copy cannot be written.
        """
        root = source.root.absolute()
        copy = cls(source, RunFolder(into / root.parent.name / root.name), manifest)
        try:
            envelope = read_bounded(source.manifest)
        except OSError as error:
            raise DigestError(f"{source.manifest}: cannot be read ({error.strerror})", _CURE) from None
        if bytes_digest(read_envelope(envelope)[1]) != payload_digest:
            raise DigestError(f"{source.manifest}: changed while it was verified", _CURE)
        make_folder(copy.folder.root)
        copy.folder.manifest.write_bytes(envelope)
        for artifact in manifest.artifacts:
            if RunFolder.checkpoint_step(artifact.path) is None:
                copy._bring(artifact)
        return copy

    def bring_checkpoints(self, first: int, last: int, multiple_of: int = 1) -> None:
        """Copy the checkpoint that a piece starts from, and that after ``last`` steps, where they were signed.

        The first is the last one after at most ``first`` steps, a multiple of ``multiple_of``. Raises DigestError,
        StorageError.
        """
        found = ((RunFolder.checkpoint_step(artifact.path), artifact) for artifact in self.manifest.artifacts)
        signed = {step: artifact for step, artifact in found if step is not None}
        before = [step for step in signed if step <= first and step % multiple_of == 0]
        for step in {*sorted(before)[-1:], last} & signed.keys():
            if not self.folder.checkpoint(step).exists():
                self._bring(signed[step])

    def _bring(self, artifact: Artifact) -> None:
        source, target = self.source.root / artifact.path, self.folder.root / artifact.path
        make_folder(target.parent)
        try:
            found, mode = _copied(source, target, artifact.size, self.source.root), source.stat().st_mode
        except OSError as error:
            raise storage_error(target, error) from error
        if found != artifact.sha256:
            raise DigestError(f"{source}: not the file that was signed: it changed meanwhile", _CURE)
        target.chmod(0o700 if mode & 0o100 else 0o600)


def _copied(source: Path, target: Path, size: int, beneath: Path) -> str:
    """Copy at most ``size`` bytes and one, which shows that a file grew; the SHA-256 of what was written."""
    sha256, left = hashlib.sha256(), size + 1
    with open(open_regular(source, beneath=beneath), "rb") as reading, open(target, "xb") as writing:
        while left and (chunk := reading.read(min(_CHUNK_BYTES, left))):
            left -= len(chunk)
            sha256.update(chunk)
            writing.write(chunk)
    return sha256.hexdigest()
