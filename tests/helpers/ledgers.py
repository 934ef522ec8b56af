"""Lists of runs as other writers make them: of the first format, without a signature, or by a forger."""

from __future__ import annotations

from typing import Any

from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import timestamp
from provenance.ledger_entries.entry import GENESIS, Entry, EntryLine


def unsigned_line(event: str, run: str, fields: dict[str, Any], after: Entry | None) -> tuple[Entry, bytes]:
    """An entry of the first format, rightly chained, and its line."""
    members = {"sequence": after.sequence + 1 if after else 1, "previous": after.digest if after else GENESIS}
    members |= {"time": timestamp(), "event": event, "run": run, "fields": fields}
    body = canonical_bytes(members)
    line = canonical_bytes({**members, "check": bytes_digest(body)})
    return EntryLine.from_bytes(line).entry, line + b"\n"


def old_ledger(*runs: str) -> tuple[Entry, bytes]:
    """A list of the first format in which these runs were begun and completed; its last entry."""
    last, lines = None, b""
    for run in runs:
        for event, fields in (("begun", {"name": "small"}), ("ended", {"outcome": "completed", "manifest": None})):
            last, line = unsigned_line(event, run, fields, last)
            lines += line
    assert last is not None
    return last, lines


def entry_of(line: bytes) -> Entry:
    """The entry in a line of a file."""
    return EntryLine.from_bytes(line.rstrip(b"\n")).entry
