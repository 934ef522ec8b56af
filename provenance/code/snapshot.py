"""A private copy of the packages that a run imports: Python source, and nothing else that an import could find.

The process that is recorded imports the copy, so the code that runs is the code whose digest is recorded, even where
the checkout is edited meanwhile. Everything else that Python would execute stays behind: bytecode (``.pyc``, with or
without its source), extension modules that would precede a module of the same name, archives, and whatever lies beside
the packages. Such files are named, with their digests.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.environment import COPY_MARK
from provenance.capture.source import package_digest, python_files
from provenance.capture.unavailable import unavailable
from provenance.capture.untracked_copies import remove
from provenance.errors import DigestError
from provenance.formats import portable
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.digest import bytes_digest, file_digest

# what an import executes beside .py: bytecode, extension modules of any tag, archives and what extends the path
_EXECUTABLE = (".pyc", ".pyo", ".so", ".pyd", ".zip", ".egg", ".pth")
_NAMED = 100
_NOTE_BYTES = 1 << 22


class CodeCopy:
    """A copy of packages, there while the context is open; a process that imports it is to be its only user.

    Attributes:
        place: the folder of the copies, to be on the process's path, and its current folder.
        modules: once the context is closed, the Python files that the process said it imported: a hint, no fact.
    """

    def __init__(self, packages: Sequence[Path], place: Path) -> None:
        self._packages = packages
        self.place = place
        self.modules: tuple[str, ...] = ()

    def __enter__(self) -> CodeCopy:
        remove(self.place)  # of an attempt that was killed
        try:
            self._copies = copy_source(self._packages, self.place)
            (self.place / COPY_MARK).write_bytes(b"")
        except BaseException:
            remove(self.place)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.modules = _noted(self.place / COPY_MARK)
        remove(self.place)

    def describe(self) -> dict[str, Any]:
        """The digest of what was copied (``provenance.capture.source.package_digest``), and what was not, if any."""
        left = not_copied(self._packages)
        return {**package_digest(self._copies), **({} if left is None else {"not_copied": left})}


def copy_source(packages: Sequence[Path], into: Path) -> tuple[Path, ...]:
    """Copy the Python files of ``packages`` below ``into``; the folders of the copies, named as the packages are.

    Raises DigestError for a file that cannot be read, StorageError where the copy cannot be written.
    """
    copies = []
    for package in packages:
        copy = into / package.resolve().name
        make_folder(copy)
        for path in python_files(package):
            _copy(path, copy / path.relative_to(package))
        copies.append(copy)
    return tuple(copies)


def not_copied(packages: Sequence[Path]) -> dict[str, Any] | None:
    """The files of ``packages`` that an import could execute and that ``copy_source`` leaves behind; None without any.

    Returns ``count`` and the first of ``files``: path from the package's folder on, sha256. Python's own cache folders,
    which no recorded process reads, are passed over.
    """
    found = sorted(
        (f"{each.resolve().name}/{path.relative_to(each)}", path) for each in packages for path in _odd(each)
    )
    if not found:
        return None
    return {"count": len(found), "files": [{"path": name, "sha256": _sha256(path)} for name, path in found[:_NAMED]]}


def _odd(package: Path) -> Iterator[Path]:
    for current, below, files in os.walk(package):
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (Path(current, name) for name in files if name.endswith(_EXECUTABLE))


def _noted(note: Path) -> tuple[str, ...]:
    """The absolute paths in a note of the process's; nothing of what is no regular file or too long."""
    try:
        descriptor = os.open(note, os.O_RDONLY | portable.NO_WAIT | portable.NO_FOLLOW)
        with open(descriptor, "rb") as stream:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            text = stream.read(_NOTE_BYTES + 1) if regular else b""
    except OSError:
        return ()
    names = os.fsdecode(text).split("\0") if len(text) <= _NOTE_BYTES else []
    return tuple(name for name in names if os.path.isabs(name) and not name.startswith(f"{note.parent}{os.sep}"))


def _sha256(path: Path) -> Any:
    try:
        return file_digest(path).sha256
    except DigestError as error:
        return unavailable(error.message)


def _copy(source: Path, target: Path) -> None:
    digest = file_digest(source).sha256  # and not a FIFO or a device
    try:
        data = source.read_bytes()
    except OSError as error:
        raise DigestError(f"{source}: cannot be read ({error.strerror})") from error
    if bytes_digest(data) != digest:
        raise DigestError(f"{source}: changed while it was read", "start again once nothing writes to it any more")
    make_folder(target.parent)
    try:
        target.write_bytes(data)
    except OSError as error:
        raise storage_error(target, error) from error
