"""The list of runs: every run started, resumed and ended; append-only, hash-chained and signed, so that none can go.

One line an entry (``ledger_entry``). Entries are appended under a lock, in one write, signed with the key that signs
the run, and flushed to the disk before ``append`` returns. A writer chains to the last entry that follows, without a
gap, from the last one of its own key, and whose signature holds. So a torn line after a power cut, somebody's line
without a key, and an old line that was copied to the end are passed over, by writers as by readers, and break nothing.

What a reader finds wrong, and which entries count, is said in ``ledger_audit``. What no list can show by itself is that
its last entries were removed or rewritten by the holder of the key: manifests show it, which point at the entry that
began their run, and heads that were kept elsewhere (``witnesses``), which the list must contain.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from provenance.errors import LedgerError, NotFoundError, StorageError
from provenance.formats import portable
from provenance.formats.atomic_io import locked, make_folder, storage_error, sync_folder
from provenance.ledger_entries.entry import MOST_LINE_BYTES, Entry, EntryLine, embedded_key, follows
from provenance.signatures.public_key import PublicKey

# what reads the whole list is imported where it is read: whoever appends has no use for it
if TYPE_CHECKING:
    from provenance.ledger_entries.audit import LedgerAudit, Problem
    from provenance.ledger_entries.summary import LedgerSummary
    from provenance.signatures.signer import MessageSigner

_TAIL_BYTES = 1 << 14


@dataclass(frozen=True)
class Ledger:
    """A ledger file; it and its folder are made by the first append.

    ``witnesses`` are heads of it that were kept elsewhere: it is whole only if it still holds them.
    """

    path: Path
    witnesses: tuple[Entry, ...] = ()

    def append(self, event: str, run: str, signer: MessageSigner, **fields: Any) -> Entry:
        """Add an entry for ``run``, signed, and return it once it is on the disk.

        Raises UsageError for another event or an empty run, CanonicalError for fields that are no JSON, KeyFileError
        for a weak key, StorageError if it cannot be written whole (nothing of it is left then) or flushed.
        """
        key = PublicKey.of_signer(signer)
        make_folder(self.path.parent)
        try:
            descriptor = _open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise storage_error(self.path, error) from error
        try:
            with locked(self._lock_path):
                size = os.fstat(descriptor).st_size
                line = EntryLine.sign(event, run, fields, after=_tip(descriptor, size, key), signer=signer, key=key)
                # a line that has no end gets one
                start = b"" if not size or portable.read_at(descriptor, 1, size - 1) == b"\n" else b"\n"
                _write(descriptor, start + line.to_bytes() + b"\n", size)
            # after the lock: flushing the file flushes what was written before, so writers share the disk's time
            portable.flush_data(descriptor)
            if not size:
                sync_folder(self.path.parent)
        except OSError as error:
            raise storage_error(self.path, error) from error
        finally:
            os.close(descriptor)
        return line.entry

    def entries(self) -> tuple[Entry, ...]:
        """Every well-formed entry in the file's order, copies left out; ``audit`` says which can be believed."""
        found: dict[str, Entry] = {}
        for _, line in self._lines():
            with contextlib.suppress(LedgerError):
                entry = EntryLine.from_bytes(line.rstrip(b"\n")).entry
                found.setdefault(entry.digest, entry)
        return tuple(found.values())

    def entries_of(self, run: str, keys: Iterable[PublicKey]) -> list[Entry]:
        """The entries of one run that one of ``keys`` signed, and those from before any was signed.

        Only lines that name the run are read, which takes a fraction of the time of an audit.
        """
        known = {key.base64: key for key in keys}
        # an identifier may be written in JSON with other escapes, by whoever wants it not to be found
        words = {run.encode("utf-8", "replace"), json.dumps(run)[1:-1].encode()}
        found: dict[str, Entry] = {}
        signed = False
        for _, line in self._lines():
            signed = signed or line.startswith(b'{"entry":')
            if not any(word in line for word in words):
                continue
            with contextlib.suppress(LedgerError):
                item = EntryLine.from_bytes(line.rstrip(b"\n"))
                if item.entry.run == run and (_counts(item, known) if item.entry.key else not signed):
                    found.setdefault(item.entry.digest, item.entry)
        return list(found.values())

    def audit(self, keys: Iterable[PublicKey] | None = None) -> LedgerAudit:
        """Everything that is in the list, which entries count, and what is wrong (``ledger_audit``).

        ``keys`` are those whose entries count; left out, every key that may sign is taken at its word.
        """
        from provenance.ledger_entries.audit import audit

        known = None if keys is None else {key.base64: key for key in keys}
        with self._opened() as (stream, size):
            lines = _bounded_lines(stream, size)
            return audit(lines, lambda length, place: _read_at(stream, length, place), known, self.witnesses)

    def summary(self, keys: Iterable[PublicKey] | None) -> LedgerSummary:
        """The list by runs, by the entries that count for ``audit``. Raises StorageError if it cannot be read."""
        from provenance.ledger_entries.summary import LedgerSummary

        return LedgerSummary.of(self.path.exists(), self.audit(keys))

    def verify(self, keys: Iterable[PublicKey] | None = None) -> list[Problem]:
        """What is wrong with the list, line by line; empty when it is whole."""
        return list(self.audit(keys).problems)

    def proof(self, keys: Iterable[PublicKey] | None, run: str = "") -> list[bytes]:
        """The lines from a run's first entry that counts to the last of the list: a list by itself (``proof``).

        Without a run the last line alone, the list's head. Raises NotFoundError where there is no such entry.
        """
        from provenance.ledger_entries.proof import proof

        counted = [counted.entry for counted in self.audit(keys).entries]
        wanted = [entry for entry in counted if entry.run == run] if run else counted[-1:]
        if not wanted:
            what = f"no entry of run {run!r}" if run else "no entry"
            raise NotFoundError(f"{self.path}: {what} that a trusted key signed", "see: ndrepro ledger verify")
        return proof((line for _, line in self._lines()), wanted[0], counted[-1])

    @property
    def files(self) -> tuple[Path, Path]:
        """The list itself and its lock file, which stays there."""
        return self.path, self._lock_path

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._opened() as (stream, size):
            yield from _bounded_lines(stream, size)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, int]]:
        """The file and its size as it is now; an empty one where there is none. What is in it is never changed."""
        # a lock file shows that somebody appends; without one, or where it cannot be taken, nobody does
        held = locked(self._lock_path, shared=True) if os.access(self._lock_path, os.W_OK) else contextlib.nullcontext()
        try:
            with held:
                stream = os.fdopen(_open(self.path, os.O_RDONLY), "rb")
                size = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            yield io.BytesIO(), 0
            return
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error
        try:
            with stream:
                yield stream, size
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error


def read_heads(path: Path) -> tuple[Entry, ...]:
    """The heads in a file, as ``ndrepro ledger head`` prints them, one a line: witnesses of a ledger.

    Raises NotFoundError or StorageError if it cannot be read, LedgerError for a line that is no signed entry.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", "keep one with: ndrepro ledger head >> FILE")
    found = []
    for number, (_, line) in enumerate(Ledger(path)._lines(), 1):
        try:
            item = EntryLine.from_bytes(line.rstrip(b"\n"))
            if item.entry.key and not item.holds(embedded_key(item.entry)):
                raise LedgerError("its signature does not hold")
        except LedgerError as error:
            cure = "expected what `ndrepro ledger head` printed: get another copy"
            raise LedgerError(f"{path}: line {number}: {error.message}", cure) from None
        found.append(item.entry)
    if not found:
        raise LedgerError(f"{path}: no head in it", "keep one with: ndrepro ledger head >> FILE")
    return tuple(found)


def _counts(item: EntryLine, keys: Mapping[str, PublicKey]) -> bool:
    key = keys.get(item.entry.key)
    return item.holds(key) and key is not None and key.refusal(item.entry.time) is None


def _bounded_lines(stream: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """The first ``size`` bytes of a file as lines with their places; of one that is too long its beginning alone."""
    place = 0
    while place < size and (line := stream.readline(min(size - place, MOST_LINE_BYTES))):
        start, rest = place, line
        place += len(line)
        while place < size and rest and not rest.endswith(b"\n"):
            rest = stream.readline(min(size - place, MOST_LINE_BYTES))
            place += len(rest)
        yield start, line


def _read_at(stream: BinaryIO, length: int, place: int) -> bytes:
    stream.seek(place)
    return stream.read(length)


def _write(descriptor: int, data: bytes, size: int) -> None:
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        # where even that fails the torn line stays, and is passed over
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def _open(path: Path, flags: int) -> int:
    # a FIFO must not wait for a writer; where a link leads is the choice of whoever handed the folder over
    flags |= portable.NO_FOLLOW if flags & os.O_APPEND else 0
    descriptor = os.open(path, flags | portable.BINARY | portable.NO_WAIT, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _tip(descriptor: int, size: int, key: PublicKey) -> Entry | None:
    """The entry that a new one of ``key`` follows; None for the first.

    From the last entry of that key whose predecessor is the entry before it, everything that follows without a gap,
    and of that the last one whose signature holds. Without one of that key the whole list is read.
    """
    later: list[EntryLine] = []  # the last one first
    own: EntryLine | None = None
    for line in _backwards(descriptor, size):
        try:
            item = EntryLine.from_bytes(line)
        except LedgerError:
            continue
        if own is not None and own.entry.previous == item.entry.digest:
            return _last_linked([own, *reversed(later)], own)
        # what was taken for the last one of this key is a copy, or has another before it
        later += [own] if own is not None else []
        own = None
        if item.entry.key == key.base64 and item.holds(key):
            own = item
        else:
            later.append(item)
    return _last_linked([*([own] if own is not None else []), *reversed(later)], own)


def _last_linked(items: list[EntryLine], checked: EntryLine | None) -> Entry | None:
    """Of entries in the file's order, the last one that follows from the first without a gap and whose signature holds.

    That of ``checked`` is known to. Where none is signed, the last one that follows.
    """
    if not items:
        return None
    linked = {items[0].entry.digest: items[0]}
    for item in items[1:]:
        before = linked.get(item.entry.previous)
        if before and follows(item.entry, before.entry):
            linked.setdefault(item.entry.digest, item)
    ordered = list(reversed(linked.values()))
    for item in ordered:
        if item is checked or (item.entry.key and item.holds(embedded_key(item.entry))):
            return item.entry
    return next((item.entry for item in ordered if not item.entry.key), None)


def _backwards(descriptor: int, size: int) -> Iterator[bytes]:
    """A file's lines from the last to the first, read in growing pieces."""
    rest, piece = b"", _TAIL_BYTES
    while size:
        start = max(0, size - piece)
        lines = (portable.read_at(descriptor, size - start, start) + rest).split(b"\n")
        rest, size, piece = lines[0], start, 4 * piece
        yield from (line for line in reversed(lines[1:]) if line)
    if rest:
        yield rest
