"""An index that lies in a folder where others may write: read and written through a private copy, under a seal.

The file is an SQLite database and, behind it, 32 bytes: the keyed hash (BLAKE2b) of the code that reads it and of the
database's bytes. The key is made on first use in the key home, mode 600. The copy that is worked on is hashed while it
is made and then has no name, so nobody can exchange it between the check and the reading; the file is hashed while it
is written out of that copy, and put in place whole. It guards against an index that was edited, exchanged, or came
along with somebody else's runs; not against whoever can read the key home, and who could sign runs as well.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from provenance.errors import StorageError

KEY_BYTES = SEAL_BYTES = 32
_CHUNK = 1 << 20


class PrivateDatabase:
    """An SQLite database in a file that nobody else can open, gone with the last who has it open."""

    def __init__(self, source: Path | None = None, key: bytes | None = None, code: Iterable[Path] = ()) -> None:
        """A copy of the database in ``source`` where its seal holds, else an empty one.

        Raises StorageError where no temporary file can be made.
        """
        # as it is now: what is written later was made by this code, whatever is installed meanwhile
        self._code = _digest(code)
        try:
            self._open(source, key)
        except OSError as error:
            raise StorageError(f"no temporary database ({error.strerror})", "make room, or set TMPDIR") from error

    def _open(self, source: Path | None, key: bytes | None) -> None:
        with tempfile.TemporaryDirectory(prefix="ndrepro-index-") as folder:
            path = Path(folder) / "database"
            self._file: BinaryIO = path.open("w+b")
            self.copied = source is not None and key is not None and _copied(source, self._file, _hash(key, self._code))
            if not self.copied:
                self._file.truncate(0)
            self._file.flush()
            # whichever thread collects what is no longer used closes it
            self.sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # it can be made again at any time: no journal, no waiting for the disk; and opened before its name goes
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "user_version = 1"):
                self.sql.execute(f"PRAGMA {pragma}")

    def publish(self, path: Path, key: bytes) -> None:
        """Write what was committed to ``path``, sealed, whole or not at all. Raises OSError."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        hashed = _hash(key, self._code)
        try:
            with temporary.open("xb") as target:
                for chunk in self._chunks():
                    hashed.update(chunk)
                    target.write(chunk)
                target.write(hashed.digest())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Give it up."""
        self._file.close()
        self.sql.close()

    def _chunks(self) -> Iterator[bytes]:
        place = 0
        while chunk := os.pread(self._file.fileno(), _CHUNK, place):
            yield chunk
            place += len(chunk)


def seal(data: bytes, key: bytes, code: Iterable[Path]) -> bytes:
    """The seal of a whole database."""
    hashed = _hash(key, _digest(code))
    hashed.update(data)
    return hashed.digest()


def key_of(home: Path, *, make: bool) -> bytes | None:
    """The secret of the key home; None where there is no key home, or others may read it."""
    path = home / "index.key"
    if not home.is_absolute() or not home.is_dir():
        return None
    if make:
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
    with suppress(OSError), path.open("rb") as stream:
        key = stream.read()
        if len(key) == KEY_BYTES and not os.fstat(stream.fileno()).st_mode & 0o077:
            return key
    return None


def _copied(source: Path, target: BinaryIO, hashed: hashlib.blake2b) -> bool:
    """Copy the database; whether its seal holds."""
    try:
        with source.open("rb") as stream:
            left = os.fstat(stream.fileno()).st_size - SEAL_BYTES
            while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
                hashed.update(chunk)
                target.write(chunk)
                left -= len(chunk)
            return left == 0 and hmac.compare_digest(hashed.digest(), stream.read(SEAL_BYTES))
    except OSError:
        return False


def _digest(code: Iterable[Path]) -> bytes:
    return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in code)


def _hash(key: bytes, code: bytes) -> hashlib.blake2b:
    """A keyed hash that has the code's digests in it already."""
    found = hashlib.blake2b(key=key, digest_size=SEAL_BYTES)
    found.update(code)
    return found
