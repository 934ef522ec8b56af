"""Remembers which manifests were verified, so that a folder of a hundred thousand runs is verified once.

The index is an SQLite database (beside it, ``.seal``) that can be thrown away at any time. It holds what was taken out
of manifests that verified, with each file's size, times, inode and device; a file that is not exactly as it was is
verified anew, and what was refused is never remembered. ctime is among them, which no program can set back.

Whoever can write to the folder could write numbers into the database. Therefore its bytes are sealed with a keyed
hash (BLAKE2b); the key is made on first use in the key home, mode 600, and an index whose seal does not hold, that was
made by other code than this, or elsewhere, counts for nothing and is made anew. It is read from the bytes that were
hashed. So it guards against an index that was edited, exchanged, or came along with somebody else's runs; not
against whoever can read the key home, and who could sign runs as well. A signer that is no longer trusted has no
rows; the ledger is asked again whenever its file has changed. Where there is no key home, there is no index.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ndrepro.analysis.examine import Examined, Unfinished
from ndrepro.analysis.extract import Score
from provenance.errors import StorageError
from provenance.storage import write_atomically
from provenance.trust import TrustPolicy

Stamp = tuple[int, int, int, int, int]
T = TypeVar("T")

_SCORE = tuple(Score.__dataclass_fields__)
_STAMP = ("file_size", "file_mtime", "file_ctime", "file_inode", "file_device")
_HEAD = ("path", *_STAMP, "keyid", "sequence", "entry", "outcome")
# "folder" follows from the path and "signer" from the key; both are put back when a row is read
_COLUMNS = (*_HEAD, *(name for name in _SCORE if name not in ("folder", "signer")))
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)  # "commit" is a word of SQL
_JSON = ("seeds", "settings")
_NUMBERS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
_KEY_BYTES = 32
_HERE = Path(__file__).parent
_RECORDER = _HERE.parents[1] / "provenance"
# the modules whose change may change what a row says
_CODE: tuple[Path, ...] = (
    *(_HERE / name for name in ("index.py", "examine.py", "extract.py", "begun.py", "scores.py")),
    *(_RECORDER / name for name in ("verify.py", "signing.py", "statement.py", "manifest.py")),
)


@dataclass
class Index:
    """What is remembered of one folder: examined manifests with their files' stamps, and the ledger's last answer."""

    rows: dict[str, tuple[Stamp, Examined]] = field(default_factory=dict)
    ledger: Stamp | None = None
    begun: int | None = None
    lost: list[list[str]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, policy: TrustPolicy) -> Index:
        """The index at ``path``; an empty one where there is none, its seal does not hold, or other code made it."""
        key = _key(policy.home, make=False)
        try:
            data, seal = path.read_bytes(), _seal_path(path).read_bytes()
        except OSError:
            return cls()
        if key is None or not hmac.compare_digest(_seal(key, data), seal):
            return cls()
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            notes = {name: json.loads(text) for name, text in database.execute("SELECT name, text FROM notes")}
            names = {trusted.keyid: trusted.name for trusted in tuple(policy.keys())}
            rows = _rows(database.execute(f"SELECT {_QUOTED} FROM manifests"), names)
        stamp = notes["ledger"]
        return cls(rows, None if stamp is None else _stamp_of(stamp), notes["begun"], notes["lost"])

    def save(self, path: Path, policy: TrustPolicy) -> bool:
        """Write it, sealed; False where that cannot be done, which costs time on the next reading and nothing else."""
        key = _key(policy.home, make=True)
        if key is None:
            return False
        keyids = {trusted.name: trusted.keyid for trusted in tuple(policy.keys())}
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT)")
            database.execute(f"CREATE TABLE manifests ({_QUOTED})")
            notes = {"ledger": self.ledger, "begun": self.begun, "lost": self.lost}
            database.executemany("INSERT INTO notes VALUES (?, ?)", [(n, json.dumps(v)) for n, v in notes.items()])
            marks = ", ".join("?" * len(_COLUMNS))
            values = (_values(stamp, examined, keyids) for stamp, examined in self.rows.values())
            database.executemany(f"INSERT INTO manifests VALUES ({marks})", values)
            database.commit()
            data = database.serialize()
        try:
            write_atomically(path, data)
            write_atomically(_seal_path(path), _seal(key, data))
        except StorageError:
            return False
        return True


def stamp_of(path: str | Path) -> Stamp | None:
    """Size, times of change in ns, inode and device of a file; None for one that is not there."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _rows(found: Iterable[tuple[Any, ...]], names: Mapping[str, str]) -> dict[str, tuple[Stamp, Examined]]:
    """Every row whose signer is trusted now."""
    rows: dict[str, tuple[Stamp, Examined]] = {}
    texts: dict[str, Any] = {}
    names_of_fields, head = _COLUMNS[len(_HEAD) :], len(_HEAD)
    for values in found:
        path, size, mtime, ctime, inode, device, keyid, sequence, entry, outcome = values[:head]
        signer = names.get(keyid)
        if signer is None:
            continue
        fields = dict(zip(names_of_fields, values[head:], strict=True))
        fields["folder"] = Path(os.path.dirname(path))
        fields["signer"] = signer
        result: Score | Unfinished
        if outcome == "completed":
            for name in _JSON:
                text = fields[name]
                if text not in texts:  # a hundred thousand runs have a handful of different settings
                    texts[text] = json.loads(text)
                fields[name] = texts[text]
            for name in _NUMBERS:
                if type(fields[name]) is str:
                    fields[name] = float(fields[name])
            result = _made(Score, fields)
        else:
            result = Unfinished(fields["run_id"], fields["folder"], fields["name"], outcome, signer)
        examined = {"path": path, "result": result, "run_id": fields["run_id"], "began": (sequence, entry)}
        examined |= {"digest": fields["manifest_digest"], "outcome": outcome}
        rows[path] = (size, mtime, ctime, inode, device), _made(Examined, examined)
    return rows


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """A frozen dataclass with these fields: what its __init__ would do one by one, and five times as slowly."""
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made


def _values(stamp: Stamp, examined: Examined, keyids: Mapping[str, str]) -> tuple[Any, ...]:
    result = examined.result
    assert isinstance(result, Score | Unfinished)  # what was refused is never remembered
    if isinstance(result, Score):
        fields = dict(vars(result))
        fields |= {name: json.dumps(dict(fields[name]), sort_keys=True) for name in _JSON}
        # SQLite has no NaN, and would store nothing in its place
        fields |= {name: repr(fields[name]) for name in _NUMBERS if not -1e308 < fields[name] < 1e308}
    else:
        fields = {"run_id": result.run_id, "name": result.name, "manifest_digest": examined.digest}
    head = (examined.path, *stamp, keyids[result.signer], *examined.began, examined.outcome)
    return (*head, *(fields.get(name) for name in _COLUMNS[len(_HEAD) :]))


def _stamp_of(values: Iterable[int]) -> Stamp:
    size, mtime, ctime, inode, device = values
    return size, mtime, ctime, inode, device


def _seal_path(path: Path) -> Path:
    return path.with_name(path.name + ".seal")


def _seal(key: bytes, data: bytes) -> bytes:
    """The keyed hash of an index and of the code that reads it, in hexadecimal."""
    found = hashlib.blake2b(key=key, digest_size=32)
    for path in _CODE:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    found.update(data)
    return found.hexdigest().encode() + b"\n"


def _key(home: Path, *, make: bool) -> bytes | None:
    """The secret of the key home; None where there is no key home, or others may read it."""
    path = home / "index.key"
    if not home.is_absolute() or not home.is_dir():
        return None
    if make:
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
    with suppress(OSError), path.open("rb") as stream:
        key = stream.read()
        if len(key) == _KEY_BYTES and not os.fstat(stream.fileno()).st_mode & 0o077:
            return key
    return None
