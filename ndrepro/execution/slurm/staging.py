"""Copies data to a folder of the node before a task trains, so that many tasks do not read one shared file system.

Tasks on one node share a copy: the first makes it, under a lock, the others wait. It has the name of its source, the
sizes and times of the source's files, so that a changed source is copied anew. It stays when the task is over, for the
next one; a node's scratch is cleared by its site. Runs record the digests of what they read, wherever it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from provenance.errors import StorageError
from provenance.formats.folder_tree import files_below, remove_tree


def staged(source: Path, scratch: str) -> Path:
    """The copy of ``source`` in ``scratch``, which may name variables of the node; ``source`` where there is no room.

    Raises StorageError for a scratch folder that is not there.
    """
    folder = Path(os.path.expandvars(scratch))
    if "$" in str(folder) or not folder.is_dir():
        raise StorageError(f"scratch {scratch}: no such folder on this node", "correct `scratch` in the profile")
    own = folder / f"ndrepro-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    target = own / _digest(source) / source.name
    with (own / f"{target.parent.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        if shutil.disk_usage(own).free < 1.1 * sum(path.stat().st_size for path in _files(source)):
            print(f"{folder} has no room for {source}: it is read where it is", flush=True)
            return source
        partial = target.parent.with_suffix(".partial")
        remove_tree(partial, ignore_errors=True)
        partial.mkdir()
        copy = partial / source.name
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
        partial.rename(target.parent)
    return target


def _files(source: Path) -> list[Path]:
    return [path for path in files_below(source) if path.is_file()] if source.is_dir() else [source]


def _digest(source: Path) -> str:
    """A name for a source as it is now."""
    told = hashlib.sha256(os.fsencode(source.resolve()))
    for path in _files(source):
        status = path.stat()
        told.update(f"{path.relative_to(source)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return told.hexdigest()[:16]
