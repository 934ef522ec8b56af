"""Remembers which manifests were verified, so that a folder of a hundred thousand runs is verified once.

The index is an SQLite database that can be thrown away at any time. It holds what was taken out of manifests that
verified, with each file's size, times, inode and device; a manifest that is not exactly as it was, or a run of which
any file or folder was changed since, is verified anew, and what was refused is never remembered. Changes are told by
the latest ctime of the whole run folder, which no program can set back; a file that was changed a moment before it was
read could be changed again within one tick of the file system's clock, so it is verified once more the next time. What
the ledger, or another copy of the run, says against a manifest stands beside it, until the ledger or the folder
changes.

Whoever can write to the folder could write numbers into the database. Therefore it is sealed
(``ndrepro.analysis.results.sealed``), and an index whose seal does not hold, that was made by other code than this, or
elsewhere, counts for nothing and is made anew. A signer that is no longer trusted has no rows. Where there is no key
home, nothing is remembered; then too the database is what is worked in, so that memory does not grow with the folder.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.begun import Begun
from ndrepro.analysis.results.columns import COLUMNS, OWN, Row, score_from, unfinished_from
from ndrepro.analysis.results.examine import Refused, Unfinished
from ndrepro.analysis.results.listing import Found
from ndrepro.analysis.results.result_row import Score
from ndrepro.analysis.results.sealed import PrivateDatabase, key_of
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.trust import TrustPolicy

# a clock may be as coarse as two seconds (FAT)
_SETTLED_NS = 2_000_000_000
_STAMP = ("file_size", "file_mtime", "file_ctime", "file_inode", "file_device")
_TABLES = f"""
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT);
CREATE TABLE kinds (id INTEGER PRIMARY KEY, keyid TEXT, text TEXT, UNIQUE (keyid, text));
CREATE TABLE manifests
    (path BLOB PRIMARY KEY, {", ".join(_STAMP)}, problem TEXT, {", ".join(COLUMNS[1:])}) WITHOUT ROWID;
"""
# the modules whose change may change what a row says
_MODULES = """
    ndrepro/analysis/results: index sealed columns listing examine result_row begun results
    ndrepro/protocol: image_reference
    ndrepro/protocol/experiment: experiment
    ndrepro/protocol/study: study
    provenance/attestation: verify dsse statement manifest run_files ledger
    provenance/formats: strict_json canonical_json
"""
_CODE: tuple[Path, ...] = tuple(
    CODE / package.strip() / f"{name}.py"
    for package, names in (line.split(":") for line in _MODULES.split("\n") if ":" in line)
    for name in names.split()
)


class Index:
    """The verified manifests of one folder, in a private database: see the module."""

    def __init__(self, policy: TrustPolicy, path: Path | None = None) -> None:
        """What is remembered at ``path`` of signers that ``policy`` trusts; nothing where there is no such index.

        Raises StorageError or sqlite3.Error where there is no room for a copy.
        """
        keys = tuple(policy.keys())
        self._names = {key.keyid: key.name for key in keys}
        self._home = policy.home
        self._settled = time.time_ns() - _SETTLED_NS
        key = None if path is None else key_of(policy.home, make=False)
        self._database = PrivateDatabase(path, key, _CODE)
        weakref.finalize(self, self._database.close)
        self._sql = self._database.sql
        if not self._database.copied:
            self._sql.executescript(_TABLES)
        self._sql.execute("CREATE TEMP TABLE fresh (path BLOB PRIMARY KEY, size, mtime, ctime, inode, device)")
        self._sql.execute("BEGIN")
        marks = ", ".join("?" * len(keys))
        self._sql.execute(
            f"DELETE FROM manifests WHERE kind IN (SELECT id FROM kinds WHERE keyid NOT IN ({marks}))",
            [one.keyid for one in keys],
        )
        self._kind = lru_cache(maxsize=4096)(self._kind_of)
        self._text = lru_cache(maxsize=4096)(self._text_of)

    def __len__(self) -> int:
        """How many manifests have a row."""
        return self._count("manifests")

    def compare(self, found: Iterable[Found]) -> tuple[int, int]:
        """Forget whatever is not exactly as it was; how many are to be verified, and how many were there and are not.

        ``found`` comes in the order of its paths.
        """
        known = self._sql.execute(f"SELECT path, {', '.join(_STAMP)} FROM manifests ORDER BY path")
        self._sql.executemany("INSERT INTO fresh VALUES (?, ?, ?, ?, ?, ?)", _differing(known, found))
        self._sql.execute("DELETE FROM manifests WHERE path IN (SELECT path FROM fresh)")
        gone = self._sql.execute("DELETE FROM fresh WHERE size IS NULL").rowcount
        return self._count("fresh"), gone

    def fresh(self) -> Iterator[bytes]:
        """The paths that are to be verified."""
        return (path for (path,) in self._sql.execute("SELECT path FROM fresh ORDER BY path"))

    def put(self, row: Row) -> None:
        """Remember a manifest that was verified, with the stamp that its file had before it was read."""
        values = ", ".join("?" * (len(COLUMNS) - 1))
        self._sql.execute(
            "INSERT INTO manifests SELECT path, CASE WHEN ctime < ? THEN size ELSE -1 END, mtime, ctime, inode, device,"
            f" NULL, {values} FROM fresh WHERE path = ?",
            (
                *(self._settled, self._kind(row.keyid, row.kind)),
                *(row.digest, row.sequence, row.entry, row.outcome, *row.own, row.path),
            ),
        )

    def judge(self, begun: Begun) -> None:
        """Ask the ledger about every manifest; of several of one run the first counts."""
        self._sql.execute("UPDATE manifests SET problem = NULL WHERE problem IS NOT NULL")
        for problems in (self._against(begun), self._copies()):
            self._sql.executemany("UPDATE manifests SET problem = ? WHERE path = ?", problems)

    def names(self) -> Iterator[str]:
        """What the runs are known by: identifier, and name of the folder."""
        for run, path in self._sql.execute("SELECT run_id, path FROM manifests"):
            yield run
            yield os.fsdecode(os.path.basename(os.path.dirname(path)))

    def scores(self) -> Iterator[Score]:
        """Every score that nothing speaks against, by start."""
        for kind, *values in self._sql.execute(
            f"SELECT kind, path, digest, {', '.join(OWN)} FROM manifests "
            "WHERE problem IS NULL AND outcome = 'completed' ORDER BY started, run_id"
        ):
            keyid, text = self._text(kind)
            yield score_from(tuple(values), text, self._names[keyid])

    def count(self) -> int:
        """How many scores there are."""
        return self._count("manifests WHERE problem IS NULL AND outcome = 'completed'")

    def unfinished(self) -> Iterator[Unfinished]:
        """Every run that did not complete and that nothing speaks against."""
        for kind, path, run, outcome in self._sql.execute(
            "SELECT kind, path, run_id, outcome FROM manifests "
            "WHERE problem IS NULL AND outcome != 'completed' ORDER BY path"
        ):
            keyid, text = self._text(kind)
            yield unfinished_from(path, run, outcome, text, self._names[keyid])

    def refused(self) -> Iterator[Refused]:
        """Every manifest that verifies and that something speaks against."""
        query = "SELECT path, problem FROM manifests WHERE problem IS NOT NULL ORDER BY path"
        return (Refused(_path(path), problem) for path, problem in self._sql.execute(query))

    def note(self, name: str) -> Any:
        """What was noted under a name; None where nothing was."""
        found = self._sql.execute("SELECT text FROM notes WHERE name = ?", (name,)).fetchone()
        return None if found is None else json.loads(found[0])

    def save(self, path: Path | None, **notes: Any) -> bool:
        """Note these, and write it to ``path``; False where that cannot be done, which costs time the next time."""
        texts = [(name, json.dumps(value)) for name, value in notes.items()]
        self._sql.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", texts)
        self._sql.execute("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM manifests)")
        self._sql.execute("COMMIT")
        key = None if path is None else key_of(self._home, make=True)
        if path is None or key is None:
            return False
        try:
            self._database.publish(path, key)
        except OSError:
            return False
        return True

    def settled(self, stamp: tuple[int, ...] | None) -> list[int] | None:
        """A stamp to be noted; of a file that may yet change unseen, one that is never found again."""
        return None if stamp is None else [-1, self._settled] if stamp[2] >= self._settled else list(stamp)

    def _against(self, begun: Begun) -> Iterator[tuple[str, bytes]]:
        for path, run, sequence, entry, digest, outcome in self._sql.execute(
            "SELECT path, run_id, sequence, entry, digest, outcome FROM manifests"
        ):
            problem = begun.against(run, (sequence, entry.hex()), digest.hex(), outcome)
            if problem:
                yield problem, path

    def _copies(self) -> Iterator[tuple[str, bytes]]:
        first: dict[str, bytes] = {}
        for run, path in self._sql.execute(
            "SELECT run_id, path FROM manifests WHERE problem IS NULL AND run_id IN "
            "(SELECT run_id FROM manifests WHERE problem IS NULL GROUP BY run_id HAVING count(*) > 1) ORDER BY path"
        ).fetchall():
            if first.setdefault(run, path) is not path:
                yield f"the same run as {_path(first[run])}", path

    def _count(self, what: str) -> int:
        (count,) = self._sql.execute(f"SELECT count(*) FROM {what}").fetchone()
        return int(count)

    def _kind_of(self, keyid: str, text: str) -> int:
        self._sql.execute("INSERT OR IGNORE INTO kinds (keyid, text) VALUES (?, ?)", (keyid, text))
        (number,) = self._sql.execute("SELECT id FROM kinds WHERE keyid = ? AND text = ?", (keyid, text)).fetchone()
        return int(number)

    def _text_of(self, kind: int) -> tuple[str, str]:
        keyid, text = self._sql.execute("SELECT keyid, text FROM kinds WHERE id = ?", (kind,)).fetchone()
        return keyid, text


def _path(path: bytes) -> Path:
    return Path(os.fsdecode(path))


def _differing(known: Iterator[Found], found: Iterable[Found]) -> Iterator[tuple[Any, ...]]:
    """Both in the order of paths: what is found and not known exactly so; without a stamp, what is no longer there."""
    old = next(known, None)
    for new in found:
        while old is not None and old[0] < new[0]:
            yield old[0], None, None, None, None, None
            old = next(known, None)
        if old != new:
            yield new
        if old is not None and old[0] == new[0]:
            old = next(known, None)
    while old is not None:
        yield old[0], None, None, None, None, None
        old = next(known, None)
