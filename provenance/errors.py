"""Every error of the recorder, one tree.

    ProvenanceError            message (what, where) and cure (what to do)
    ├── UsageError             the caller asked for something that cannot be
    ├── NotFoundError          a file, a folder or a key that was named is not there
    ├── StorageError           the disk is full, read-only or the folder cannot be written
    ├── SourceError            the source repository cannot be read
    ├── CanonicalError         a value has no canonical JSON form (NaN, a set, a key that is no string)
    ├── DigestError            a file vanished or changed while it was read
    ├── KeyFileError           a signing key is missing, unreadable, or not kept private
    ├── EnvelopeError          not a DSSE envelope, or its signature does not hold
    ├── TrustError             signed by a key that the trust policy does not know
    ├── SigstoreError          Sigstore's services were not reached, or did not sign
    ├── ManifestError          a statement or predicate that does not follow its schema
    ├── LedgerError            the list of runs is broken: a torn, edited or missing entry
    ├── TrailError             a numerical trail that cannot be read, or two that cannot be compared
    └── BusyError              another process holds the run folder

``ndrepro.protocol.errors`` adds the experiment's own below the same root, so that one handler serves the command line.
"""

from __future__ import annotations


class ProvenanceError(Exception):
    """What went wrong and where, and the cure.

    ``message`` names the thing, its value and what was expected; ``cure`` is one sentence that says what to do,
    empty where nothing can be done.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class UsageError(ProvenanceError):
    """The caller asked for something that cannot be."""


class NotFoundError(ProvenanceError):
    """A file, a folder or a key that was named is not there."""


class StorageError(ProvenanceError):
    """The disk is full or read-only, or the folder cannot be written."""


class SourceError(ProvenanceError):
    """The source repository cannot be read."""


class CanonicalError(ProvenanceError):
    """A value has no canonical JSON form."""


class DigestError(ProvenanceError):
    """A file vanished or changed while it was read."""


def message_of(error: BaseException) -> str:
    """What an exception of anybody's says of itself; a text in its place where it raises another one instead."""
    try:
        return str(error)
    except Exception as problem:
        return f"<it has no message: {type(problem).__name__}>"


class KeyFileError(ProvenanceError):
    """A signing key is missing, unreadable, or not kept private."""


class EnvelopeError(ProvenanceError):
    """Not a DSSE envelope, or its signature does not hold."""


class TrustError(ProvenanceError):
    """Signed by a key that the trust policy does not know."""


class SigstoreError(ProvenanceError):
    """Sigstore's services were not reached, or did not sign."""


class ManifestError(ProvenanceError):
    """A statement or predicate that does not follow its schema."""


class LedgerError(ProvenanceError):
    """The list of runs is broken."""


class TrailError(ProvenanceError):
    """A numerical trail that cannot be read, or two that cannot be compared."""


class BusyError(ProvenanceError):
    """Another process holds the run folder."""
