"""What an archive or a crate holds: members in order, each from a signed file, another file or bytes, and its writers.

A file that is copied from a run is hashed while it is copied, so that an archive holds what was signed or is not made.
The same members give the same bytes: names sorted, one time, one mode, no user.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from ndrepro.exports.run_facts import NotExported
from ndrepro.protocol.errors import UsageError
from provenance.attestation.run_files import inside
from provenance.formats.atomic_io import storage_error
from provenance.formats.bounded_read import open_regular
from provenance.formats.folder_tree import remove_tree

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_PIECE = 1 << 20
# a zip has no earlier time, and no later one
_EPOCH, _LAST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Member:
    """One file: its path in the archive, where its bytes come from, and the digest that they must have.

    Raises NotExported for a path that leads out of the archive.
    """

    path: str
    content: Path | bytes
    sha256: str | None = None

    def __post_init__(self) -> None:
        """What is in a path may be a stranger's."""
        if not inside(self.path):
            raise NotExported(f"{self.path}: leads out of the folder that is written", "export the other runs")

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, int]]:
        """The bytes and their number. Raises NotExported where they are not those of the digest."""
        if isinstance(self.content, bytes):
            yield io.BytesIO(self.content), len(self.content)
            return
        with open(open_regular(self.content), "rb") as stream:
            hashing = _Hashing(stream)
            yield cast(BinaryIO, hashing), os.fstat(stream.fileno()).st_size
            if self.sha256 is not None and hashing.digest() != self.sha256:
                raise NotExported(f"{self.content}: changed while it was exported", "export it again")


class _Hashing(io.RawIOBase):
    """A stream that hashes what is read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._hash = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def readable(self) -> bool:
        return True

    def digest(self) -> str:
        return self._hash.hexdigest()


def write_folder(members: Iterable[Member], folder: Path) -> None:
    """Write members into ``folder``, which is new. Raises UsageError where it exists, StorageError, NotExported."""
    if os.path.lexists(folder):
        raise UsageError(f"{folder}: exists already", "name a new folder: -o DIR")
    try:
        for member in members:
            path = folder / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as (stream, _), open(path, "xb") as out:
                shutil.copyfileobj(stream, out, _PIECE)
    except BaseException as error:
        remove_tree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise storage_error(folder, error) from error
        raise


def write_archive(members: Iterable[Member], file: Path, top: str, moment: datetime) -> None:
    """Write members into ``file`` below the folder ``top``, all with the time ``moment``; by its suffix a tar or zip.

    The same members give the same bytes, for a compressed archive with the same zlib. The file appears whole or not at
    all. Raises UsageError for another suffix, StorageError, NotExported.
    """
    if not file.name.endswith(SUFFIXES):
        raise UsageError(f"{file}: expected a name that ends in {', '.join(SUFFIXES)}", "-o runs.zip")
    if os.path.lexists(file):
        raise UsageError(f"{file}: exists already", "name a new file: -o FILE")
    writer = _write_zip if file.name.endswith(".zip") else _write_tar
    partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with open(partial, "xb") as out:
            writer(
                sorted(members, key=lambda member: member.path), out, file.name, top, min(max(moment, _EPOCH), _LAST)
            )
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, file)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(file, error) from error
        raise


def _write_tar(members: list[Member], out: BinaryIO, name: str, top: str, moment: datetime) -> None:
    if not name.endswith(".tar"):
        with gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
            _write_tar(members, cast(BinaryIO, packed), ".tar", top, moment)
        return
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            with member.open() as (content, size):
                info = tarfile.TarInfo(f"{top}/{member.path}")
                info.size, info.mtime, info.mode = size, int(moment.timestamp()), 0o644
                archive.addfile(info, content)


def _write_zip(members: list[Member], out: BinaryIO, name: str, top: str, moment: datetime) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            info = zipfile.ZipInfo(f"{top}/{member.path}", moment.timetuple()[:6])
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            with member.open() as (content, size):
                info.file_size = size
                with archive.open(info, "w") as place:
                    shutil.copyfileobj(content, place, _PIECE)
