"""Remembers which manifests this user verified, so that a folder of a hundred thousand runs is verified once.

One row holds what was read out of one manifest that verified, or of a ledger. It is found again only

    by the very files: path, size, times of modification and change, inode and device of everything in the run's folder.
    No program can set back a ctime, and what changed within a tick of the file system's clock before it was read, and
    may change again unseen, is not remembered. Nor is a folder with a file that another user may write: who has it
    mapped into memory changes it and leaves every time as it is
    by the same code: a digest of every module of both packages, of Python and of the recorded format of rows
    with the same trust: a digest of the trusted keys, their names, rotations, revocations and expirations

What was refused is never remembered, and every manifest is compared with its ledger each time. The cache is an SQLite
file in the user's key home, which is private: whoever can write there can sign runs as well. It may be removed at any
time; one that is damaged, locked, or open to other users' writing is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

from ndrepro.protocol.project_folders import CODE, PACKAGES
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.trust import TrustPolicy
from provenance.formats.folder_tree import files_below

# a file system's clock may be as coarse as two seconds (FAT)
_SETTLED_NS = 2_000_000_000
_WAIT_SECONDS = 30
_TABLE = """
CREATE TABLE IF NOT EXISTS verified
(context BLOB, path BLOB, stamp TEXT, text TEXT, digest BLOB, UNIQUE (context, path))
"""
# rows that are written at once: what was verified stays, whatever ends the rest
_BATCH = 1000


def cache_file(home: Path) -> Path:
    """Where a user's cache lies, in the key home."""
    return home / "verified.sqlite3"


class ManifestCache:
    """The cache in one file, for one state of the code and of the trusted keys; see the module.

    Nothing is found, and nothing is kept, where ``path`` is None or the file cannot be used.
    """

    def __init__(self, path: Path | None, policy: TrustPolicy) -> None:
        self._path = path
        self._context = _context(policy)
        self._sql = None if path is None else _open(path)
        self._fresh: list[tuple[bytes, bytes, str, str, bytes]] = []

    def stamp(self, path: Path) -> str:
        """What shows that a file, or anything in a manifest's folder, changed; "" where it may yet change unseen."""
        return "" if self._sql is None else _stamp(path)

    def get(self, path: Path, stamp: str) -> Any:
        """What was kept of a file that has this stamp; None where nothing was, or not as it was written."""
        if self._sql is None or not stamp:
            return None
        key = self._context, os.fsencode(path)
        try:
            row = self._sql.execute(
                "SELECT text, digest FROM verified WHERE context = ? AND path = ? AND stamp = ?", (*key, stamp)
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return json.loads(row[0]) if row and row[1] == _digest(*key, stamp, row[0]) else None

    def put(self, path: Path, stamp: str, document: Any) -> None:
        """Keep what was read out of a file; ``stamp`` is that which it had before."""
        if self._sql is None or not stamp:
            return
        row = self._context, os.fsencode(path), stamp, json.dumps(document)
        self._fresh.append((*row, _digest(*row)))
        if len(self._fresh) >= _BATCH:
            self.save()

    def save(self) -> None:
        """Write what was put, and forget what other code had kept."""
        if self._sql is None or not self._fresh:
            return
        try:
            with self._sql:
                self._sql.execute("DELETE FROM verified WHERE substr(context, 1, 32) != ?", (self._context[:32],))
                self._sql.executemany("INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?, ?)", self._fresh)
            self._fresh = []
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Save, and give up the file."""
        self.save()
        if self._sql is not None:
            self._sql.close()
            self._sql = None

    def _give_up(self, error: sqlite3.Error) -> None:
        """Continue without it: nothing depends on it. A damaged file is removed, and made anew the next time."""
        assert self._sql is not None and self._path is not None
        self._sql.close()
        self._sql = None
        if not isinstance(error, sqlite3.OperationalError):
            self._path.unlink(missing_ok=True)


def _stamp(file: Path) -> str:
    place = os.fspath(file.parent if file.name == MANIFEST else file)
    try:
        identities = [*_identities(place)]
    except OSError:  # gone, or written by others
        return ""
    if max(changed for _, _, _, changed, *_ in identities) >= time.time_ns() - _SETTLED_NS:
        return ""
    return hashlib.sha256(repr(identities).encode()).hexdigest()


def _identities(place: str) -> Iterator[tuple[str, int, int, int, int, int]]:
    """Path, size, times of modification and change, inode and device of a file; of a folder and all that it holds.

    Raises OSError for a file that another user, but for root, may write.
    """
    status = os.stat(place, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) and (status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022):
        raise PermissionError(place)
    yield place, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    if stat.S_ISDIR(status.st_mode):
        for name in sorted(os.listdir(place)):
            yield from _identities(f"{place}/{name}")


def _open(path: Path) -> sqlite3.Connection | None:
    """The database, made where there is none; None where it is not this user's alone, or no database."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        for place in (path.parent, path):
            status = place.stat()
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
        sql = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    except (OSError, sqlite3.Error):
        return None
    try:
        sql.execute("PRAGMA synchronous = OFF")
        sql.execute(_TABLE)
    except sqlite3.Error as error:
        sql.close()
        if not isinstance(error, sqlite3.OperationalError):
            path.unlink(missing_ok=True)
        return None
    return sql


def _digest(context: bytes, path: bytes, stamp: str, text: str) -> bytes:
    """Of a whole row, so that a damaged one is never read."""
    return hashlib.sha256(b"\0".join((context, path, stamp.encode(), text.encode()))).digest()


def _context(policy: TrustPolicy) -> bytes:
    """Digest of the code, then of the trust."""
    trusted = tuple(policy.keys())
    keys = sorted((key.keyid, key.name, key.pem, key.holder, *map(astuple, key.limits)) for key in trusted)
    return _code() + hashlib.sha256(json.dumps(keys).encode()).digest()


@cache
def _code() -> bytes:
    digest = hashlib.sha256(sys.version.encode())
    for package in PACKAGES:
        for path in (each for each in files_below(CODE / package) if each.suffix == ".py"):
            data = path.read_bytes()
            digest.update(f"\0{path.relative_to(CODE)}\0{len(data)}\0".encode() + data)
    return digest.digest()


# as it was loaded: a file that is edited while this process runs is not the code that verifies
_code()
