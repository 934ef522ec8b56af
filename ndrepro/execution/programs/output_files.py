"""What a program wrote: files that it was declared to write, and what is new or changed in its working folder.

Every one gets its SHA-256. Small ones are copied into the run folder, the smallest first, as far as the room goes; the
others, checkpoints and weights among them, stay where they are and are *referenced* by path, size and digest. A file in
which something looks like a secret is referenced too: a copy would carry it, and an output is never altered. What it
printed on standard output is one of them where it was declared, under the path ``STANDARD_OUTPUT``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.execution.programs.declared_files import DeclaredFiles, declared_files
from ndrepro.execution.programs.working_folder import (
    EarlierContents,
    FolderChange,
    FolderState,
    compare,
    identity_of,
    is_mostly_holes,
    look,
    within_any,
)
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import (
    AS_BEFORE,
    CHANGED,
    DECLARED,
    NEW,
    NOT_WRITTEN,
    STANDARD_OUTPUT,
    WRITTEN,
    ProgramFile,
)
from provenance.attestation.run_files import inside
from provenance.errors import DigestError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import FileDigest, bytes_digest, file_digest
from provenance.redaction.documents import redact_file

COPY_BYTES, COPIED_BYTES = 1 << 20, 8 << 20


@dataclass(frozen=True)
class Outputs:
    """What was written, by path; globs that matched nothing; names of removed files; the folders that it was written
    into and that were there before the start; what is not known, and why.
    """

    files: tuple[ProgramFile, ...]
    unmatched: tuple[str, ...]
    removed: tuple[str, ...]
    folders: tuple[str, ...]
    problem: str


@dataclass(frozen=True)
class PrintedOutput:
    """Standard output as a result: bytes and SHA-256 of all of it, and its ``beginning``, all where it is small."""

    size: int
    sha256: str
    beginning: bytes


class OutputFiles:
    """Looks at the working folder before the program starts; ``record`` says what it wrote.

    Args:
        folder: the working folder.
        globs: those of ``--out``, ``STANDARD_OUTPUT`` among them or not.
        left_out: folders whose content is no output: the folder of runs.
        within: places outside of which nothing is read, as in ``identity_of``.
        is_key: whether an absolute path is of a key, which is no output.
    """

    def __init__(
        self,
        folder: Path,
        globs: Sequence[str],
        left_out: Iterable[Path],
        within: Collection[Path] | None,
        is_key: Callable[[str], bool],
    ) -> None:
        self._folder = folder
        self._globs = tuple(pattern for pattern in globs if pattern != STANDARD_OUTPUT)
        self._left_out = tuple(left_out)
        self._before: FolderState = look(folder, self._left_out)
        self._within = within
        self._is_key = is_key
        self._declared_before = declared_files(folder, self._globs, within=within)
        self._contents = EarlierContents.read(folder, {**self._before.files, **self._declared_before.files})

    def record(
        self,
        run: RunFolder,
        written: Iterable[str],
        printed: PrintedOutput | None = None,
        appended: Collection[str] = (),
        changed: Collection[str] = (),
    ) -> Outputs:
        """Digest what the program wrote, and copy what is small into ``run``.

        ``written`` are absolute paths that its Python code opened for writing, ``appended`` those of them in which it
        left what was there, ``changed`` others elsewhere; ``printed``: see PrintedOutput. Raises StorageError.
        """
        after = look(self._folder, self._left_out)
        change = compare(self._before, after)
        declared = declared_files(self._folder, self._globs, within=self._within)
        kinds = dict.fromkeys(changed, CHANGED) | self._kinds(change, declared, written)
        kinds = {path: how for path, how in kinds.items() if not self._is_key(os.path.join(self._folder, path))}
        sizes = {
            path: known[0] for path in kinds if (known := identity_of(self._folder / path, self._within)) is not None
        }
        room, found = COPIED_BYTES, []
        if printed is not None:  # what was asked for comes first, and takes the place of a file of this name
            kinds.pop(STANDARD_OUTPUT, None)
            file, used = _printed(run, printed)
            room -= used
            found.append(file)
        for path in sorted(kinds, key=lambda path: (sizes.get(path, 0), path)):
            opened = os.path.join(self._folder, path) in appended
            file, used = self._file(run, path, kinds[path], sizes.get(path), room, declared, opened=opened)
            room -= used
            if file.written or file.how == DECLARED:
                found.append(file)
        return Outputs(
            tuple(sorted(found, key=lambda file: file.path)),
            declared.unmatched,
            tuple(sorted(change.removed)),
            tuple(sorted({above for file in found if file.written and (above := self._folder_of(file.path))})),
            "; ".join(filter(None, (change.problem, declared.problem))),
        )

    @property
    def links(self) -> Collection[str]:
        """The links that were in the working folder before the start, relative to it."""
        return self._before.links

    def read_before(self, path: str, now: str | None) -> FileDigest | None:
        """What an output held before the start, where it is known and another content is there ``now``."""
        earlier = self._contents.files.get(self._relative(path))
        return None if earlier is None or earlier.sha256 == now else earlier

    def _kinds(self, change: FolderChange, declared: DeclaredFiles, written: Iterable[str]) -> dict[str, str]:
        """How each path is known to be an output."""
        kinds = {path: WRITTEN for path in map(self._relative, written) if self._is_outside(path)}
        kinds |= dict.fromkeys(change.changed, CHANGED) | dict.fromkeys(change.new, NEW)
        return kinds | dict.fromkeys(declared.files, DECLARED)

    def _folder_of(self, path: str) -> str:
        """The nearest folder above a path that was there before the start; "" for the working folder, or none."""
        return next((name for each in Path(path).parents if (name := each.as_posix()) in self._before.folders), "")

    def _relative(self, path: str) -> str:
        try:
            return Path(path).relative_to(self._folder).as_posix()
        except ValueError:
            return path

    def _is_outside(self, path: str) -> bool:
        """Whether a path is outside of the working folder, in which ``look`` has seen what changed, and still there.

        What is behind a link in it is outside, too: ``look`` follows none.
        """
        behind = any(above.as_posix() in self._before.links for above in Path(path).parents)
        if not (path.startswith("/") or behind or self._before.problem):
            return False
        place = self._folder / path
        if any(place.is_relative_to(folder) for folder in self._left_out):
            return False
        return identity_of(place, self._within) is not None

    def _is_inside(self, path: str) -> bool:
        """Whether a path and what it leads to are in the working folder: a copy of a link would carry anything."""
        return inside(path) and within_any(self._folder / path, [Path(os.path.realpath(self._folder))])

    def _file(
        self, run: RunFolder, path: str, how: str, size: int | None, room: int, declared: DeclaredFiles, *, opened: bool
    ) -> tuple[ProgramFile, int]:
        """One output, and the bytes that its copy takes; ``opened``: without anything in it being replaced."""
        place = self._folder / path
        if size is None:
            return ProgramFile(path, how, None, None, reason="it was gone before it could be read"), 0
        same = how == DECLARED and declared.files[path] == self._declared_before.files.get(path)
        try:
            if is_mostly_holes(place):
                return ProgramFile(path, how, size, None, reason="not read: nearly all of it is holes"), 0
            same = same or (opened and self._contents.is_kept(path))
            reason = f"{NOT_WRITTEN}: as it was before the start" if same else ""
            reason = reason or ("not copied: larger than 1 MiB" if size > COPY_BYTES else "")
            reason = reason or ("not copied: the room for copies is used up" if size > room else "")
            reason = reason or ("not copied: outside of the working folder" if not self._is_inside(path) else "")
            if reason:
                digest = file_digest(place)
                return ProgramFile(path, how, digest.size, digest.sha256, reason=reason), 0
            data = read_bounded(place, COPY_BYTES, follow_symlinks=True)
        except (DigestError, OSError) as error:
            why = error.message if isinstance(error, DigestError) else error.strerror or str(error)
            return ProgramFile(path, how, size, None, reason=why.removeprefix(f"{place}: ")), 0
        file, used = copied(run, run.output_copies, path, how, data)
        if not file.reason and self._contents.had(path, bytes_digest(data)):
            file = replace(file, reason=AS_BEFORE)
        return file, used


def _printed(run: RunFolder, printed: PrintedOutput) -> tuple[ProgramFile, int]:
    """Standard output, and the bytes that its copy takes."""
    if printed.size > COPY_BYTES:
        reason = "not copied: larger than 1 MiB"
        return ProgramFile(STANDARD_OUTPUT, DECLARED, printed.size, printed.sha256, reason=reason), 0
    return copied(run, run.output_copies, STANDARD_OUTPUT, DECLARED, printed.beginning)


def copied(run: RunFolder, copies: Path, path: str, how: str, data: bytes) -> tuple[ProgramFile, int]:
    """The file ``path`` with its copy in the folder ``copies``, but for one with a secret; the bytes that it takes.

    Raises StorageError.
    """
    redacted = redact_file(path, data)
    # a run folder holds no name that JSON cannot
    text = path.encode("utf-8", "replace") == os.fsencode(path)
    if redacted.problem or redacted.data != data or not text:
        why = "its name is not UTF-8" if not text else redacted.problem or "it holds what looks like a secret"
        return ProgramFile(path, how, len(data), bytes_digest(data), reason=f"not copied: {why}"), 0
    copy = copies / path
    make_folder(copy.parent)
    try:
        copy.write_bytes(data)
    except OSError as error:
        raise storage_error(copy, error) from error
    kept = copy.relative_to(run.root).as_posix()
    return ProgramFile(path, how, len(data), bytes_digest(data), copy=kept), len(data)
