"""Reads the rows of an Arrow stream that somebody else wrote: nothing is decompressed, unpickled or left unchecked.

A stream is a schema, then record batches. Compressed bodies and dictionaries are refused, since some kilobytes of them
stand for any number of gigabytes; ``datasets`` writes neither. Columns are validated in full before a value is read:
their offsets come from the file.

Source: Arrow columnar format, "Encapsulated message format" and ``Message.fbs``.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_AFRESH = "write it anew with save_to_disk"
# places of fields in the tables Message and RecordBatch
_HEADER, _COMPRESSION = 2, 3


def read_columns(path: Path, content: bytes, names: Sequence[str]) -> Iterator[tuple[pyarrow.Array, ...]]:
    """The columns ``names`` of each record batch of the stream ``content``, all of one length and valid.

    Raises DataError naming ``path`` for a stream that is damaged, compressed, or lacks a column.
    """
    import pyarrow

    try:
        yield from _batches(path, content, names)
    except (pyarrow.ArrowException, struct.error, IndexError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: no Arrow stream that can be read ({error})", _AFRESH) from None


def _batches(path: Path, content: bytes, names: Sequence[str]) -> Iterator[tuple[pyarrow.Array, ...]]:
    from pyarrow import ipc

    # this reader alone checks the schema's own offsets before it follows them
    schema = ipc.open_stream(content).schema
    if missing := [name for name in names if len(schema.get_all_field_indices(name)) != 1]:
        raise DataError(f"{path}: it has no column {missing[0]}", _AFRESH)
    for message in itertools.islice(ipc.MessageReader.open_stream(content), 1, None):
        if message.type != "record batch":
            raise DataError(f"{path}: a {message.type}, expected rows", "store plain columns, without dictionaries")
        if _is_compressed(message.metadata.to_pybytes()):
            raise DataError(f"{path}: compressed columns", _AFRESH)
        batch = ipc.read_record_batch(message, schema)
        columns = tuple(batch.column(name) for name in names)
        for column in columns:
            column.validate(full=True)
        yield columns


def _is_compressed(message: bytes) -> bool:
    """Whether the record batch in a Message names a compression of its buffers."""
    top = _number(message, "I", 0)
    place = _field(message, top, _HEADER)
    batch = place + _number(message, "I", place)
    return place == 0 or _field(message, batch, _COMPRESSION) != 0


def _field(buffer: bytes, table: int, index: int) -> int:
    """Where a table's field is in a flatbuffer; 0 for a field that is absent."""
    offsets = table - _number(buffer, "i", table)
    entry = 4 + 2 * index
    if entry >= _number(buffer, "H", offsets):
        return 0
    place = _number(buffer, "H", offsets + entry)
    return table + place if place else 0


def _number(buffer: bytes, kind: str, place: int) -> int:
    if place < 0:
        raise ValueError("an offset before its start")
    return int(struct.unpack_from(f"<{kind}", buffer, place)[0])
