"""Opens files that another process wrote, or that came in an archive: regular files only, and no more than expected.

A name in a run folder may lead to anything: a FIFO that waits for a writer, /dev/zero, a socket, a link to a file of
somebody's, a sparse file of a terabyte. Here nothing is waited for, no symbolic link is followed, and no more than a
stated number of bytes is read, whatever the file grows to meanwhile. Every refusal is an OSError whose ``strerror``
names what is there.

A hard link to another file cannot be told from the file itself, so it is read like any other; a file of several names
is refused where this process would write to it (``open_regular`` with ``appending``).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from provenance.errors import StorageError
from provenance.formats import portable

# the most that is read of one file of each kind; the largest of real runs have a hundredth of it
SMALL_BYTES = 1 << 16  # a key, a statement on keys, a policy
DOCUMENT_BYTES = 1 << 26  # a JSON document: environment.json, result.json, a manifest
LOG_BYTES = 1 << 28  # rows of results, a listing of files, what a process printed
ARTIFACT_BYTES = 1 << 36  # any file of a run folder, which is hashed and not held in memory

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(
    path: str | os.PathLike[str], *, beneath: Path | None = None, follow_symlinks: bool = False, appending: bool = False
) -> int:
    """Open a regular file without waiting for anything; the descriptor, which the caller closes.

    Args:
        path: the file.
        beneath: a folder above it; no folder between the two may be a symbolic link either.
        follow_symlinks: True for a path that a person named.
        appending: for reading and appending; the file is made where it is missing, and may have one name only.

    Raises OSError: it is not there, is no regular file, or cannot be opened.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if appending else os.O_RDONLY
    flags |= portable.BINARY | portable.NO_WAIT | portable.CLOSE_ON_EXEC
    flags |= 0 if follow_symlinks else portable.NO_FOLLOW
    folder = None if beneath is None else _folder_of(Path(path), beneath)
    name = os.fspath(path) if folder is None else os.path.basename(path)
    try:
        try:
            # looked at before it is opened: opening a device may do something
            _expect_regular(os.stat(name, dir_fd=folder, follow_symlinks=follow_symlinks), path, appending)
        except FileNotFoundError:
            if not appending:
                raise
        descriptor = os.open(name, flags, 0o644, dir_fd=folder)
    finally:
        if folder is not None:
            os.close(folder)
    try:
        _expect_regular(os.fstat(descriptor), path, appending)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_bounded(
    path: str | os.PathLike[str],
    limit: int = DOCUMENT_BYTES,
    *,
    beneath: Path | None = None,
    follow_symlinks: bool = False,
) -> bytes:
    """The bytes of a regular file. Raises OSError as ``open_regular``, or for one of more than ``limit`` bytes."""
    with open(open_regular(path, beneath=beneath, follow_symlinks=follow_symlinks), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        # one byte more shows that it grew
        content = stream.read(min(size, limit) + 1)
    if max(size, len(content)) > limit:
        raise OSError(errno.EINVAL, f"{max(size, len(content))} bytes, expected at most {limit}", os.fspath(path))
    return content


def read_tail(path: str | os.PathLike[str], limit: int = 1 << 16) -> bytes:
    """The last ``limit`` bytes of a regular file. Raises OSError as ``open_regular``."""
    with open(open_regular(path), "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
        return stream.read(limit)


def read_small(path: Path, *, pipes: bool = False, limit: int = SMALL_BYTES) -> bytes:
    """The bytes of a file of a few kilobytes: a key, a passphrase, a statement on keys, a policy.

    A file of the key home must be a regular file; one that a user names (``pipes``) may be a pipe, as ``<(command)``
    gives one.

    Raises FileNotFoundError where there is none, StorageError for one that cannot be read, is no regular file, or has
    more than ``limit`` bytes.
    """
    # a pipe without a writer would keep an ordinary open waiting
    waiting = 0 if pipes else portable.NO_WAIT
    try:
        descriptor = os.open(path, os.O_RDONLY | portable.BINARY | waiting)
        with open(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
                raise StorageError(f"{path}: cannot be read (not a regular file)", "name a file")
            data = stream.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise StorageError(f"{path}: more than {limit} bytes, expected a few kilobytes", "name the right file")
    return data


def kind_of(mode: int) -> str:
    """What a file system entry of that ``st_mode`` is, for people; "" for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    return next((kind for test, kind in _KINDS if test(mode)), "no regular file")


def _expect_regular(status: os.stat_result, path: str | os.PathLike[str], appending: bool) -> None:
    kind = kind_of(status.st_mode)
    if kind:
        raise OSError(errno.EINVAL, f"{kind}, expected a regular file", os.fspath(path))
    if appending and status.st_nlink > 1:
        raise OSError(errno.EINVAL, f"a file of {status.st_nlink} names, expected one of its own", os.fspath(path))


def _folder_of(path: Path, beneath: Path) -> int | None:
    """The folder of a file, opened from ``beneath`` on without following a link; None where that cannot be done."""
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_DIRECTORY"):
        return None
    above = path.relative_to(beneath).parts[:-1]
    folder = os.open(beneath, os.O_RDONLY | os.O_DIRECTORY | portable.CLOSE_ON_EXEC)
    for part in above:
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | portable.NO_FOLLOW | portable.CLOSE_ON_EXEC
            below = os.open(part, flags, dir_fd=folder)
        except OSError as error:
            linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
            reason = f"{part} is no folder of its own" if linked else error.strerror
            raise OSError(error.errno, reason, os.fspath(path)) from None
        finally:
            os.close(folder)
        folder = below
    return folder
