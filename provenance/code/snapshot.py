"""A private copy of the packages that a run imports: Python source, and nothing else that an import could find.

The process that is recorded imports the copy, so the code that runs is the code whose digest is recorded, even where
the checkout is edited meanwhile. Everything else that Python would execute stays behind: bytecode (``.pyc``, with or
without its source), extension modules that would precede a module of the same name, archives, and whatever is beside
the packages. Such files are named, with their digests.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.editable_source import COPY_MARK
from provenance.capture.source import python_files
from provenance.capture.unavailable import unavailable
from provenance.capture.untracked_copies import remove
from provenance.errors import DigestError
from provenance.formats import portable
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.digest import FileDigest, bytes_digest, file_digest, tree_digest
from provenance.formats.folder_tree import walk

# what an import executes beside .py: bytecode, extension modules of any tag, archives and what extends the path
_EXECUTABLE = (".pyc", ".pyo", ".so", ".pyd", ".zip", ".egg", ".pth")
_NAMED = 100
_NOTE_BYTES = 1 << 22


class CodeCopy:
    """A copy of packages, there while the context is open; a process that imports it is to be its only user.

    Args:
        packages: folders of Python packages.
        place: where to make the copy.
        unused: parts of the packages which the process does not import, as ``copy_source`` has them.
        run: the folder that the process may write to, whose files are never among ``modules``; that of ``place``.

    Attributes:
        place: the folder of the copies, to be on the process's path, and its current folder.
        sources: by the path of a copy, the path of the file that it was made from, and the SHA-256 of both.
        modules: once the context is closed, the Python files that the process said it imported, of copies their
            sources: a hint, no fact.
    """

    def __init__(
        self, packages: Sequence[Path], place: Path, unused: tuple[str, ...] = (), run: Path | None = None
    ) -> None:
        self._packages = packages
        self._run = run or place.parent
        self._unused = unused
        self.place = place
        self.sources: dict[str, tuple[str, str]] = {}
        self.modules: tuple[str, ...] = ()

    def __enter__(self) -> CodeCopy:
        remove(self.place)  # of an attempt that was killed
        try:
            self._digests = copy_source(self._packages, self.place, self._unused)
            (self.place / COPY_MARK).write_bytes(os.fsencode(self._packages[0].absolute().parent))
        except BaseException:
            remove(self.place)
            raise
        origins = {each.resolve().name: str(each.absolute()) for each in self._packages}
        for name, digest in self._digests.items():
            top, _, path = name.partition("/")
            self.sources[f"{self.place}/{name}"] = f"{origins[top]}/{path}", digest.sha256
        return self

    def __exit__(self, *_: object) -> None:
        self.modules = self._noted()
        remove(self.place)

    def describe(self) -> dict[str, Any]:
        """The digest of what was copied, that of ``provenance.capture.source.package_digest``; and what was not."""
        left = not_copied(self._packages)
        copied = {"tree_sha256": tree_digest(self._digests.items()), "files": len(self._digests)}
        return {**copied, **({} if left is None else {"not_copied": left})}

    def _noted(self) -> tuple[str, ...]:
        """The absolute paths in a note of the process's; nothing of what is no regular file or too long."""
        try:
            descriptor = os.open(self.place / COPY_MARK, os.O_RDONLY | portable.NO_WAIT | portable.NO_FOLLOW)
            with open(descriptor, "rb") as stream:
                regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                text = stream.read(_NOTE_BYTES + 1) if regular else b""
        except OSError:
            return ()
        names = os.fsdecode(text).split("\0") if len(text) <= _NOTE_BYTES else []
        own = f"{self._run}{os.sep}"
        named = (self.sources.get(name, (name,))[0] for name in names)
        return tuple(n for n in named if os.path.isabs(n) and n.endswith(".py") and not n.startswith(own))


def copy_source(packages: Sequence[Path], into: Path, unused: tuple[str, ...] = ()) -> dict[str, FileDigest]:
    """Copy the Python files of ``packages`` below ``into``, each package under its name; the digests of all of them.

    Files whose path begins as one of ``unused`` does (``package/part/``) are read, and not written: making a file can
    take the kernel a millisecond. Raises DigestError for a file that cannot be read, StorageError where the copy cannot
    be written.
    """
    digests = {}
    made: set[str] = set()
    for package in packages:
        top = package.resolve().name
        for path in python_files(package):
            name = f"{top}/{path.relative_to(package).as_posix()}"
            data = _read(path)
            digests[name] = FileDigest(len(data), bytes_digest(data))
            if name.startswith(unused):
                continue
            folder = os.path.dirname(name)
            if folder not in made:
                make_folder(into / folder)
                made.add(folder)
            _write(into / name, data)
    return digests


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
    for current, below, files in walk(package):
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (Path(current, name) for name in files if name.endswith(_EXECUTABLE))


def _sha256(path: Path) -> Any:
    try:
        return file_digest(path).sha256
    except DigestError as error:
        return unavailable(error.message)


def _read(source: Path) -> bytes:
    """The content of a regular file at one moment."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer
        with open(os.open(source, os.O_RDONLY | portable.NO_WAIT), "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise DigestError(f"{source}: not a regular file")
            data = stream.read()
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise DigestError(f"{source}: cannot be read ({error.strerror})") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != before.st_size:
        raise DigestError(f"{source}: changed while it was read", "start again once nothing writes to it any more")
    return data


def _write(target: Path, data: bytes) -> None:
    try:
        with open(target, "xb", buffering=0) as copy:
            copy.write(data)
    except OSError as error:
        raise storage_error(target, error) from error
