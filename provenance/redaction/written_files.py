"""Redacts files that a process has written, before they are signed: a log of any length, and JSON.

A log is read and written in pieces of whole lines. Each piece is read with the lines before it, so that a private key
or a block that began there is known; what is replaced keeps its lines. A file without secrets is left untouched, and
another is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from provenance.errors import StorageError
from provenance.formats.bounded_read import open_regular, read_bounded
from provenance.redaction.redact import redact_text, redact_tree

_PIECE = 1 << 20
# a thousand times the log of a long run; a sparse file of a terabyte would take hours
_MOST_BYTES = 1 << 30
_LINE_BYTES = 1 << 18
# a private key has some 50 lines
_LINES_BEFORE = 100
_BYTES_BEFORE = 1 << 16


def redact_log(path: Path) -> bool:
    """Redact a text file in place; whether it held anything. A file that is not there is none.

    Raises StorageError where it cannot be read or replaced, or has more than a gibibyte.
    """
    try:
        with open(open_regular(path), "rb") as log, _replacement(path) as out:
            if os.fstat(log.fileno()).st_size > _MOST_BYTES:
                raise OSError(errno.EINVAL, f"more than {_MOST_BYTES} bytes")
            changed = False
            for piece, redacted in _pieces(log):
                changed = changed or redacted != piece
                out.write(redacted)
            if changed:
                out.flush()
                os.fsync(out.fileno())
                shutil.copymode(path, out.name)
                os.replace(out.name, path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be redacted ({error.strerror or error})", "make room") from error
    return changed


def redact_json(path: Path) -> bool:
    """Redact a JSON document in place; whether it held anything. What is no JSON is read as a log is.

    Raises StorageError where it cannot be read or replaced.
    """
    try:
        document = json.loads(read_bounded(path))
        redacted = redact_tree(document)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be redacted ({error.strerror or error})") from error
    except (ValueError, RecursionError):
        return redact_log(path)
    if redacted == document:
        return False
    try:
        with _replacement(path) as out:
            out.write(json.dumps(redacted, indent=1).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())
            shutil.copymode(path, out.name)
            os.replace(out.name, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be redacted ({error.strerror or error})", "make room") from error
    return True


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path``, to be renamed to it, and gone afterwards where it was not."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(name, "wb", opener=lambda *_: descriptor) as out:
            yield out
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _pieces(log: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Pieces of whole lines, each with what it becomes."""
    before: list[bytes] = []
    while lines := _lines(log):
        context = b"".join(before)
        piece = b"".join(lines)
        redacted = _redact(context + piece).split(b"\n", context.count(b"\n"))[-1]
        yield piece, redacted
        before = _last([*before, *lines])


def _lines(log: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    size = 0
    while size < _PIECE and (line := log.readline(_LINE_BYTES)):
        found.append(line)
        size += len(line)
    return found


def _last(lines: list[bytes]) -> list[bytes]:
    """The last lines, as far as they are whole and short enough to be read twice."""
    found: list[bytes] = []
    size = 0
    for line in reversed(lines[-_LINES_BEFORE:]):
        size += len(line)
        if size > _BYTES_BEFORE or not line.endswith(b"\n"):
            break
        found.append(line)
    return found[::-1]


def _redact(data: bytes) -> bytes:
    return redact_text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
