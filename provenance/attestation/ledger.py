"""The list of runs: every run begun, resumed and ended, append-only and hash-chained, so that none can vanish.

One line an entry, canonical JSON:

    {"check", "event", "fields", "previous", "run", "sequence", "time"}

``previous`` is the SHA-256 of the line before (64 zeros for the first), ``sequence`` counts entries from 1, ``check``
is the SHA-256 of the line without it. So an edited line shows by itself (check), and a line that was rewritten with a
new check, removed, repeated or moved shows in the line after it (previous, sequence). What no chain can show is that
its tail was cut off: manifests do, which point at the entry that began their run (see ``verify``).

Entries are written under a lock, in one appending write, and flushed to the disk before ``append`` returns. A power
cut can leave a torn last line. The next append ends that line and says so in a "recovered" entry with the number and
the digest of the torn bytes; verification accepts damaged lines there and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from provenance.errors import CanonicalError, LedgerError, StorageError, UsageError
from provenance.formats import portable
from provenance.formats.atomic_io import locked, make_folder, storage_error, sync_folder
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.run_markers import LEDGER_MEMBERS
from provenance.formats.strict_json import Field, timestamp

EVENTS = ("begun", "resumed", "ended")
RECOVERED = "recovered"
_GENESIS = "0" * 64
_TAIL_BYTES = 1 << 16
_CHECK_BYTES = len('{"check":"",') + 64


@dataclass(frozen=True)
class Entry:
    """One entry. ``digest`` is the SHA-256 of its line; ``run`` is empty in a "recovered" entry."""

    sequence: int
    time: str
    event: str
    run: str
    fields: dict[str, Any]
    previous: str
    digest: str

    @classmethod
    def make(cls, sequence: int, event: str, run: str, fields: dict[str, Any], previous: str) -> tuple[Entry, bytes]:
        """A new entry, now, and its line without the newline. Raises CanonicalError for fields that are no JSON."""
        time = timestamp()
        members = {"sequence": sequence, "time": time, "event": event, "run": run}
        members |= {"fields": fields, "previous": previous}
        line = _with_check(canonical_bytes(members))
        return cls(sequence, time, event, run, fields, previous, _sha256(line)), line

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """The entry in a line. Raises LedgerError saying why it is none."""
        try:
            document = parse(line)
        except CanonicalError as error:
            raise LedgerError(error.message) from None
        members = Field(document, "$", LedgerError).members(LEDGER_MEMBERS)
        event = members["event"].one_of((*EVENTS, RECOVERED))
        if line != _with_check(b"{" + line[_CHECK_BYTES:]):
            raise LedgerError("edited: it does not match its own check")
        return cls(
            sequence=members["sequence"].integer(1),
            time=members["time"].time(),
            event=event,
            run=members["run"].one_of(("",)) if event == RECOVERED else members["run"].text(),
            fields=members["fields"].mapping(),
            previous=members["previous"].sha256(),
            digest=_sha256(line),
        )


@dataclass(frozen=True)
class Problem:
    """What is wrong with the ledger, and on which line (from 1)."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Ledger:
    """A ledger file; it and its folder are made by the first append."""

    path: Path

    def append(self, event: str, run: str, **fields: Any) -> Entry:
        """Add an entry for ``run`` and return it once it is on the disk.

        Raises UsageError for another event or an empty run, CanonicalError for fields that are no JSON, StorageError
        if it cannot be written whole (nothing of it is left then).
        """
        if event not in EVENTS or not run:
            raise UsageError(f"event {event!r} of run {run!r}: expected one of {', '.join(EVENTS)} and a run")
        make_folder(self.path.parent)
        with locked(self._lock_path):
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | portable.BINARY, 0o644)
            except OSError as error:
                raise storage_error(self.path, error) from error
            try:
                return self._append(descriptor, event, run, fields)
            except OSError as error:
                raise storage_error(self.path, error) from error
            finally:
                os.close(descriptor)

    def entries(self) -> tuple[Entry, ...]:
        """Every well-formed entry in the file's order; ``verify`` says whether they can be believed."""
        return tuple(item for item in self.audited() if isinstance(item, Entry))

    def verify(self) -> list[Problem]:
        """What is wrong with the chain, line by line; empty when it is whole."""
        return [item for item in self.audited() if isinstance(item, Problem)]

    def audited(self) -> Iterator[Entry | Problem]:
        """Entries and problems in one pass, which holds one line of the file at a time.

        After a break that was reported once, the walk goes on from the next good entry.
        """
        damaged: list[tuple[int, bytes, str]] = []
        last = 0, _GENESIS
        all_sequences = cache(lambda: {item.sequence for item in map(_item, self._stream()) if isinstance(item, Entry)})
        torn = b""
        for number, line in enumerate(self._stream(), 1):
            item = _item(line)
            if item is None:
                torn = line
            elif isinstance(item, LedgerError):
                damaged.append((number, line, item.message))
            else:
                yield from _break(number, item, last, damaged, all_sequences)
                yield item
                damaged, last = [], (item.sequence, item.digest)
        yield from (Problem(where, reason) for where, _, reason in damaged)
        if torn:
            yield Problem(number, f"torn: it has no end ({len(torn)} bytes); the next entry will end it")

    @property
    def files(self) -> tuple[Path, Path]:
        """The list itself and its lock file, which stays there."""
        return self.path, self._lock_path

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    def _append(self, descriptor: int, event: str, run: str, fields: dict[str, Any]) -> Entry:
        size = os.fstat(descriptor).st_size
        last, damaged, closed = _tail(descriptor, size)
        sequence, previous = (last.sequence, last.digest) if last else (0, _GENESIS)
        # an entry that lost no more than its newline is whole: it gets the newline and needs no recovery
        lines = [] if closed else [b""]
        if damaged:
            torn = damaged.removesuffix(b"\n")
            note = {"bytes": len(torn), "sha256": _sha256(torn)}
            recovered, line = Entry.make(sequence + 1, RECOVERED, "", note, previous)
            sequence, previous = recovered.sequence, recovered.digest
            lines.append(line)
        entry, line = Entry.make(sequence + 1, event, run, fields, previous)
        self._write(descriptor, b"\n".join([*lines, line, b""]), size)
        return entry

    def _write(self, descriptor: int, data: bytes, size: int) -> None:
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            # where even that fails the torn line stays, and the next append closes it
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        if not size:
            sync_folder(self.path.parent)

    def _stream(self) -> Iterator[bytes]:
        """The file's lines as it was when this began, each with its newline; none where there is no file.

        What was there once is never changed by who appends, but for a torn end, while it holds the lock.
        """
        # a lock file shows that somebody appends; without one, or where it cannot be taken, nobody does
        held = locked(self._lock_path, shared=True) if os.access(self._lock_path, os.W_OK) else contextlib.nullcontext()
        try:
            with held:
                stream = self.path.open("rb")
                left = os.fstat(stream.fileno()).st_size
            with stream:
                for line in stream:
                    yield line[:left]
                    left -= len(line)
                    if left <= 0:
                        return
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_check(body: bytes) -> bytes:
    """The line of a canonical body: "check" sorts before every other member, so it goes in front."""
    return b'{"check":"%b",' % _sha256(body).encode() + body[1:]


def _item(line: bytes) -> Entry | LedgerError | None:
    """The entry of a line, or the reason why it is none; None for one that has no end."""
    if not line.endswith(b"\n"):
        return None
    try:
        return Entry.from_line(line[:-1])
    except LedgerError as error:
        return error


def _tail(descriptor: int, size: int) -> tuple[Entry | None, bytes, bool]:
    """The last good entry, the damaged bytes after it (normally none), and whether the file ends with a newline."""
    length = min(size, _TAIL_BYTES)
    while True:
        data = portable.read_at(descriptor, length, size - length)
        closed = not data or data.endswith(b"\n")
        end = len(data) - 1 if closed else len(data)
        while end >= 0:
            start = data.rfind(b"\n", 0, end) + 1
            # the first line of a part of the file may have lost its beginning
            if start or length == size:
                with contextlib.suppress(LedgerError):
                    return Entry.from_line(data[start:end]), data[end + 1 :], closed
            end = start - 1
        if length == size:
            return None, data, closed
        length = min(size, 4 * length)


def _break(
    number: int,
    entry: Entry,
    last: tuple[int, str],
    damaged: list[tuple[int, bytes, str]],
    all_sequences: Callable[[], set[int]],
) -> Iterator[Problem]:
    """What is wrong with an entry after the last good one (sequence, digest) and the damaged lines between them."""
    torn = b"".join(raw for _, raw, _ in damaged).removesuffix(b"\n")
    closes = entry.event == RECOVERED and entry.fields == {"bytes": len(torn), "sha256": _sha256(torn)}
    if damaged and not closes:
        yield from (Problem(where, reason) for where, _, reason in damaged)
        return
    if entry.event == RECOVERED and not closes:
        yield Problem(number, "the torn line that this entry closed was removed or edited")
    yield from _link(number, entry, last, all_sequences)


def _link(number: int, entry: Entry, last: tuple[int, str], all_sequences: Callable[[], set[int]]) -> list[Problem]:
    """What is wrong between an entry and the one before it."""
    sequence, digest = last
    if entry.sequence <= sequence:
        return [Problem(number, f"out of order: entry {entry.sequence} follows entry {sequence}")]
    if entry.sequence > sequence + 1:
        missing = range(sequence + 1, entry.sequence)
        if any(number in missing for number in all_sequences()):
            return [Problem(number, f"out of order: entry {entry.sequence} follows entry {sequence}")]
        names = str(missing[0]) if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
        return [Problem(number, f"removed: entry {names} before it is not there")]
    if entry.previous != digest:
        where = max(number - 1, 1)
        return [Problem(where, f"edited: line {number} was chained to another line than this one")]
    return []
