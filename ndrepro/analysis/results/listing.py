"""Every run's manifest below a folder, in the order of its path's bytes, with what tells that its file changed.

That order is the index's, so that the two are compared in one pass. Names are bytes: a file's name need not be text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from provenance.attestation.run_files import MANIFEST
from provenance.errors import StorageError

# size, times of modification and change in ns, inode, device; of a run's manifest the latest change of the whole run
Stamp = tuple[int, int, int, int, int]
# path, and its stamp
Found = tuple[bytes, int, int, int, int, int]

# runs/EXPERIMENT/RUN: a folder of kept runs may lie one deeper
_DEPTH = 4
_MANIFEST = os.fsencode(f"/{MANIFEST}")


def manifests(folder: Path) -> Iterator[Found]:
    """Every run's manifest at or below a folder, with its file's stamp.

    Manifests of a run's earlier attempts lie inside it and are left there. Raises StorageError for a folder that
    cannot be listed.
    """
    path = os.fsencode(folder)
    if folder.is_file():
        stamp = stamp_of(path)
        if stamp is not None:
            yield path, *stamp
        return
    yield from _walk(path, _DEPTH)


def stamp_of(path: bytes | Path) -> Stamp | None:
    """Size, times of change in ns, inode and device of a file; None for one that is not there."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _walk(folder: bytes, depth: int) -> Iterator[Found]:
    manifest = folder + _MANIFEST
    try:
        status = os.stat(manifest, follow_symlinks=False)
    except OSError:
        if depth and not os.path.lexists(folder + b"/request.json"):
            for inside in _inside(folder):
                yield from _walk(inside, depth - 1)
        return
    changed = max(status.st_ctime_ns, _latest_change(folder))
    yield manifest, status.st_size, status.st_mtime_ns, changed, status.st_ino, status.st_dev


def _latest_change(folder: bytes) -> int:
    """When the folder or anything in it was changed last, in ns: a file's content, name or place."""
    latest = os.stat(folder, follow_symlinks=False).st_ctime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                latest = max(latest, _latest_change(folder + b"/" + entry.name))
            else:
                latest = max(latest, entry.stat(follow_symlinks=False).st_ctime_ns)
    return latest


def _inside(folder: bytes) -> list[bytes]:
    """The folders in a folder, in the order of all paths below them: "a-b/" comes before "a/"."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name + b"/" for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise StorageError(f"{os.fsdecode(folder)}: cannot be listed ({error.strerror})") from None
    return [folder + b"/" + name[:-1] for name in names]
