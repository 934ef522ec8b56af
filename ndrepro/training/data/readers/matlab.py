"""MATLAB 5 files (.mat), as much of them as data sets need: arrays of numbers, text, structures and cells.

Written from MathWorks, "MAT-File Format", because no environment of the version matrix has scipy. A file is a header
of 128 bytes and then elements: a tag (type, bytes) and data padded to 8 bytes; a compressed element holds another. A
matrix is an element of elements: flags, dimensions, name, contents. Nothing in a file is run. Whatever is not
understood (sparse or complex matrices, objects, functions, MATLAB 7.3) is refused by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ndrepro.protocol.errors import DataError

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
# types of elements that hold numbers or characters, as numpy names them
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
# classes of matrices
_CELL, _STRUCT, _CHAR = 1, 2, 4
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


def read_mat(path: Path, content: bytes) -> dict[str, Any]:
    """Every variable in the file by name; ``path`` is for messages.

    Numbers are arrays in MATLAB's own shape; text is str, or a list of str where it has several rows; an array of
    structures is a list of dictionaries, a cell array a list, both in MATLAB's order (first index fastest).
    Raises DataError for a damaged file or something in it that is not read.
    """
    try:
        order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(content[124:128])
        if order is None:
            raise ValueError("no MATLAB 5 file")
        reader = _Reader(order)
        return dict(reader.variables(memoryview(content)[_HEADER_BYTES:]))
    except (ValueError, KeyError, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error})", "copy or download it afresh") from None


class _Reader:
    """Reads elements in one byte order, "<" or ">"."""

    def __init__(self, order: str) -> None:
        self._order = order

    def variables(self, data: memoryview) -> Iterator[tuple[str, Any]]:
        for kind, element in self._elements(data, padded=False):
            if kind == _COMPRESSED:
                yield from self.variables(memoryview(zlib.decompress(element)))
            elif kind == _MATRIX:
                yield self._matrix(element)

    def _elements(self, data: memoryview, *, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
        """Type and data of each element; at the top of a file a compressed one is not padded."""
        while len(data):
            first, count = (int(value) for value in np.frombuffer(data[:8], f"{self._order}u4"))
            if first >> 16:  # the small form: four bytes of data in the tag itself
                yield first & 0xFFFF, data[4 : 4 + (first >> 16)]
                data = data[8:]
                continue
            if len(data) < 8 + count:
                raise ValueError("cut short")
            yield first, data[8 : 8 + count]
            unpadded = first == _COMPRESSED and not padded
            data = data[8 + count + (0 if unpadded else -count % 8) :]

    def _numbers(self, kind: int, data: memoryview) -> np.ndarray:
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of type {kind}")
        return np.frombuffer(data, self._order + _NUMBERS[kind])

    def _matrix(self, data: memoryview) -> tuple[str, Any]:
        """Name and value."""
        if not len(data):
            return "", np.zeros((0, 0))
        elements = self._elements(data)
        flags = int(self._numbers(*_take(elements))[0])
        shape = tuple(int(extent) for extent in self._numbers(*_take(elements)))
        name = bytes(_take(elements)[1]).decode("latin-1")
        kind = flags & 0xFF
        if kind == _STRUCT:
            return name, self._structures(elements)
        if kind == _CELL:
            return name, [self._matrix(element)[1] for _, element in elements]
        if kind == _CHAR:
            return name, self._text(shape, *next(elements, (4, memoryview(b""))))
        if kind not in _CLASSES or flags & _COMPLEX:
            raise ValueError(f"'{name}' is a complex matrix" if flags & _COMPLEX else f"'{name}' is of class {kind}")
        numbers = self._numbers(*_take(elements))
        return name, numbers.astype(_CLASSES[kind], copy=False).reshape(shape, order="F")

    def _structures(self, elements: Iterator[tuple[int, memoryview]]) -> list[dict[str, Any]]:
        length = int(self._numbers(*_take(elements))[0])
        packed = bytes(_take(elements)[1])
        fields = [packed[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(packed), length)]
        values = [self._matrix(element)[1] for _, element in elements]
        return [dict(zip(fields, values[at:], strict=False)) for at in range(0, len(values), len(fields) or 1)]

    def _text(self, shape: tuple[int, ...], kind: int, data: memoryview) -> str | list[str]:
        encoding = _TEXT[kind]
        if encoding.startswith("utf-") and encoding != "utf-8":
            encoding += "-le" if self._order == "<" else "-be"
        characters = np.array(list(bytes(data).decode(encoding)), dtype="U1").reshape(shape, order="F")
        rows = ["".join(row) for row in characters.reshape(shape[0], characters.size // max(shape[0], 1))]
        return "".join(rows) if len(rows) < 2 else rows


def _take(elements: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    for element in elements:
        return element
    raise ValueError("cut short")
