"""The proof of how a run ended, as of a head: every line from the run's first entry to that head.

A proof is a list of runs by itself, which begins later: each line is chained to the one before it and vouches for it,
so the head's signature holds for all of them, and since none is left out, no later entry of the run can be hidden.
Hence it is as long as what was appended since; a proof of mere presence (a Merkle tree's) would be shorter and would
not show that a run was not resumed afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from provenance.errors import LedgerError
from provenance.ledger_entries.entry import Entry, EntryLine


def proof(lines: Iterable[bytes], first: Entry, head: Entry) -> list[bytes]:
    """The lines from one entry to a later one that follows it, of a list's lines.

    Raises LedgerError where an entry between them is missing.
    """
    found: dict[str, tuple[Entry, bytes]] = {}
    for line in lines:
        with contextlib.suppress(LedgerError):
            entry = EntryLine.from_bytes(line.removesuffix(b"\n")).entry
            found.setdefault(entry.digest, (entry, line.removesuffix(b"\n") + b"\n"))
    path: list[bytes] = []
    digest = head.digest
    while digest in found:
        entry, line = found[digest]
        path.append(line)
        if entry.digest == first.digest:
            return path[::-1]
        digest = entry.previous
    raise LedgerError(
        f"entry {head.sequence} does not follow from entry {first.sequence}: entries between them are missing, or the "
        "list forks",
        "see what is wrong with it: ndrepro ledger verify",
    )
