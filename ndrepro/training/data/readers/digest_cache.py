"""The digests of a data set's files, so that a million of them are not read before every run.

A file that is as remembered (``provenance.formats.digest_cache``) is not read again. That may be deceived, and need
not be trusted: whoever reads the files later compares them with these digests (``Photographs.read``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers.decoding import in_threads
from ndrepro.training.data.readers.images import SourceFile, counted, read_bytes
from provenance.formats.digest_cache import DigestCache


def digests(top: Path, names: Sequence[str], check: Callable[[Path, bytes], None]) -> list[SourceFile]:
    """The digest of every file below ``top``, in the order of ``names``.

    ``check`` is given each file that has to be read; what it raises ends the reading. Raises DataError for a file
    that cannot be read.
    """
    cache = DigestCache(top)

    def digest(name: str) -> tuple[os.stat_result, str, bool]:
        path = top / name
        try:
            status = path.stat()
            known = cache.known(name, status)
            if known is not None:
                return status, known, False
            content = read_bytes(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it") from None
        check(path, content)
        return status, hashlib.sha256(content).hexdigest(), True

    checked = counted(in_threads(digest, names, ahead=256), len(names), "photographs")
    found = dict(zip(names, checked, strict=True))
    for name, (status, sha256, new) in found.items():
        if new:
            cache.add(name, status, sha256)
    if problem := cache.save():
        print(f"digests are not remembered: {problem}", flush=True)
    return [SourceFile(name, status.st_size, sha256) for name, (status, sha256, _) in found.items()]
