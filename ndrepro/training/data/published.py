"""Published files: found, fetched, and checked against their distributor's digest before they are used.

The digests are md5, as torchvision knows them: they guard against damage, not against malice, and ``dataset.json``
records sha256 beside them. Everything is read once, and hashed as it is read: what was checked is what was decoded.
Whatever is wrong is a DataError that names the file and says what to do.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers.images import SourceFile, read_source

_CHUNK_BYTES = 1 << 20
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class PublishedFile:
    """A file as it is published: its name, the addresses that have it, its md5 ("" where none was published)."""

    name: str
    urls: tuple[str, ...]
    md5: str


def find(root: Path, name: str, folders: Collection[str] = ()) -> Path | None:
    """Where the file lies: ``root`` itself, in ``root``, or in one of ``folders`` below it; ``None``: nowhere."""
    if root.is_file():
        return root
    places = [root / name, *(root / folder / name for folder in folders)]
    return next((path for path in places if path.is_file()), None)


def download(dataset: str, root: Path, file: PublishedFile) -> Path:
    """Fetch the file into ``root`` by torchvision; returns its path. Raises DataError if no address has it."""
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
    raise DataError(
        f"{dataset}: {root} has no {file.name}, and it could not be downloaded ({'; '.join(reasons)})",
        f"put {file.name}, or images as train/CLASS/*.png (or .jpg) and test/CLASS/*, in a folder and name it "
        "with --data FOLDER (make run … DATA=FOLDER)",
    ) from None


def read(path: Path, name: str, md5: str) -> tuple[bytes, SourceFile]:
    """A whole file, named ``name`` in the record, with its md5 checked where one is published."""
    content, source = read_source(path, name)
    if md5:
        check(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), md5)
    return content, source


def check(path: Path, found: str, expected: str) -> None:
    """Raises DataError unless the digests are equal."""
    if found != expected:
        raise DataError(
            f"{path}: md5 {found}, the official file has {expected}: damaged, cut short, or another file",
            "remove it and let it be downloaded again, or copy it afresh",
        )


def read_tar(path: Path, file: PublishedFile, members: Collection[str]) -> tuple[dict[str, bytes], SourceFile]:
    """The named members of a .tar.gz, read in one pass that also hashes it: an archive may be larger than memory."""
    try:
        with path.open("rb") as stream:
            hashing = _Hashing(stream)
            contents, damage = _members(hashing, frozenset(members))
            while hashing.read(_CHUNK_BYTES):
                pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it again") from None
    if file.md5:
        check(path, hashing.md5.hexdigest(), file.md5)
    missing = sorted(set(members) - set(contents))
    if damage or missing:
        raise DataError(f"{path}: {damage or f'{missing[0]} is not in it'}", "copy or download it afresh")
    return contents, SourceFile(file.name, hashing.size, hashing.sha256.hexdigest())


def open_zip(path: Path, file: PublishedFile) -> tuple[zipfile.ZipFile, SourceFile]:
    """A .zip, held in memory, with its md5 checked."""
    content, source = read(path, file.name, file.md5)
    try:
        return zipfile.ZipFile(io.BytesIO(content)), source
    except _DAMAGE as error:
        raise DataError(f"{path}: damaged ({error})", "copy or download it afresh") from None


def _members(stream: _Hashing, wanted: frozenset[str]) -> tuple[dict[str, bytes], str]:
    """The members' bytes; and what was wrong, in words, which the digest may tell better."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|gz", bufsize=_CHUNK_BYTES) as tar:  # type: ignore[call-overload]
            for entry in tar:
                if entry.name in wanted and (file := tar.extractfile(entry)) is not None:
                    contents[entry.name] = file.read()
    except _DAMAGE as error:
        return contents, f"damaged ({error})"
    return contents, ""


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
