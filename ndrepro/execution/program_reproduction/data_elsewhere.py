"""Inputs that the reviewer has at another place than the author: found below ``--data`` by their digests alone.

Of declared data the place must hold the listed files and no other: the path that was named, or what is below it under
the last names of the recorded path. A single file is found under whatever name it has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ndrepro.execution.programs.working_folder import is_mostly_holes
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.program_record import is_below
from provenance.errors import DigestError, StorageError
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import files_below, walk

# of the recorded path's last names, as many are looked for
_NAMES = 4
Snapshot = tuple[tuple[str | int, ...], ...]
# a path, as it was before it was read
FoundData = tuple[Path, Snapshot]


class DataElsewhere:
    """A file or folder of the reviewer's that may hold what a program read. Raises UsageError where there is none."""

    def __init__(self, path: Path) -> None:
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"--data {path}: no such file or folder", "name the data's path on this machine")
        self.path = path.absolute()
        self._read: dict[Path, tuple[Snapshot, str | None]] = {}

    def data(self, recorded: Path, expected: Mapping[str, str]) -> FoundData | None:
        """Where the listed files are (name -> SHA-256), and no others; ``None`` where they are not here."""
        names = recorded.parts[1:][-_NAMES:]
        for place in range(len(names), -1, -1):
            path = self.path.joinpath(*names[place:])
            before = snapshot(path)
            if all_equal(path, expected):
                return path, before
        # the listing of a single file has its own name
        return self.file(expected[recorded.name]) if [*expected] == [recorded.name] else None

    def file(self, sha256: str, size: int | None = None) -> FoundData | None:
        """The first file, by name, with this digest."""
        sizes = self._by_size
        candidates = sizes.get(size, ()) if size is not None else [path for each in sizes.values() for path in each]
        return next(((path, self._read[path][0]) for path in candidates if self._digest(path) == sha256), None)

    def _digest(self, path: Path) -> str | None:
        if path not in self._read:
            self._read[path] = snapshot(path), digest_of(path)
        return self._read[path][1]

    @cached_property
    def _by_size(self) -> dict[int, list[Path]]:
        """Every file, by its size."""
        found: dict[int, list[Path]] = {}
        for path in [self.path] if self.path.is_file() else sorted(map(Path, files_below(self.path))):
            if path.is_file():
                found.setdefault(path.stat().st_size, []).append(path)
        return found


def all_equal(path: Path, expected: Mapping[str, str]) -> bool:
    """Whether the listed files are there and no other: what nobody listed is not shown to the program. Nor are links
    that lead out: to another file there than here, as ``/proc/self/cwd`` does.
    """
    if path.is_file():
        return list(expected.values()) == [digest_of(path)]
    if not expected or not path.is_dir():
        return False
    try:
        names = {os.path.relpath(file, path) for file in files_below(path)}
    except StorageError:  # nested more deeply than any data
        return False
    return (
        names == expected.keys()
        and not links_out(path)
        and all(digest_of(path / name) == digest for name, digest in expected.items())
    )


def links_out(path: Path) -> list[str]:
    """The links below a folder that lead out of it, or would where it is shown under another path.

    Judged by their words, which lead up no further than to the folder and then only down, and by the kernel.
    """
    top, found = os.path.realpath(path), []
    try:
        links = _links(path)
    except StorageError:  # nested more deeply than any data
        return []
    for link in links:
        words, depth = Path(os.readlink(link)), len(link.parent.relative_to(path).parts)
        up = next((number for number, part in enumerate(words.parts) if part != os.pardir), len(words.parts))
        stays = words.is_relative_to(path) if words.is_absolute() else up <= depth
        if not stays or os.pardir in words.parts[up:] or not is_below(os.path.realpath(link), top):
            found.append(str(link.relative_to(path)))
    return found


def _links(path: Path) -> list[Path]:
    entries = (Path(at, name) for at, below, files in walk(path) for name in (*below, *files))
    return sorted(each for each in entries if each.is_symlink())


def names_of_no_digest(path: Path) -> list[str]:
    """What a program finds in data beside the listed files: folders in which none is, and links, which have words."""
    full, found = {path}, []
    for at, below, files in walk(path):
        found += [Path(at, name) for name in below]
        if files:
            full |= {Path(at), *Path(at).parents}
    empty = [each for each in found if each not in full and not each.is_symlink()]
    return [os.path.relpath(each, path) for each in sorted([*empty, *_links(path)])]


def digest_of(path: Path) -> str | None:
    """The SHA-256 of a file; ``None`` where there is none that can be read, or one of holes, which could take years."""
    try:
        return file_digest(path).sha256 if path.is_file() and not is_mostly_holes(path) else None
    except (DigestError, StorageError, OSError):
        return None


def snapshot(path: Path) -> Snapshot:
    """By what a file, or a folder and all that it holds, is known to be as it was: no program sets back a ctime."""
    try:
        names = [path, *(Path(at, name) for at, below, files in walk(path) for name in (*below, *files))]
        return tuple((os.fspath(name), *_identity(name.lstat()), *_identity(name.stat())) for name in sorted(names))
    except (OSError, StorageError):
        return ()


def top_identity(before: Snapshot) -> tuple[int, int]:
    """Inode and time of change (ns) of the path that a snapshot is of, links followed."""
    *_, change, inode, _ = before[0]
    return int(inode), int(change)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
