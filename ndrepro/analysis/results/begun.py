"""What the ledger beside a folder of runs says of each of them: begun, ended, and with which manifest.

It is read and its chain checked once for many runs, into a database of its own that is on the disk where it is large.
A last line that a power cut tore is no harm, since the next entry ends it; any other damage is a reason to believe
none of its runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from provenance.attestation.ledger import Entry, Ledger, Problem

_MOST = 3
_TABLES = """
CREATE TABLE runs (run TEXT PRIMARY KEY, name, manifest, outcome, reason, open) WITHOUT ROWID;
CREATE TABLE began (run, sequence, digest, PRIMARY KEY (run, sequence, digest)) WITHOUT ROWID;
CREATE TABLE known (run TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# the last entry of a run says how it stands, the first what it is called
_ENTERED = """
INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
manifest = excluded.manifest, outcome = excluded.outcome, reason = excluded.reason, open = excluded.open
"""


class Begun:
    """A folder's ledger: every run that was begun, and what is wrong with the chain. ``there``: there is a ledger."""

    def __init__(self, path: Path) -> None:
        """Read the ledger at ``path``, if there is one. Raises StorageError where it cannot be read."""
        self.there = path.is_file()
        self.problems: list[str] = []
        # SQLite's own private file
        self._sql = sqlite3.connect("", isolation_level=None)
        self._sql.executescript(_TABLES)
        if self.there:
            self._sql.execute("BEGIN")
            self._sql.executemany(_ENTERED, self._entries(path))
            self._sql.execute("COMMIT")

    def __len__(self) -> int:
        """How many runs were begun."""
        (count,) = self._sql.execute("SELECT count(*) FROM runs").fetchone()
        return int(count)

    def against(self, run: str, began: tuple[int, str], digest: str, outcome: str) -> str:
        """Why a manifest is not how its run ended, by check 8 of ``provenance.attestation.verify``; "" where it is.

        ``began`` is the entry that the manifest points at, ``digest`` that of the manifest's file.
        """
        if not self.there:
            return ""
        if self.problems:
            return f"its ledger is damaged: {'; '.join(self.problems)}"
        found = self._sql.execute(
            "SELECT manifest, outcome, open FROM runs JOIN began USING (run) "
            "WHERE run = ? AND sequence = ? AND digest = ?",
            (run, *began),
        ).fetchone()
        if found is None:
            return f"ledger entry {began[0]}, which began it, is not there"
        manifest, ended, still_open = found
        if still_open:
            return "it was begun again and has no end in the ledger"
        if manifest != digest:
            return "the ledger says that it ended with another manifest than this one"
        return "" if ended == outcome else f"the ledger says another outcome than {outcome!r}"

    def without(self, known: Iterable[str]) -> Iterator[tuple[str, str, str, bool]]:
        """Identifier, name, reason and whether it has no end of every run that is not among ``known``, by name."""
        self._sql.execute("BEGIN")
        self._sql.executemany("INSERT OR IGNORE INTO known VALUES (?)", ((_text(name),) for name in known))
        self._sql.execute("COMMIT")
        yield from self._sql.execute(
            "SELECT run, name, reason, open FROM runs WHERE run NOT IN (SELECT run FROM known) ORDER BY run"
        )

    def close(self) -> None:
        """Give up its database."""
        self._sql.close()

    def _entries(self, path: Path) -> Iterator[tuple[Any, ...]]:
        for item in Ledger(path).audited():
            if isinstance(item, Problem):
                if not item.reason.startswith("torn") and len(self.problems) < _MOST:
                    self.problems.append(str(item))
            elif item.run:
                yield self._entered(item)

    def _entered(self, entry: Entry) -> tuple[Any, ...]:
        run, fields = _text(entry.run), entry.fields
        if entry.event == "ended":
            ended = (_text(fields.get(key) or "") for key in ("manifest", "outcome", "reason"))
            return run, "", *ended, False
        self._sql.execute("INSERT OR IGNORE INTO began VALUES (?, ?, ?)", (run, entry.sequence, entry.digest))
        return run, _text(fields.get("name", "")), "", "", "", True


def _text(value: Any) -> str:
    # a ledger that was made to do harm may hold half a character, which no database takes
    return str(value).encode("utf-8", "backslashreplace").decode()
