"""Which tracked files differ from the commit, by their bytes on disk and not by what git's conversions make of them.

`git status` compares what a file becomes when it is added: a clean filter, ``autocrlf`` or ``ident`` can make a
changed file equal to the committed one. The program reads the bytes on disk, so they are what is compared here. A file
is unchanged where its bytes are those of the commit's blob, or those that git writes when it checks the blob out in
this work tree by the attributes that the commit has (line ends, an encoding; for Git LFS the content whose
digest the pointer holds, which is never downloaded). No filter is executed: what one made of a file, by a program that
no commit names, is a change.

Time stamps, and the flags by which an index keeps git from looking at a file, are not believed: every tracked file is
read and hashed as git hashes it, about 30 us and 1 ns a byte each, without a process of its own.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provenance.errors import DigestError, SourceError
from provenance.formats import portable
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import temporary_folder
from provenance.git.repository import Repository
from provenance.git.scratch_repository import (
    EXECUTABLE,
    FILE,
    LINK,
    SUBMODULE,
    ScratchRepository,
    TreeEntry,
    add_to_index,
    blob_hash,
)

STAGED = "staged only"
_CHUNK_BYTES = 1 << 20
_POINTER_BYTES = 1024
_LFS_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.+\n)*oid sha256:([0-9a-f]{64})\n")
CONVERSION_SETTINGS = ("core.autocrlf", "core.eol")
_CONVERTING = ("filter", "text", "eol", "crlf", "ident", "working-tree-encoding")


@dataclass(frozen=True)
class GitIndex:
    """What the index holds: entries by path, and the paths in conflict, left out by a sparse checkout, or flagged."""

    entries: Mapping[str, TreeEntry] = field(default_factory=dict)
    unmerged: frozenset[str] = frozenset()
    unwatched: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A tracked file that differs: what the commit has, and the mode of what is on disk (None: nothing to keep).

    ``conversion`` names the attributes by which git converts the file; ``unread`` is true where nobody could compare.
    """

    path: str
    how: str
    before: TreeEntry | None
    mode: str | None
    conversion: str = ""
    unread: bool = False


@dataclass(frozen=True)
class TreeComparison:
    """The files that differ, and those that are as git checks them out but not as the commit stores them."""

    changes: tuple[Change, ...]
    converted: tuple[str, ...]


@dataclass(frozen=True)
class _Disk:
    """What is on disk for a path; ``oid`` is empty where it was not read, ``problem`` says why."""

    mode: str | None
    oid: str = ""
    problem: str = ""


def read_commit(repository: Repository) -> dict[str, TreeEntry]:
    """Every path of HEAD's tree. Raises SourceError."""
    found = {}
    for line in filter(None, repository.ask("ls-tree", "-r", "-z", "--full-tree", "HEAD").split("\0")):
        words, _, path = line.partition("\t")
        mode, _, oid = words.split(" ")
        found[path] = TreeEntry(mode, oid)
    return found


def read_index(repository: Repository) -> GitIndex:
    """Every path of the index. Raises SourceError."""
    entries, unmerged, unwatched = {}, set(), {}
    # git-ls-files(1): TAG mode object stage TAB path; a small tag is assume-unchanged, S is skip-worktree
    for line in filter(None, repository.ask("ls-files", "-v", "-s", "-z").split("\0")):
        words, _, path = line.partition("\t")
        tag, mode, oid, stage = words.split(" ")
        entries[path] = TreeEntry(mode, oid)
        if stage != "0":
            unmerged.add(path)
        if tag.islower() or tag == "S":
            unwatched[path] = "skip-worktree" if tag in "Ss" else "assume-unchanged"
    return GitIndex(entries, frozenset(unmerged), unwatched)


def compare(repository: Repository, commit: Mapping[str, TreeEntry], index: GitIndex) -> TreeComparison:
    """Compare the work tree at ``repository.folder`` with ``commit``; submodules are left to the caller.

    Raises SourceError where git cannot be asked how it would check a file out.
    """
    paths = [path for path in sorted(commit.keys() | index.entries.keys()) if not _is_submodule(path, commit, index)]
    on_disk = _read_disk(repository, paths, commit, index)
    suspects = [path for path in paths if _may_be_converted(commit.get(path), on_disk[path])]
    converted = tuple(_as_checked_out(repository, suspects, commit)) if suspects else ()
    same = frozenset(converted)
    changes = tuple(
        Change(path, how, commit.get(path), on_disk[path].mode, unread=bool(on_disk[path].problem))
        for path in paths
        if (how := _difference(path, commit.get(path), on_disk[path], index, path in same))
    )
    return TreeComparison(tuple(_with_conversions(repository, changes)), converted)


def _is_submodule(path: str, commit: Mapping[str, TreeEntry], index: GitIndex) -> bool:
    return any(entry is not None and entry.mode == SUBMODULE for entry in (commit.get(path), index.entries.get(path)))


def _read_disk(
    repository: Repository, paths: Iterable[str], commit: Mapping[str, TreeEntry], index: GitIndex
) -> dict[str, _Disk]:
    executable, links = repository.switches("core.filemode", "core.symlinks")
    real: dict[str, bool] = {}
    found = {}
    for path in paths:
        known = commit.get(path) or index.entries[path]
        disk = _read(repository.folder, path, len(known.oid), real)
        if disk.mode in (FILE, EXECUTABLE) and not executable and known.mode in (FILE, EXECUTABLE):
            disk = _Disk(known.mode, disk.oid, disk.problem)
        elif disk.mode in (FILE, EXECUTABLE) and not links and known.mode == LINK:
            disk = _Disk(LINK, disk.oid, disk.problem)
        found[path] = disk
    return found


def _read(top: Path, path: str, name_length: int, real: dict[str, bool]) -> _Disk:
    """One file or link. What lies behind a linked folder is not in this work tree. ``real`` remembers folders."""
    if not _is_real_folder(top, os.path.dirname(path), real):
        return _Disk(None)
    place = os.path.join(top, path)
    try:
        kind = os.lstat(place).st_mode
        if stat.S_ISLNK(kind):
            target = os.fsencode(os.readlink(place))
            digest = blob_hash(name_length, len(target))
            digest.update(target)
            return _Disk(LINK, digest.hexdigest())
        if not stat.S_ISREG(kind):
            return _Disk(None)
        mode = EXECUTABLE if kind & stat.S_IXUSR else FILE
    except FileNotFoundError:
        return _Disk(None)
    except OSError as error:
        return _Disk(None, problem=f"cannot be read: {error.strerror}")
    try:
        return _Disk(mode, _blob_name(place, name_length))
    except OSError as error:
        return _Disk(mode, problem=f"cannot be read: {error.strerror}")


def _blob_name(place: str, name_length: int) -> str:
    descriptor = os.open(place, os.O_RDONLY | portable.BINARY | portable.NO_FOLLOW | portable.NO_WAIT)
    try:
        size = os.fstat(descriptor).st_size
        digest = blob_hash(name_length, size)
        while data := os.read(descriptor, min(size + 1, _CHUNK_BYTES)):
            digest.update(data)
            size -= len(data)
    finally:
        os.close(descriptor)
    if size:
        raise OSError(0, "it changed while it was read")
    return digest.hexdigest()


def _is_real_folder(top: Path, folder: str, real: dict[str, bool]) -> bool:
    if not folder:
        return True
    if folder not in real:
        place = os.path.join(top, folder)
        real[folder] = (
            _is_real_folder(top, os.path.dirname(folder), real) and os.path.isdir(place) and not os.path.islink(place)
        )
    return real[folder]


def _may_be_converted(before: TreeEntry | None, disk: _Disk) -> bool:
    regular = (FILE, EXECUTABLE)
    return before is not None and before.mode in regular and disk.mode in regular and disk.oid not in ("", before.oid)


def _difference(path: str, before: TreeEntry | None, disk: _Disk, index: GitIndex, converted: bool) -> str:
    """How a path differs from the commit; empty where it does not."""
    if path in index.unmerged:
        return "unmerged"
    if disk.problem:
        return disk.problem
    if disk.mode is None:
        if before is None:
            return STAGED
        left_out = index.unwatched.get(path) == "skip-worktree" and index.entries[path] == before
        return "" if left_out else "deleted"
    if before is None:
        return "added"
    if LINK in (before.mode, disk.mode) and before.mode != disk.mode:
        return "type changed"
    if before.mode != disk.mode or not (converted or before.oid == disk.oid):
        return "modified"
    return "" if index.entries.get(path, before if not index.entries else None) == before else STAGED


def _as_checked_out(repository: Repository, paths: list[str], commit: Mapping[str, TreeEntry]) -> Iterator[str]:
    """Those of the paths whose bytes on disk are what git would write there for the commit's blob.

    By the attributes of the commit and the recorded settings alone, in a repository of its own: those of the user's
    configuration are in no commit, and a filter is any program.
    """
    objects = (repository.folder / repository.line("rev-parse", "--git-path", "objects")).resolve()
    attributes = [path for path in commit if os.path.basename(path) == ".gitattributes"]
    with temporary_folder("ndrepro-checkout-") as folder, contextlib.ExitStack() as stack:
        written = stack.enter_context(temporary_folder("ndrepro-written-"))
        scratch = ScratchRepository(folder, [objects], len(commit[paths[0]].oid))
        index = scratch.new_index()
        add_to_index(index, ((path, commit[path]) for path in {*paths, *attributes}))
        with contextlib.suppress(SourceError):  # a blob that is not there, most likely: the others are written
            scratch.convert(index, written, paths, conversion_settings(repository))
        yield from (path for path in paths if _same_file(written / path, repository.folder / path))


def conversion_settings(repository: Repository) -> dict[str, str]:
    """The settings that have a say in how git writes a file's bytes at checkout, as far as they are set."""
    settings = {name: repository.line("config", "--default", "", "--get", name) for name in CONVERSION_SETTINGS}
    return {name: value for name, value in settings.items() if value}


def _same_file(written: Path, present: Path) -> bool:
    try:
        if filecmp.cmp(written, present, shallow=False):
            return True
        wanted = pointed_digest(written)
        return wanted is not None and file_digest(present, follow_symlinks=False).sha256 == wanted
    except (OSError, DigestError):
        return False


def pointed_digest(path: Path) -> str | None:
    """The SHA-256 of the content for which a file is Git LFS's pointer; ``None`` for any other file.

    Source: Git LFS specification, "The Pointer". Raises OSError.
    """
    if path.stat().st_size > _POINTER_BYTES:
        return None
    pointer = _LFS_POINTER.match(path.read_bytes())
    return pointer.group(1).decode() if pointer else None


def _with_conversions(repository: Repository, changes: tuple[Change, ...]) -> Iterator[Change]:
    """The changes, each with the attributes by which git converts it: it may be why `git status` shows none."""
    with temporary_folder("ndrepro-names-") as scratch:
        listing = scratch / "names"
        listing.write_bytes(b"".join(os.fsencode(change.path) + b"\0" for change in changes))
        # the attributes in the work tree; the index itself may not be readable
        tree = Repository(repository.folder, {"GIT_INDEX_FILE": str(scratch / "none")})
        answer = tree.ask("check-attr", "-z", "--stdin", *_CONVERTING, stdin=listing) if changes else ""
    words = answer.split("\0")
    named: dict[str, list[str]] = {}
    for path, attribute, value in zip(words[::3], words[1::3], words[2::3], strict=False):
        if value not in ("unspecified", "unset"):
            named.setdefault(path, []).append(attribute if value == "set" else f"{attribute}={value}")
    for change in changes:
        conversion = " ".join(named.get(change.path, ()))
        yield Change(change.path, change.how, change.before, change.mode, conversion, change.unread)
