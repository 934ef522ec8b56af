"""Published files: found, fetched, and checked against their distributor's digest before they are used.

The digests of files are md5, as torchvision knows them: they guard against damage, not against malice, and
``dataset.json`` records sha256 beside them. A file that somebody compressed anew is another file with the same content,
so that digests of the content count as well, where they are known. Everything is read once, and hashed as it is read:
what was checked is what was decoded. Whatever is wrong is a DataError that names the file and says what to do.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ndrepro.protocol.errors import DataError, NotDownloaded
from ndrepro.training.data.readers.images import SourceFile, damaged, read_source

BY_FILE = "md5 of the published files, from torchvision"
BY_CONTENT = "digests of the uncompressed content"
_CHUNK_BYTES = 1 << 20
# of a member that is unpacked before its digest is known, and of all; the largest published one, of STL-10, has 221 MB
_MEMBER_BYTES, _MEMBERS_BYTES = 256 << 20, 512 << 20
# tarfile holds a header that gives a name or attributes in memory; those of published files have some hundred bytes
_HEADER_BYTES = 1 << 16
_LONG_HEADERS = (b"x", b"g", b"X", b"L", b"K")
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class PublishedFile:
    """A file as it is published: its name, the addresses that have it, its md5 ("" where none was published).

    ``content`` is the digest ("sha256:…") of what a compressed file holds, "" where it is not known.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    content: str = ""


def find(root: Path, name: str, folders: Collection[str] = ()) -> Path | None:
    """Where the file lies: ``root`` itself, in ``root``, or in one of ``folders`` below it; ``None``: nowhere."""
    if root.is_file():
        return root
    places = [root / name, *(root / folder / name for folder in folders)]
    return next((path for path in places if path.is_file()), None)


def download(dataset: str, root: Path, file: PublishedFile) -> Path:
    """Fetch the file into ``root`` by torchvision; returns its path. Raises NotDownloaded if no address has it."""
    from torchvision.datasets.utils import download_url

    reasons = []
    for url in file.urls:
        try:
            root.mkdir(parents=True, exist_ok=True)
            download_url(url, str(root), file.name, file.md5 or None)
            return root / file.name
        except (OSError, RuntimeError) as error:
            (root / file.name).unlink(missing_ok=True)
            reasons.append(str(error))
    raise NotDownloaded(
        f"{dataset}: {root} has no {file.name}, and it could not be downloaded ({'; '.join(reasons)})",
        f"put {file.name}, or images as train/CLASS/*.png (or .jpg) and test/CLASS/*, in a folder and name it "
        "with --data FOLDER (make run … DATA=FOLDER)",
    ) from None


def read(path: Path, name: str, digest: str) -> tuple[bytes, SourceFile]:
    """A whole file, named ``name`` in the record, with its digest ("md5:…") checked where one is published."""
    content, source = read_source(path, name)
    check(path, content, digest)
    return content, source


def check(path: Path, content: bytes, digest: str) -> None:
    """Raises DataError unless ``content`` has the digest ("md5:…"), where there is one."""
    if digest and not is_official(content, digest):
        raise not_official(path, content, digest)


def is_official(content: bytes, digest: str) -> bool:
    """Whether ``content`` has the digest, "md5:…", "sha1:…" or "sha256:…"; "" is the digest of nothing."""
    return bool(digest) and _digest(content, digest.partition(":")[0]) == digest


def not_official(path: Path, content: bytes, digest: str) -> DataError:
    """The error for a file that has another digest than the official one."""
    algorithm, _, expected = digest.partition(":")
    return _another(path, algorithm, _digest(content, algorithm).partition(":")[2], expected)


def _digest(content: bytes, algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"


def _another(path: Path, algorithm: str, found: str, expected: str) -> DataError:
    return DataError(
        f"{path}: {algorithm} {found}, the official file has {expected}: damaged, truncated, or another file",
        "remove it and let it be downloaded again, or copy it afresh",
    )


@dataclass(frozen=True)
class Archive:
    """What was read of an archive: the members' bytes, the archive as a file, the digests that say it is official."""

    contents: dict[str, bytes]
    source: SourceFile
    official_by: str


def read_tar(path: Path, file: PublishedFile, members: Mapping[str, str]) -> Archive:
    """The members named by ``members`` with their digests ("md5:…", "" where not known) of a tar, however compressed.

    It is read in one pass that also hashes it: an archive may be larger than memory, and a member that says that it
    has more than 256 MiB is not unpacked. Raises DataError where neither the archive nor what is in it is official.
    """
    try:
        with path.open("rb") as stream:
            hashing = _Hashing(stream)
            contents, damage = _members(hashing, frozenset(members))
            while hashing.read(_CHUNK_BYTES):
                pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it again") from None
    missing = sorted(set(members) - set(contents))
    by_file = hashing.md5.hexdigest() == file.md5
    known = {} if damage or missing else {name: digest for name, digest in members.items() if digest}
    by_content = bool(known) and all(is_official(contents[name], digest) for name, digest in known.items())
    if file.md5 and not by_file and not by_content:
        raise _another(path, "md5", hashing.md5.hexdigest(), file.md5)
    if damage or missing:
        raise damaged(path, damage or f"{missing[0]} is not in it")
    for name, digest in () if by_file else known.items():
        check(path / name, contents[name], digest)
    source = SourceFile(file.name if by_file else path.name, hashing.size, hashing.sha256.hexdigest())
    return Archive(contents, source, BY_FILE if by_file else BY_CONTENT)


@dataclass(frozen=True)
class OfficialFiles:
    """What the official files of a data set hold, by name; where they are, and by what they are official."""

    where: Path
    contents: dict[str, bytes]
    sources: tuple[SourceFile, ...]
    reader: str
    official_by: str

    def unpacked(self, folder: str) -> tuple[SourceFile, ...]:
        """Each of them with its digest, under its path in the unpacked ``folder``."""
        return tuple(SourceFile.of(f"{folder}/{name}", content) for name, content in self.contents.items())


def from_archive(path: Path, file: PublishedFile, folder: str, digests: Mapping[str, str]) -> OfficialFiles:
    """The files of ``folder`` in a tar archive, each with "md5:...", "sha1:..." or "". Raises DataError."""
    archive = read_tar(path, file, {f"{folder}/{name}": digest for name, digest in digests.items()})
    contents = {name: archive.contents[f"{folder}/{name}"] for name in digests}
    return OfficialFiles(path, contents, (archive.source,), f"{archive.source.name}, official", archive.official_by)


def from_folder(root: Path, folder: str, digests: Mapping[str, str], by: str = BY_FILE) -> OfficialFiles:
    """The same files, unpacked below ``root``. Raises DataError."""
    found = {name: read(root / folder / name, f"{folder}/{name}", digest) for name, digest in digests.items()}
    contents = {name: content for name, (content, _) in found.items()}
    sources = tuple(source for _, source in found.values())
    return OfficialFiles(root / folder, contents, sources, f"{folder}, official", by)


def open_zip(path: Path, file: PublishedFile) -> tuple[zipfile.ZipFile, SourceFile]:
    """A .zip, held in memory, with its md5 checked."""
    content, source = read(path, file.name, file.md5 and f"md5:{file.md5}")
    try:
        return zipfile.ZipFile(io.BytesIO(content)), source
    except _DAMAGE as error:
        raise damaged(path, f"damaged ({error})") from None


def _members(stream: _Hashing, wanted: frozenset[str]) -> tuple[dict[str, bytes], str]:
    """The members' bytes; and what was wrong, in words, which the digest may tell better."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=stream, mode="r|*", bufsize=_CHUNK_BYTES, tarinfo=_BoundedHeader
        ) as tar:
            room = _MEMBERS_BYTES
            for entry in tar:
                if entry.name not in wanted:
                    continue
                room -= entry.size
                if entry.size > _MEMBER_BYTES or room < 0:
                    return contents, f"{entry.name} has {entry.size} bytes, more than any published file"
                if (file := tar.extractfile(entry)) is not None:
                    contents[entry.name] = file.read()
    except _DAMAGE as error:
        return contents, f"damaged ({error})"
    return contents, ""


class _BoundedHeader(tarfile.TarInfo):
    """A member's header, refused where it is one of those that tarfile reads whole, and longer than any real one."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _LONG_HEADERS and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


class _Hashing:
    """A file that hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self.size += len(data)
        self.md5.update(data)
        self.sha256.update(data)
        return data
