"""One entry of the list of runs, and the line that holds it: a signed statement about one run, chained to another.

    {"entry":{"event", "fields", "key", "ledger", "previous", "run", "sequence", "time"},"signature":"..."}

The entry's bytes in the line are what is signed (as DSSE signs: their type and the very bytes), and ``digest`` is their
SHA-256. ``previous`` is the digest of the entry before it, ``sequence`` counts from 1, ``ledger`` is a random name that
the list's first signed entry chose, so that an entry of another list is none of this one, and ``key`` is the signer's
public key (base64 of its SubjectPublicKeyInfo): whoever appends can check what was appended before. Every entry vouches
for the whole chain before it, so the last line is a signed head.

Lists that were started before entries were signed hold lines of the first format, which are read as they always were:

    {"check", "event", "fields", "previous", "run", "sequence", "time"}

where ``check`` is the SHA-256 of the line without it, and ``digest`` that of the whole line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from provenance.errors import CanonicalError, KeyFileError, LedgerError, UsageError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.run_markers import LEDGER_MEMBERS
from provenance.formats.strict_json import Field, timestamp
from provenance.signatures.public_key import PublicKey, pae

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner

CHECKPOINT = "checkpoint"  # of a run under way: binds what it may be resumed from
EVENTS = ("begun", "resumed", CHECKPOINT, "ended")
RECOVERED = "recovered"  # in lists of the first format: it closed a torn line
GENESIS = "0" * 64
MOST_LINE_BYTES = 1 << 20
_TYPE = "application/vnd.ndrepro.ledger-entry.v2+json"
_MEMBERS = ("event", "fields", "key", "ledger", "previous", "run", "sequence", "time")
_HEAD, _MIDDLE, _END = b'{"entry":', b',"signature":"', b'"}'
_CHECK_BYTES = len('{"check":"",') + 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``digest`` is what the next one is chained to; ``ledger`` and ``key`` are empty in unsigned ones.

    ``run`` is empty in a "recovered" entry.
    """

    sequence: int
    time: str
    event: str
    run: str
    fields: dict[str, Any]
    previous: str
    digest: str
    ledger: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry with the bytes that are signed and their signature (both empty in an unsigned one)."""

    entry: Entry
    body: bytes = b""
    signature: bytes = b""

    @classmethod
    def sign(
        cls, event: str, run: str, fields: dict[str, Any], *, after: Entry | None, signer: MessageSigner, key: PublicKey
    ) -> EntryLine:
        """A new entry, now, that follows another, or is the first.

        Args:
            event: one of ``EVENTS``.
            run: the run's identifier.
            fields: what is said of it, as JSON.
            after: the entry that it follows.
            signer: who signs it. key: the signer's public key.

        Raises UsageError for another event or no run, CanonicalError for fields that are no JSON, LedgerError for more
        than a line may hold.
        """
        if event not in EVENTS or not run:
            raise UsageError(f"event {event!r} of run {run!r}: expected one of {', '.join(EVENTS)} and a run")
        members = {"sequence": after.sequence + 1 if after else 1, "previous": after.digest if after else GENESIS}
        members |= {"time": timestamp(), "event": event, "run": run, "fields": fields, "key": key.base64}
        members["ledger"] = (after.ledger if after else "") or secrets.token_hex(16)
        body = canonical_bytes(members)
        if len(body) > MOST_LINE_BYTES - 4096:  # a signature takes some hundred bytes
            raise LedgerError(f"an entry of {len(body)} bytes for run {run!r}", "say less of it in the ledger")
        signature = bytes.fromhex(signer.sign(pae(_TYPE, body)).signature)
        return cls(_entry(Field(members, "$", LedgerError), _MEMBERS, body), body, signature)

    @classmethod
    def from_bytes(cls, line: bytes) -> EntryLine:
        """The entry in a line without its newline. Raises LedgerError saying why it is none."""
        if not line.startswith(_HEAD):
            return cls(_unsigned(line))
        body, middle, rest = line[len(_HEAD) :].rpartition(_MIDDLE)
        if not middle or not rest.endswith(_END):
            raise LedgerError("not an entry: it has no signature at its end")
        try:
            signature = base64.b64decode(rest[: -len(_END)], validate=True)
        except binascii.Error:
            raise LedgerError("not an entry: its signature is no base64") from None
        return cls(_entry(_parsed(body), _MEMBERS, body), body, signature)

    def to_bytes(self) -> bytes:
        """The line without its newline."""
        return _HEAD + self.body + _MIDDLE + base64.standard_b64encode(self.signature) + _END

    def holds(self, key: PublicKey | None) -> bool:
        """Whether ``key`` signed it; never, where it is unsigned or ``key`` is None."""
        return bool(key and self.body) and key is not None and key.verifies(self.signature, pae(_TYPE, self.body))


def follows(entry: Entry, before: Entry) -> bool:
    """Whether an entry may follow the one that it is chained to: the next one of the same list, and signed as that."""
    same_list = entry.ledger == before.ledger if before.ledger else True
    return entry.previous == before.digest and entry.sequence == before.sequence + 1 and same_list


def embedded_key(entry: Entry) -> PublicKey | None:
    """The key that an entry names, trusted or not; None where it names none that may sign."""
    return _key(entry.key) if entry.key else None


@lru_cache(maxsize=256)
def _key(text: str) -> PublicKey | None:
    try:
        key = PublicKey.from_base64(text)
    except KeyFileError:
        return None
    return key if key.base64 == text else None


def _parsed(data: bytes) -> Field:
    try:
        return Field(parse(data), "$", LedgerError)
    except CanonicalError as error:
        raise LedgerError(error.message) from None


def _unsigned(line: bytes) -> Entry:
    document = _parsed(line)
    document.members(LEDGER_MEMBERS)
    body = b"{" + line[_CHECK_BYTES:]
    if line != b'{"check":"%b",' % hashlib.sha256(body).hexdigest().encode() + body[1:]:
        raise LedgerError("edited: it does not match its own check")
    return _entry(document, LEDGER_MEMBERS, line)


def _entry(document: Field, names: tuple[str, ...], signed: bytes) -> Entry:
    members = document.members(names)
    unsigned = names is LEDGER_MEMBERS
    event = members["event"].one_of((*EVENTS, RECOVERED) if unsigned else EVENTS)
    return Entry(
        sequence=members["sequence"].integer(1),
        time=members["time"].time(),
        event=event,
        run=members["run"].one_of(("",)) if event == RECOVERED else members["run"].text(),
        fields=members["fields"].mapping(),
        previous=members["previous"].sha256(),
        digest=hashlib.sha256(signed).hexdigest(),
        ledger="" if unsigned else members["ledger"].text(),
        key="" if unsigned else members["key"].text(),
    )
