"""A file that may be compressed, read forward only, in bounded memory whatever it holds.

``tarfile`` reads a pax header, a GNU long name or a sparse map whole, however long its length field says it is, and
Python's own readers of .xz files give a dictionary as much memory as the archive asks for. Here no header is longer
than ``_HEADER_BYTES``, no dictionary larger than ``_XZ_BYTES``, and nothing is decompressed ahead of what is read.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from ndrepro.protocol.errors import UsageError

# What one member of an archive may take for its headers (real ones take one to two kilobytes), and what all of them
# may take beyond that: older releases of tarfile need quadratic time for a header.
_HEADER_BYTES = 8 << 10
_USUAL_BYTES = 3 << 10
_FURTHER_BYTES = 512 << 10
_PIECE = 1 << 18
# `xz -9` asks for 65 MiB
_XZ_BYTES = 96 << 20
_OVERSIZED = "an archive that asks for this is damaged or made to harm: ask its sender for another"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, most: int, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of the two others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int, /) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        self.needs_input = not self._inner.unconsumed_tail and len(piece) < most
        return piece


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)


_MAGIC: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"\xfd7zXZ\0", _xz),
    (b"BZh", bz2.BZ2Decompressor),
)


class SequentialStream:
    """What ``tarfile`` needs of a file: ``read``, ``tell``, and ``seek`` forward.

    It expects a member's headers first, and raises UsageError where they exceed their bounds; ``expect_content`` lifts
    these, for what its reader takes in pieces, and ``expect_header`` sets them again.
    """

    def __init__(self, file: BinaryIO) -> None:
        magic = file.read(6)
        file.seek(0)
        self._file = file
        self._make = next((make for start, make in _MAGIC if magic.startswith(start)), None)
        self._inflater = self._make() if self._make else None
        self._buffer = b""
        self._place = 0
        self._further_left = _FURTHER_BYTES
        self._header_left: int | None = _HEADER_BYTES

    def expect_header(self) -> None:
        """The headers of the next member follow."""
        self._header_left = min(_HEADER_BYTES, _USUAL_BYTES + self._further_left)

    def expect_content(self) -> None:
        """The content of a member follows."""
        if self._header_left is not None:
            self._further_left -= max(0, _HEADER_BYTES - _USUAL_BYTES - self._header_left)
        self._header_left = None

    def tell(self) -> int:
        """How many bytes were read."""
        return self._place

    def seek(self, place: int) -> int:
        """Skip forward; an archive whose members lead backward is refused."""
        ahead = place - self._place
        if not 0 <= ahead <= _HEADER_BYTES:
            raise UsageError(f"the archive's next member is {ahead} bytes away from the end of the last", _OVERSIZED)
        self._take(ahead)
        return self._place

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        if self._header_left is not None:
            if not 0 <= size <= self._header_left:
                raise UsageError(f"a member of the archive has headers of over {_HEADER_BYTES} bytes", _OVERSIZED)
            self._header_left -= size
        return self._take(size)

    def _take(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := self._some(size)):
            pieces.append(piece)
            size -= len(piece)
            self._place += len(piece)
        return b"".join(pieces)

    def _some(self, most: int) -> bytes:
        """Between 1 and ``most`` bytes; none at the end. Raises EOFError where compressed data end too early."""
        if self._inflater is None:
            return self._file.read(min(most, _PIECE))
        while True:
            if self._inflater.eof and not self._next_stream():
                return b""
            data = self._compressed() if self._inflater.needs_input else b""
            piece = self._inflater.decompress(data, min(most, _PIECE))
            if piece:
                return piece
            if not data and not self._inflater.eof and self._inflater.needs_input:
                raise EOFError("its compressed data end too early")

    def _compressed(self) -> bytes:
        data, self._buffer = self._buffer or self._file.read(_PIECE), b""
        return data

    def _next_stream(self) -> bool:
        """Compressed files may hold several streams, one behind the other, and zeros after the last."""
        assert self._inflater is not None and self._make is not None
        rest = self._inflater.unused_data.lstrip(b"\0")
        while not rest:
            piece = self._file.read(_PIECE)
            if not piece:
                return False
            rest = piece.lstrip(b"\0")
        self._inflater, self._buffer = self._make(), rest
        return True
