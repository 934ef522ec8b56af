"""Unpacks an archive or copies a folder, within bounds: regular files only, in one folder, each of them once.

What an archive claims of itself (sizes, numbers, names) is believed nowhere: headers are read through
``SequentialStream``, a zip's directory and each member's content have bounds, and a name may neither lead out nor be
another one's on a file system that ignores case. Every refusal says what and why; nothing is repaired.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from ndrepro.execution.imports.sequential_stream import SequentialStream
from ndrepro.protocol.errors import UsageError
from provenance.errors import ProvenanceError, StorageError
from provenance.formats.bounded_read import open_regular

_PIECE = 1 << 18
# a hundredfold is far beyond what manifests and logs shrink to; below a gibibyte nobody is harmed
_MOST_TIMES, _LEAST_BYTES = 100, 1 << 30
_MOST_FILES = 100_000
_MOST_DEPTH, _NAME_BYTES, _PATH_BYTES = 64, 255, 1024
# a zip's directory is read whole: this much holds 180,000 entries of the least size
_ZIP_DIRECTORY_BYTES = 8 << 20
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER_BYTES = 30
# zeros behind a tar archive's end: its writers fill a record, tapes a larger one
_TAIL_BYTES = 1 << 20
_UNTRUSTED = "an archive like this is damaged or made to harm: ask its sender for another"
_PARTS = "import the runs in parts"


def unpack(source: Path, folder: Path) -> None:
    """Copy a folder's files, or unpack an archive (tar, tar.gz, tar.xz, tar.bz2, zip), into ``folder``, which is made.

    Raises UsageError for what is neither, and for what an archive of runs never holds: links, devices, names that lead
    out or are there twice, more or larger members than the bounds allow. StorageError for a damaged archive.
    """
    if source.is_dir():
        target = UnpackedFolder(folder, None)
        for path, name in _files_below(source):
            # what was listed may have been exchanged since: no link is followed, at its end or on the way
            with open(open_regular(path, beneath=source), "rb") as stream:
                target.write(stream, name)
        return
    with _regular(source) as file:
        target = UnpackedFolder(folder, max(_LEAST_BYTES, _MOST_TIMES * os.fstat(file.fileno()).st_size))
        try:
            (_unpack_zip if _is_zip(file) else _unpack_tar)(file, target)
        except (ProvenanceError, OSError):
            raise
        except Exception as error:  # the standard library's readers raise a dozen kinds for damaged files
            raise StorageError(f"{source}: cannot be read ({error})", "is the archive whole?") from None


@dataclass
class UnpackedFolder:
    """The folder that files are written into, and nowhere else; their number, size and names have bounds."""

    root: Path
    bytes_left: int | None
    files_left: int = field(default_factory=lambda: _MOST_FILES)
    # hashes of paths as a file system that ignores case holds them, with those of their spelling
    _spelled: dict[int, int] = field(default_factory=dict)

    def count(self) -> None:
        """One more member of the archive. Raises UsageError beyond the bound."""
        self.files_left -= 1
        if self.files_left < 0:
            raise UsageError(f"more than {_MOST_FILES} files", _PARTS)

    def write(self, stream: IO[bytes], name: str) -> None:
        """One file. Raises UsageError for a name that leads out or is there already, and beyond the size."""
        self.count()
        path = _inside(name)
        self._expect_one_spelling(path)
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                while piece := stream.read(_PIECE):
                    self._expect_room(name, len(piece))
                    out.write(piece)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UsageError(f"{name!r} is in the archive twice", "an archive holds each file once") from None

    def expect_room(self, size: int) -> None:
        """Raises UsageError where members that are ``size`` bytes together do not fit."""
        if self.bytes_left is not None and size > self.bytes_left:
            raise self._too_large("the archive")

    def _expect_room(self, name: str, size: int) -> None:
        if self.bytes_left is not None:
            self.bytes_left -= size
            if self.bytes_left < 0:
                raise self._too_large(f"{name!r}: the archive")

    @staticmethod
    def _too_large(what: str) -> UsageError:
        cure = "unpack it where there is space, if its sender is known, and import the folder"
        return UsageError(f"{what} unpacks to over {_MOST_TIMES} times its size", cure)

    def _expect_one_spelling(self, path: PurePosixPath) -> None:
        for place in (str(path), *map(str, path.parents[:-1])):
            folded = unicodedata.normalize("NFC", place).casefold()
            if self._spelled.setdefault(hash(folded), hash(place)) != hash(place):
                raise UsageError(
                    f"{place!r} is in the archive in another spelling too", "give one of them another name"
                )


def _inside(name: str) -> PurePosixPath:
    """The relative path of a member. Raises UsageError for one that leads out, or that no run folder holds."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise UsageError(f"{name[:_NAME_BYTES]!r} leads out of the archive", _UNTRUSTED)
    try:
        lengths = [len(part.encode()) for part in path.parts]
    except UnicodeEncodeError:
        raise UsageError(f"{name[:_NAME_BYTES]!r} is not UTF-8", "a run folder's names are") from None
    if len(lengths) > _MOST_DEPTH or max(lengths) > _NAME_BYTES or sum(lengths) > _PATH_BYTES:
        bounds = f"{_MOST_DEPTH} folders, {_NAME_BYTES} bytes a name and {_PATH_BYTES} in all"
        raise UsageError(f"{name[:_NAME_BYTES]!r} is longer or deeper than {bounds}", _UNTRUSTED)
    return path


def _regular(path: Path) -> BinaryIO:
    """Open a regular file without following links or waiting for a pipe. Raises UsageError for anything else."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{path}: neither a folder nor a regular file", "name an archive or a folder")
    return open(path, "rb", opener=lambda *_: descriptor)


def _files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, with its relative name. Raises UsageError for links and devices, and below a depth."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            path = Path(entry.path)
            name = path.relative_to(folder).as_posix()
            if entry.is_symlink() and _of_scheduler(name):
                continue
            if entry.is_symlink():
                raise UsageError(f"{name}: a symbolic link", "put the file itself there")
            if entry.is_dir(follow_symlinks=False):
                _inside(name)
                waiting.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise UsageError(f"{name}: a pipe or a device", "a folder of runs holds regular files only")
            else:
                yield path, name


def _of_scheduler(name: str) -> bool:
    """Whether a link is one that a study under Slurm left beside its runs: it is passed over, for no run needs it."""
    return ".slurm" in PurePosixPath(name).parts


def _is_zip(file: BinaryIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start in (b"PK\x03\x04", b"PK\x05\x06")


def _unpack_tar(file: BinaryIO, target: UnpackedFolder) -> None:
    stream = SequentialStream(file)
    try:
        archive = tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload] # noqa: SIM115
    except tarfile.ReadError:
        what = "a folder, tar, tar.gz, tar.xz, tar.bz2 and zip are read"
        raise UsageError(f"{file.name}: neither a folder nor an archive", what) from None
    while (member := archive.next()) is not None:
        archive.members.clear()  # else it keeps every header of the archive
        stream.expect_content()
        if member.isdir() or (member.issym() and _of_scheduler(member.name)):
            target.count()
            _inside(member.name)
        elif not member.isreg() or member.issparse():
            raise UsageError(f"{member.name} is a link, a device or a sparse file", "an archive holds plain files only")
        else:
            content = archive.extractfile(member)
            assert content is not None
            target.write(content, member.name)
        stream.expect_header()
    stream.expect_content()
    _expect_end(stream)


def _expect_end(stream: SequentialStream) -> None:
    """Raises UsageError where something is behind the archive's end, which other readers might take for files."""
    tail = 0
    while piece := stream.read(_PIECE):
        tail += len(piece)
        if piece.strip(b"\0") or tail > _TAIL_BYTES:
            raise UsageError("the archive has a damaged header, or something is behind its end", _UNTRUSTED)


class _Bounded(io.BufferedReader):
    """A file of which nobody reads more than a zip's directory at once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(io.FileIO(os.dup(file.fileno())))

    def read(self, size: int | None = -1, /) -> bytes:
        rest = os.fstat(self.fileno()).st_size - self.tell()
        if rest > _ZIP_DIRECTORY_BYTES and (size is None or not 0 <= size <= _ZIP_DIRECTORY_BYTES):
            raise UsageError(f"the archive's directory is larger than {_ZIP_DIRECTORY_BYTES} bytes", _PARTS)
        return super().read(size)


def _unpack_zip(file: BinaryIO, target: UnpackedFolder) -> None:
    with _Bounded(file) as bounded, zipfile.ZipFile(bounded) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        _check_zip(entries, target)
        for entry in entries:
            if entry.is_dir():
                target.count()
                _inside(entry.filename)
            else:
                with archive.open(entry) as content:
                    target.write(content, entry.filename)


def _check_zip(entries: list[zipfile.ZipInfo], target: UnpackedFolder) -> None:
    """Raises UsageError or StorageError for entries that share bytes, are no plain files, or do not fit."""
    for before, after in pairwise(entries):
        if before.header_offset + _LOCAL_HEADER_BYTES + before.compress_size > after.header_offset:
            raise UsageError(f"{after.orig_filename[:_NAME_BYTES]!r} shares bytes with another member", _UNTRUSTED)
    for entry in entries:
        name = entry.orig_filename
        _inside(name)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UsageError(f"{name} is a link or a device", "an archive holds files only")
        if entry.flag_bits & 1 or entry.compress_type not in _ZIP_METHODS:
            why = "is encrypted" if entry.flag_bits & 1 else f"has compression {entry.compress_type}"
            raise StorageError(f"{name}: cannot be read: it {why}", "pack it again, stored or deflated")
    target.expect_room(sum(entry.file_size for entry in entries))
