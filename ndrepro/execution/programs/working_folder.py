"""What is in a program's working folder before it starts and after it ended, so that new and changed files are known.

Looked at are regular files, as far as LIMIT entries, without reading them. Left out are version control, environments
of Python and Node, compiled Python and runs: a program's results are none of these. In a folder of more entries nothing
is said of new and changed files but that, and outputs have to be declared. What small files held is known by SHA-256:
that one was touched or renamed does not make it a result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from provenance.errors import DigestError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import FileDigest, bytes_digest, file_digest
from provenance.formats.run_markers import LEDGER, is_ledger, is_run_folder

LIMIT = 50_000
# size in bytes, times of modification and of change in ns, inode
Identity = tuple[int, int, int, int]
_FILE_BYTES, _ALL_BYTES = 1 << 20, 64 << 20
_LEAST_BYTES = 16
# before every recorded program: a tenth of a second
_FILES = 2000
_SPARSE_BYTES = 1 << 30
_LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", ".ipynb_checkpoints"})
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")


@dataclass(frozen=True)
class FolderState:
    """Path, relative to the folder, of every file with its identity, of folders, links to them included, and of links;
    ``problem`` says why not all are known.
    """

    files: dict[str, Identity] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    problem: str = ""


@dataclass(frozen=True)
class FolderChange:
    """Files that are new, changed and gone; ``problem`` where that is not known."""

    new: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True)
class EarlierContents:
    """Size and SHA-256 of files, by path relative to ``folder`` or absolute."""

    folder: Path
    files: Mapping[str, FileDigest]

    @classmethod
    def read(
        cls, folder: Path, files: Mapping[str, Identity], *, largest: int = _FILE_BYTES, most: int = _FILES
    ) -> EarlierContents:
        """Read ``most`` files of at most ``largest`` bytes as they are now. Nothing raises."""
        found: dict[str, FileDigest] = {}
        room = max(largest, _ALL_BYTES)
        for path in sorted(files, key=lambda path: (files[path][0], path))[:most]:
            room -= files[path][0]
            if files[path][0] > largest or room < 0:
                break
            try:
                found[path] = file_digest(folder / path)
            except DigestError:
                continue
        return cls(folder, found)

    def had(self, path: str, sha256: str) -> bool:
        """Whether a path had this content."""
        return path in self.files and self.files[path].sha256 == sha256

    def is_kept(self, path: str) -> bool:
        """Whether a path has the content that it had. Raises DigestError where it cannot be read."""
        return path in self.files and self.had(path, file_digest(self.folder / path).sha256)

    def kept_in(self, path: str, data: bytes) -> bytes:
        """All that a path held, where ``data``, which it holds now, begin with it; else nothing."""
        earlier = self.files.get(path)
        if earlier is None or bytes_digest(data[: earlier.size]) != earlier.sha256:
            return b""
        return data[: earlier.size]

    def origin(self, path: str, sha256: str) -> str:
        """What of the content that ``path`` has now was there, in words: that of a file, its beginning, or at least
        another file in its place; "" for nothing.
        """
        if sha256 in self._by_digest:
            return f"is {self._by_digest[sha256]}"
        try:
            data = read_bounded(self.folder / path)
        except OSError:
            data = b""
        if self.kept_in(path, data):
            return "begins as it was"
        other = "was another file, of which parts may be left" if path in self.files else ""
        return next((f"begins with {name}" for name in self._beginnings(data)), other)

    def _beginnings(self, data: bytes) -> Iterator[str]:
        """The files of which ``data`` begin with all that they had, if that is more than a few letters."""
        digest, done = hashlib.sha256(), 0
        for size in self._sizes:
            if _LEAST_BYTES <= size <= len(data):
                digest.update(data[done:size])
                done = size
                if digest.hexdigest() in self._by_digest:
                    yield self._by_digest[digest.hexdigest()]

    @functools.cached_property
    def _by_digest(self) -> Mapping[str, str]:
        """The first path of each content, but for none."""
        return {digest.sha256: path for path, digest in sorted(self.files.items(), reverse=True) if digest.size}

    @functools.cached_property
    def _sizes(self) -> list[int]:
        return sorted({digest.size for digest in self.files.values()})


def look(folder: Path, left_out: Collection[Path] = (), limit: int = LIMIT) -> FolderState:
    """The files below ``folder``, without those below ``left_out``. Nothing raises."""
    places = {(status.st_dev, status.st_ino) for place in left_out if (status := _status(place)) is not None}
    found = FolderState()
    waiting, entries = [""], 0
    while waiting:
        prefix = waiting.pop(0)
        try:
            with os.scandir(os.path.join(folder, prefix)) as listing:
                for entry in listing:
                    entries += 1
                    if entries > limit:
                        problem = f"more than {limit} files and folders: not looked through"
                        return replace(found, files={}, problem=problem)
                    if entry.is_dir(follow_symlinks=False):
                        if not _is_left_out(entry, places):
                            found.folders.add(prefix + entry.name)
                            waiting.append(f"{prefix}{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        found.files[prefix + entry.name] = identity(entry.stat(follow_symlinks=False))
                    elif entry.is_symlink():
                        found.links.add(prefix + entry.name)
                        if entry.is_dir():
                            found.folders.add(prefix + entry.name)
        except OSError as error:
            if not prefix:
                return FolderState(problem=f"cannot be listed ({error.strerror})")
    return found


def compare(before: FolderState, after: FolderState) -> FolderChange:
    """What changed between two looks at the same folder."""
    if before.problem or after.problem:
        return FolderChange(problem=before.problem or after.problem)
    shared = before.files.keys() & after.files.keys()
    return FolderChange(
        frozenset(after.files.keys() - shared),
        frozenset(name for name in shared if before.files[name] != after.files[name]),
        frozenset(before.files.keys() - shared),
    )


def identity(status: os.stat_result) -> Identity:
    """By what a file is known to be the same as before, without reading it."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def identity_of(path: Path, within: Collection[Path] | None = None) -> Identity | None:
    """The identity of a regular file; ``None`` for what is none, or not there.

    ``within`` are resolved paths: with them a file counts only where it is at or below one, its links followed.
    """
    try:
        if within is not None and not within_any(path, within):
            return None
        status = path.stat()
    except OSError:
        return None
    return identity(status) if stat.S_ISREG(status.st_mode) else None


def is_mostly_holes(path: Path) -> bool:
    """Whether a large file has less than a sixteenth of its bytes on the disk: reading it could take years."""
    status = path.stat()
    return status.st_size > _SPARSE_BYTES and 16 * 512 * status.st_blocks < status.st_size


class OwnName:
    """Names absolute paths that lead through another name of a folder, as ``$PWD`` of a shell may, by its own.

    ``others`` are the names that they led through.
    """

    def __init__(self, folder: Path) -> None:
        self.others: set[str] = set()
        self._folder, self._real = folder, os.path.realpath(folder)
        self._resolve = functools.cache(os.path.realpath)

    def of(self, path: str) -> str:
        """The path by the folder's own name; as it is, where it does not lead through the folder."""
        if Path(path).is_relative_to(self._folder):
            return path
        above = next((each for each in reversed(Path(path).parents) if self._resolve(each) == self._real), None)
        if above is None:
            return path
        self.others.add(str(above))
        return str(self._folder / os.path.relpath(path, above))


def within_any(path: Path, places: Collection[Path]) -> bool:
    """Whether a path leads, its links followed, to one of some resolved places or below one. Raises OSError."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(place) for place in places)


def _status(place: Path) -> os.stat_result | None:
    try:
        return place.stat()
    except OSError:
        return None


def _is_left_out(entry: os.DirEntry[str], places: Collection[tuple[int, int]]) -> bool:
    status = entry.stat(follow_symlinks=False)
    if entry.name in _LEFT_OUT or (status.st_dev, status.st_ino) in places:
        return True
    if any(os.path.exists(os.path.join(entry.path, mark)) for mark in _ENVIRONMENT_MARKS):
        return True
    return is_run_folder(Path(entry.path)) or is_ledger(Path(entry.path, LEDGER))
