"""Digests of files and of sets of files, in the format that ``sha256sum --check`` reads.

A file is read once, a small one through one buffer; of a large one the next piece is read while one is hashed, so that
it takes as long as hashing alone where a second core is free. Mapping it would save the copy, a sixth of the processor
time, but whoever truncates a mapped file kills the process that reads it. Its size, time of change and inode are
compared before and after, so that the digest of a file that somebody is still writing is an error and never a number.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from provenance.errors import DigestError
from provenance.formats.bounded_read import open_regular

# 256 KiB stay in a core's second-level cache: as fast as 128 KiB to 1 MiB, faster than 16 KiB or 4 MiB
CHUNK_BYTES = 1 << 18
# of pieces that are read ahead: to hand one over takes some microseconds of a millisecond or two
_AHEAD_BYTES = 1 << 21
_LARGE_BYTES = 8 * _AHEAD_BYTES


@dataclass(frozen=True)
class FileDigest:
    """A file's size in bytes and its SHA-256 in lower-case hexadecimal."""

    size: int
    sha256: str


def bytes_digest(data: bytes) -> str:
    """SHA-256 of ``data`` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_digest(
    path: str | os.PathLike[str],
    *,
    follow_symlinks: bool = True,
    beneath: Path | None = None,
    limit: int | None = None,
    durable: bool = False,
) -> FileDigest:
    """Size and SHA-256 of a regular file; where ``durable``, of bytes that are on the disk before they are hashed.

    Raises DigestError if it is not there, cannot be read, is no regular file (a symbolic link counts as none where
    ``follow_symlinks`` is false, nor does a file behind a linked folder below ``beneath``), is larger than ``limit``
    bytes, or changes while it is read.
    """
    path = Path(path)
    try:
        descriptor = open_regular(path, beneath=beneath, follow_symlinks=follow_symlinks)
    except OSError as error:
        raise DigestError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        before = os.fstat(descriptor)
        if limit is not None and before.st_size > limit:
            raise DigestError(f"{path}: {before.st_size} bytes, expected at most {limit}")
        if durable:
            os.fsync(descriptor)
        size, sha256 = _read(descriptor, before.st_size)
        after = os.stat(path, follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        raise DigestError(f"{path}: vanished while it was read") from None
    except OSError as error:
        raise DigestError(f"{path}: cannot be read ({error.strerror})") from error
    finally:
        os.close(descriptor)
    if _identity(before) != _identity(after) or size != before.st_size:
        raise DigestError(f"{path}: changed while it was read", "wait until nothing writes to it any more")
    return FileDigest(size, sha256)


def listing(entries: Iterable[tuple[str, FileDigest]]) -> str:
    """The entries as coreutils' ``sha256sum`` prints them, one line a file, sorted by the names' bytes.

    A line whose name holds a backslash, newline or carriage return begins with a backslash and has it escaped, as
    ``sha256sum --check`` expects. Names from the file system that are not UTF-8 keep their surrogate escapes: write
    the text with ``errors="surrogateescape"``. Raises DigestError for a name that comes twice.
    """
    ordered = sorted(entries, key=lambda entry: _name_bytes(entry[0]))
    for (name, _), (following, _) in itertools.pairwise(ordered):
        if name == following:
            raise DigestError(f"{name}: listed twice")
    return "".join(map(_line, ordered))


def tree_digest(entries: Iterable[tuple[str, FileDigest]]) -> str:
    """SHA-256 of ``listing(entries)``: one digest for names and contents, whatever the order they come in."""
    return bytes_digest(listing(entries).encode("utf-8", "surrogateescape"))


def _read(descriptor: int, size: int) -> tuple[int, str]:
    sha256 = hashlib.sha256()
    total = 0
    ahead = size >= _LARGE_BYTES and (os.cpu_count() or 1) > 1
    # closed before the descriptor is: nothing reads it any longer then
    with contextlib.closing(_pieces_ahead(descriptor) if ahead else _pieces(descriptor, size)) as pieces:
        for piece in pieces:
            sha256.update(piece)
            total += len(piece)
            if total > size:  # a file that grows is not followed: it changed, and that is what is reported
                break
    return total, sha256.hexdigest()


def _pieces(descriptor: int, size: int) -> Generator[memoryview, None, None]:
    """What is left of a file of ``size`` bytes, in pieces, each of which is overwritten by the next."""
    # a small file gets a small buffer: zeroing 256 KiB costs more than hashing 4
    buffer = bytearray(min(size + 1, CHUNK_BYTES))
    while count := os.readv(descriptor, (buffer,)):
        yield memoryview(buffer)[:count]


def _pieces_ahead(descriptor: int) -> Generator[memoryview, None, None]:
    """The same, while a thread reads the next piece into another buffer."""
    from concurrent.futures import ThreadPoolExecutor  # few files are large

    free, full = bytearray(_AHEAD_BYTES), bytearray(_AHEAD_BYTES)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(os.readv, descriptor, (full,))
        while count := reading.result():
            reading = reader.submit(os.readv, descriptor, (free,))
            yield memoryview(full)[:count]
            free, full = full, free


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _line(entry: tuple[str, FileDigest]) -> str:
    name, digest = entry
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest.sha256}  {escaped}\n"
