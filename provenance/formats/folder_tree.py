"""Walks and removes folders that somebody else filled, without recursion.

A program that was confined, or an archive, may leave folders nested more deeply than Python's functions, or longer
paths than the system opens: ``os.walk``, ``Path.rglob``, ``shutil.rmtree`` and ``tempfile.TemporaryDirectory`` then end
in a RecursionError, and leave what they should have removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from provenance.errors import StorageError

DEEPEST = 200
Listing = tuple[str, list[str], list[str]]


def walk(
    folder: str | os.PathLike[str], *, onerror: Callable[[OSError], object] | None = None, followlinks: bool = False
) -> Iterator[Listing]:
    """What ``os.walk`` yields from the top down, each as path, folders and files.

    Raises StorageError for folders nested more than ``DEEPEST`` deep: what is below them must not be passed over.
    """
    waiting = [(os.fspath(folder), 0)]
    while waiting:
        current, depth = waiting.pop()
        if depth > DEEPEST:
            raise StorageError(f"{os.fspath(folder)}: folders nested more than {DEEPEST} deep", "remove them: rm -r")
        for listing in os.walk(current, onerror=onerror):
            yield listing
            below = (os.path.join(current, name) for name in reversed(listing[1]))
            waiting += [(path, depth + 1) for path in below if followlinks or not os.path.islink(path)]
            break


def files_and_links(listing: Listing) -> Iterator[str]:
    """The paths of the files in one folder that ``walk`` yields, and of its links to folders, which nothing follows."""
    at, folders, files = listing
    links = (name for name in folders if os.path.islink(os.path.join(at, name)))
    return (os.path.join(at, name) for name in (*files, *links))


def files_below(folder: Path, name: str = "") -> list[Path]:
    """Every file below a folder, or every one of that name, sorted; no link to a folder is followed.

    Raises StorageError as ``walk``.
    """
    return sorted(Path(at, file) for at, _, files in walk(folder) for file in files if name in ("", file))


def remove_tree(folder: str | os.PathLike[str], *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, however deeply nested and whatever rights were taken away.

    Every folder is moved to the top before it is emptied, so no path gets longer than it was. Raises OSError.
    """
    with contextlib.suppress(*([OSError] if ignore_errors else [])):
        if os.name == "nt":  # a junction may be moved as a folder, and what it leads to would be emptied
            shutil.rmtree(folder)
            return
        _remove(os.fspath(folder))


@contextlib.contextmanager
def temporary_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """A new private folder, which is gone afterwards whatever was put into it; no link leads to its path. Raises
    OSError.
    """
    folder = os.path.realpath(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield Path(folder)
    finally:
        remove_tree(folder)


def _remove(top: str) -> None:
    if os.path.islink(top):
        raise NotADirectoryError(f"{top}: a symbolic link")
    waiting = [top]
    while waiting:
        current = waiting.pop()
        _open_up(current)
        with os.scandir(current) as listing:
            entries = list(listing)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif current == top:
                waiting.append(entry.path)
            else:
                waiting.append(os.path.join(top, secrets.token_hex(16)))
                _open_up(entry.path)  # what it names as the folder above it changes
                os.rename(entry.path, waiting[-1])
        if current != top:
            os.rmdir(current)
    os.rmdir(top)


def _open_up(folder: str) -> None:
    with contextlib.suppress(OSError):  # another user's, in a folder of this one's: it may be removed all the same
        os.chmod(folder, 0o700)
