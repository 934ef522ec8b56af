"""Remembers the digests of a data set's files, so that a million of them are not read before every run.

One file a data folder, ``digests/HASH.tsv`` in the cache folder (``$NDREPRO_CACHE``, else ``$XDG_CACHE_HOME/ndrepro``,
else ``~/.cache/ndrepro``): name, size, time of change in ns, inode, sha256. A file whose size, time and inode are as
remembered is not read again. That may be deceived, and need not be trusted: whoever reads the files later compares
them with these digests (``Photographs.read``). Where the cache cannot be written, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers.decoding import in_threads
from ndrepro.training.data.readers.images import SourceFile

_HEADER = "name\tsize\tmtime_ns\tinode\tsha256"


class _Remembered(NamedTuple):
    size: int
    mtime_ns: int
    inode: int
    sha256: str


def digests(top: Path, names: Sequence[str], check: Callable[[Path, bytes], None]) -> list[SourceFile]:
    """The digest of every file below ``top``, in the order of ``names``.

    ``check`` is given each file that has to be read; what it raises ends the reading. Raises DataError for a file
    that cannot be read.
    """
    place = cache_folder() / "digests" / f"{hashlib.sha256(os.fsencode(top.resolve())).hexdigest()[:32]}.tsv"
    before = _load(place)

    def digest(name: str) -> _Remembered:
        path = top / name
        try:
            status = path.stat()
            known = before.get(name)
            if known and known[:3] == (status.st_size, status.st_mtime_ns, status.st_ino):
                return known
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it") from None
        check(path, content)
        sha256 = hashlib.sha256(content).hexdigest()
        return _Remembered(len(content), status.st_mtime_ns, status.st_ino, sha256)

    now = dict(zip(names, in_threads(digest, names, ahead=256), strict=True))
    if any(before.get(name) != entry for name, entry in now.items()):
        _save(place, {**before, **now})
    return [SourceFile(name, entry.size, entry.sha256) for name, entry in now.items()]


def cache_folder() -> Path:
    """Where digests are remembered, as told above."""
    chosen = os.environ.get("NDREPRO_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ndrepro"


def _load(place: Path) -> dict[str, _Remembered]:
    """What is remembered; nothing of a file that is not whole or not one of ours."""
    try:
        header, *rows = place.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        if header != _HEADER or rows.pop() != "":
            return {}
        split = [row.split("\t") for row in rows]
        return {name: _Remembered(int(size), int(time), int(inode), sha) for name, size, time, inode, sha in split}
    except (OSError, ValueError, IndexError):
        return {}


def _save(place: Path, entries: dict[str, _Remembered]) -> None:
    rows = [
        f"{name}\t{each.size}\t{each.mtime_ns}\t{each.inode}\t{each.sha256}"
        for name, each in entries.items()
        if not {"\t", "\n"} & set(name)  # which this format cannot hold
    ]
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("\n".join([_HEADER, *rows, ""]), encoding="utf-8", errors="surrogateescape")
        temporary.replace(place)
    except OSError as error:
        print(f"digests are not remembered: {place}: {error.strerror}", flush=True)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
