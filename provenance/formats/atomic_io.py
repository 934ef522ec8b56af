"""Writing so that a reader finds the old file or the new one, and never a part: and locks between processes.

Every OSError becomes a StorageError that names the path and what to do; a full disk says so in plain words.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provenance.errors import StorageError
from provenance.formats import portable

_LOCK_SECONDS = 60.0


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` whole or not at all, and return when it is on the disk.

    A temporary file in the same folder is written, flushed to the disk and renamed over ``path``; the folder is
    flushed too. Raises StorageError; the temporary file is then gone and ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | portable.BINARY, mode)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def write_json(path: Path, document: Any) -> None:
    """Write JSON whole or not at all, on the disk when this returns. Raises StorageError."""
    write_atomically(path, json_bytes(document))


def json_bytes(document: Any) -> bytes:
    """What ``write_json`` writes.

    Paths that are not UTF-8 (lone surrogates, as ``os.fsdecode`` gives them) are written as escapes and read back.
    """
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # a lone surrogate, as in a path that is not UTF-8, becomes its JSON escape, which reading reverses
        return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("ascii")


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to the disk, so that a rename in it outlives a power cut.

    Windows opens no folders; there this does nothing.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot flush a folder; the rename itself is still whole
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise storage_error(folder, error) from error


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of the lock file ``path``, made where it is missing; waits for others for up to a minute.

    Raises StorageError if the lock file cannot be made or the lock cannot be taken.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | portable.NO_FOLLOW, 0o644)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        _wait(descriptor, path, shared)
        yield
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: OSError) -> StorageError:
    """The StorageError for an OSError met at ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"{path}: the disk is full or a quota is reached ({error.strerror})", "make room")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{path}: cannot be written ({error.strerror})", "name a folder that you may write to")
    return StorageError(f"{path}: {error.strerror or error}", "")


def _wait(descriptor: int, path: Path, shared: bool) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    pause = 0.0005
    while True:
        try:
            portable.lock(descriptor, shared=shared)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{path}: another process has held this lock for {_LOCK_SECONDS:.0f} s",
                    f"see who does with: fuser {path}",
                ) from None
        except OSError as error:
            raise storage_error(path, error) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.002)
