"""Reading small files that may be anything: a pipe, a device, a file of many gigabytes.

What is read here (keys, passphrases, statements on keys, policies) has a few kilobytes. A file of the key home must
be a regular file; one that a user names may be a pipe, as ``<(command)`` gives one.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from provenance.errors import StorageError
from provenance.formats import portable

MOST_BYTES = 65_536


def read_small(path: Path, *, pipes: bool = False) -> bytes:
    """The file's bytes, at most 64 KiB of them; a pipe's too where ``pipes`` is set.

    Raises FileNotFoundError where there is none, StorageError for one that cannot be read, is no regular file, or is
    larger.
    """
    # a pipe without a writer would keep an ordinary open waiting
    waiting = 0 if pipes else portable.NO_WAIT
    try:
        descriptor = os.open(path, os.O_RDONLY | portable.BINARY | waiting)
        with open(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
                raise StorageError(f"{path}: cannot be read (not a regular file)", "name a file")
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise StorageError(f"{path}: more than {MOST_BYTES} bytes, expected a few kilobytes", "name the right file")
    return data
