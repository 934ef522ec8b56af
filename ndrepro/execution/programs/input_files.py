"""What a program read, as far as it is known: files that its command names, standard input, declared data, and files
that its Python code opened.

Declared data are digested before the program starts, every file of them, and remembered while they do not change; what
led to them by another path than the declared one, as a link does, is recorded with them. The others are digested when
it has ended, as far as BYTES and FILES; of the rest the size is recorded. A file that the program wrote is one of its
outputs; an input too where it read it before, as it was then, if that is known.

Where no commit has the code, source and settings of the working folder are copied into the run, as far as KEPT_BYTES
and COPIED_BYTES, but for a file in which something looks like a secret.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndrepro.execution.programs.output_files import copied
from ndrepro.execution.programs.working_folder import identity_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import (
    COMMAND,
    LISTED,
    LISTINGS,
    OPENED,
    OTHER_PATHS,
    STANDARD_INPUT,
    DataPath,
    ProgramFile,
)
from provenance.attestation.key_home import is_key_file
from provenance.attestation.manifest import DATASET, Resource
from provenance.attestation.run_files import inside
from provenance.capture.unavailable import printable
from provenance.errors import DigestError, NotFoundError, ProvenanceError, StorageError, UsageError
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import FileDigest, bytes_digest, file_digest, listing, tree_digest
from provenance.formats.digest_cache import DigestCache, digests_folder
from provenance.formats.folder_tree import walk
from provenance.formats.run_markers import LOCK, is_ledger, listed_files
from provenance.observation.process_record import OpenedFile

BYTES, FILES = 8 << 30, 10_000
# of one copy, and of all
KEPT_BYTES, COPIED_BYTES = 256 << 10, 4 << 20
_SUFFIXES = (
    "awk bash c cc cpp cu f f90 fish go h hpp ipynb java jl js lua m mjs mk php pl pm py pyw r R rb rs scala sed sh "
    "tcl ts zsh"
)
_CODE = re.compile(rf".*\.(?:{'|'.join(_SUFFIXES.split())})|(?:GNU)?[Mm]akefile", re.DOTALL)
# what these lead to depends on the process that asks
_DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/\d+)|/proc/[^/]+/fd/\d+")
_SETTINGS = re.compile(r".*\.(?:toml|ya?ml|json|cfg|ini)", re.DOTALL)


def expect_data(paths: Iterable[Path]) -> None:
    """Raises NotFoundError for declared data that are not there."""
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise NotFoundError(f"--data {path}: no such file or folder", "name the data's path on this machine")


def declared_data(paths: Sequence[Path], run: Path) -> tuple[Resource, ...]:
    """Digest every file of each path; one resource each, and a listing of its files in the folder ``run``.

    The digest is that of the listing, as ``sha256sum`` writes it. Raises StorageError where it cannot be written.
    """
    return tuple(_dataset(path, number, run) for number, path in enumerate(paths))


def with_other_paths(
    described: Resource, folder: Path, data: Path, links: Iterable[str], opened: Iterable[str]
) -> Resource:
    """The resource of declared ``data`` with every other path that led to them, or to a part of them, at most LISTED.

    Args:
        folder: the working folder.
        links: those that were in it before the start.
        opened: absolute paths that the program opened.
    """
    found = dict(_other_paths(folder, folder / data, links, opened))
    if not found or "listing" not in (described.annotations or {}):
        return described
    paths = sorted(found.items())
    more: dict[str, Any] = {OTHER_PATHS: [DataPath(printable(path), part).to_json() for path, part in paths[:LISTED]]}
    if len(paths) > LISTED:
        more["problem"] = f"{len(paths) - LISTED} more paths led to them"
    return replace(described, annotations=printable({**(described.annotations or {}), **more}))


def _other_paths(folder: Path, data: Path, links: Iterable[str], opened: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Such paths, relative to the working folder where they are below it, and what of the data is there."""
    declared, real = os.path.abspath(data), os.path.realpath(data)
    resolve, known = functools.cache(os.path.realpath), {*links}
    for path in (*(str(folder / name) for name in links), *opened):
        if _is_below(path, [declared]) or _is_below(path, ["/proc"]):
            continue
        leads_to = os.path.realpath(path)
        if _is_below(real, [leads_to]):  # a link to a folder that holds the data
            path = os.path.normpath(os.path.join(path, os.path.relpath(real, leads_to)))
        elif not _is_below(leads_to, [real]):
            continue
        above = (*map(str, reversed(Path(path).parents)), path)
        first = next(each for each in above if _is_below(resolve(each), [real]))
        inside = Path(first).is_relative_to(folder)
        name = os.path.relpath(first, folder) if inside else first
        # a link that the program made itself is one that it makes again
        made = inside and not any(each.as_posix() in known for each in (Path(name), *Path(name).parents))
        if first != declared and not made:
            yield name, os.path.relpath(resolve(first), real)


def _dataset(path: Path, number: int, run: Path) -> Resource:
    name = DATASET + str(path)
    try:
        entries = list(_digests(path))
    except (ProvenanceError, OSError) as error:
        why = error.message if isinstance(error, ProvenanceError) else f"{error.filename or path}: {error.strerror}"
        return Resource(printable(name), annotations=printable({"unavailable": why}))
    file = f"{LISTINGS}/{number}.sha256"
    make_folder(run / LISTINGS)
    write_atomically(run / file, listing(entries).encode("utf-8", "surrogateescape"))
    size = sum(digest.size for _, digest in entries)
    facts = {"files": len(entries), "bytes": size, "listing": file}
    return Resource(printable(name), digest={"sha256": tree_digest(entries)}, annotations=facts)


def _digests(path: Path) -> Iterator[tuple[str, FileDigest]]:
    """Name, relative to ``path``, and digest of each regular file below it; of a file its own. No folder twice."""
    if path.is_file():
        _expect_no_key(path)
        yield path.name, file_digest(path)
        return
    cache = DigestCache(path)
    for place, below, names in walk(path, onerror=_refuse):
        below.sort()
        for name in sorted(names):
            file = os.path.join(place, name)
            if os.path.isfile(file):
                _expect_no_key(file)
                relative = os.path.relpath(file, path)
                yield relative, FileDigest(os.stat(file).st_size, cache.sha256(relative))
    cache.save()


def _expect_no_key(path: str | Path) -> None:
    if is_key_file(path):
        raise UsageError(f"{path}: a signing key is no data", "name data that have none")


def _refuse(error: OSError) -> None:
    raise error


@dataclass(frozen=True)
class Inputs:
    """Files that were read; how many others were only measured; ``problem`` where the list is not whole."""

    files: tuple[ProgramFile, ...]
    problem: str = ""


def read_files(
    folder: Path,
    words: Sequence[str],
    opened: Iterable[str],
    written: Iterable[str],
    data: Sequence[Path],
    within: Collection[Path] | None = None,
    keep: RunFolder | None = None,
) -> Inputs:
    """Digest the files that a program is known to have read.

    Args:
        folder: the working folder; it may be gone.
        words: those of the command but for the first, which is the executable.
        opened: absolute paths that its Python code opened for reading.
        written: its outputs, absolute; they are no inputs.
        data: declared data; what is below them was digested before.
        within: places outside of which nothing is read, as in ``identity_of``.
        keep: the run that gets copies of source and settings; ``None`` where a commit has them.

    Raises StorageError where a copy cannot be written.
    """
    files_named = [word for word in words if identity_of(folder / word, within) is not None]
    found = ways_read(folder, files_named, opened)
    outputs = set(written)
    declared = [os.path.realpath(path) for path in data]
    kept = [
        (path, how)
        for path, how in found.items()
        if path not in outputs and not _is_below(os.path.realpath(path), declared)
    ]
    room, copies, files = BYTES, COPIED_BYTES, []
    for path, how in kept[:FILES]:
        known = identity_of(Path(path), within)
        if known is None:
            continue
        file = _file(folder, path, how, known[0], room)
        room -= file.size or 0 if file.sha256 else 0
        if keep is not None and _is_source(file, min(copies, KEPT_BYTES)):
            file, used = _kept(file, Path(path), keep)
            copies -= used
        files.append(file)
    more = len(kept) - FILES
    return Inputs(
        tuple(sorted(files, key=lambda file: file.path)), f"{more} more files were opened" if more > 0 else ""
    )


def words_of_files(folder: Path, words: Iterable[str], is_key: Callable[[str], bool]) -> list[str]:
    """The words that may name inputs: no key, nor an open file of the process that asks, as /dev/stdin is."""
    plain = ((word, os.path.normpath(folder / word)) for word in words if word)
    return [word for word, path in plain if not (_DESCRIPTOR.fullmatch(path) or is_key(path))]


def ways_read(folder: Path, words: Iterable[str], opened: Iterable[str]) -> dict[str, str]:
    """How each path is known to have been read: by a word of the command, or else opened."""
    found = {str(folder / word): COMMAND for word in words}
    for path in opened:
        found.setdefault(path, OPENED)
    return found


def own_records(opened: Collection[OpenedFile]) -> set[str]:
    """What a program read that is no input: what it both read and wrote of runs that it records itself, as by
    ``provenance.record``, and of lists of runs; and remembered digests. A repetition begins without them.
    """
    # a lock alone may be any program's
    is_run, remembered = functools.cache(listed_files), digests_folder()
    written = {os.path.normpath(each.path) for each in opened if each.written}
    read = {os.path.normpath(each.path) for each in opened if each.read}
    return {path for path in read if Path(path).is_relative_to(remembered)} | {
        path
        for path in read & written
        if is_ledger(Path(path.removesuffix(LOCK))) or any(is_run(above) for above in Path(path).parents)
    }


def is_code(path: str) -> bool:
    """Whether a file's name is that of source which is executed, and not only of settings."""
    return _CODE.fullmatch(PurePosixPath(path).name) is not None


def is_source(path: str) -> bool:
    """Whether a file is source or settings by its name."""
    return is_code(path) or _SETTINGS.fullmatch(PurePosixPath(path).name) is not None


def _is_source(file: ProgramFile, limit: int) -> bool:
    """Whether a file of the working folder is source or settings by its name, and small enough."""
    known = is_source(file.path) and file.sha256 is not None and (file.size or 0) <= limit
    return known and not file.path.startswith("/") and inside(file.path)


def _kept(file: ProgramFile, path: Path, run: RunFolder) -> tuple[ProgramFile, int]:
    """The file with its copy, and the bytes that it takes; without one where it changed or cannot be read."""
    try:
        data = read_bounded(path, KEPT_BYTES, follow_symlinks=True)
    except (OSError, ProvenanceError):
        return file, 0
    if bytes_digest(data) != file.sha256:
        return file, 0
    return copied(run, run.input_copies, file.path, file.how, data)


def standard_input(is_key: Callable[[str], bool]) -> ProgramFile | None:
    """The file that standard input is read from; ``None`` where it is none, or a key. Looked at before the program
    reads it.
    """
    known = identity_of(Path("/proc/self/fd/0"))
    place = os.path.realpath("/proc/self/fd/0")
    if known is None or is_key(place):
        return None
    if read := os.lseek(0, 0, os.SEEK_CUR):
        return ProgramFile(printable(place), STANDARD_INPUT, known[0], None, reason=f"read from byte {read} on")
    return _file(Path("/"), "/proc/self/fd/0", STANDARD_INPUT, known[0], BYTES, place)


def _file(folder: Path, path: str, how: str, size: int, room: int, shown: str | None = None) -> ProgramFile:
    name = os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path
    name = printable(name if shown is None else shown)
    if size > room:
        return ProgramFile(name, how, size, None, reason="not digested: too much was read; declare it with --data")
    try:
        digest = file_digest(path)
    except (DigestError, StorageError) as error:
        return ProgramFile(name, how, size, None, reason=error.message.removeprefix(f"{path}: "))
    return ProgramFile(name, how, digest.size, digest.sha256)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
