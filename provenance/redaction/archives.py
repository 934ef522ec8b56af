"""Opens archives and compressed files, so that what is in them can be searched for secrets."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_COMPRESSED: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lambda file: _xz(file)),
)
# `xz -9` asks for 65 MiB; Python's own reader gives a dictionary what the file asks for, up to 4 GiB
_XZ_BYTES = 96 << 20
_MOST_UNPACKED = 1 << 26


def _xz(file: IO[bytes]) -> IO[bytes]:
    data, left = file.read(), _MOST_UNPACKED
    pieces: list[bytes] = []
    while data and left:
        inner = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)
        pieces.append(inner.decompress(data, left))
        left -= len(pieces[-1])
        if left and not inner.eof:
            raise EOFError("it ends early")
        data = inner.unused_data.lstrip(b"\0")
    return io.BytesIO(b"".join(pieces))


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file in an archive, or of the one that is compressed. Raises one of DAMAGED."""
    file = io.BytesIO(data)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, archive.open(entry)
    elif opener := next((opener for magic, opener in _COMPRESSED if data.startswith(magic)), None):
        yield name.rpartition(".")[0] or name, opener(file)
    else:
        with tarfile.open(fileobj=file, mode="r:") as packed:
            for member in packed:
                content = packed.extractfile(member)
                if content is not None:
                    yield member.name, content
