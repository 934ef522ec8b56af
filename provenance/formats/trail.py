"""The numerical trail: after every step, the loss's bits and a 64-bit hash of every tensor of the state.

Where two honest runs differ, their trails name the first step and the first tensors. Equal trails prove nothing
against an author who may choose the bits: the hash is linear, and other weights with the same hash are found within
seconds (``provenance.formats.fingerprint``). That is what the SHA-256 of the complete states is for
(``provenance.formats.state_digest``). Written by the training process, read anywhere with numpy alone.

File: 8 bytes magic, a little-endian uint32 length, that many bytes of JSON header padded with spaces so that records
begin at a multiple of 64 bytes, then records of little-endian uint64: step, bits of the loss as float64, one hash per
tensor (``provenance.formats.fingerprint``). The first record is the state before the first step taken here (step 0,
unless the trail follows a piece of a run), with loss bits 0; every other one the state after its step. A header with
``every`` announces that only steps which are multiples of it are recorded, behind the first. A file cut inside a
record (a kill, a full disk) is read up to its last whole record, and says so.
"""

from __future__ import annotations

import os
import struct
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provenance.errors import CanonicalError, TrailError
from provenance.formats.bounded_read import open_regular
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Field
from provenance.formats.trail_header import MAGIC, SCHEMA, TensorName, encode_header, float_bits, float_of

if typing.TYPE_CHECKING:
    import numpy
    import numpy.typing

    Records = numpy.typing.NDArray[numpy.uint64]

__all__ = [
    "MAGIC",
    "SCHEMA",
    "Comparison",
    "Divergence",
    "TensorName",
    "Trail",
    "TrailWriter",
    "compare",
    "encode_header",
    "float_bits",
    "float_of",
    "shared_records",
]
_COLUMNS_BEFORE_TENSORS = 2
# a name of a hundred bytes for each of 100,000 tensors
_HEADER_BYTES = 1 << 24


class TrailWriter:
    """Appends records; each reaches the file whole, so that a reader sees every step that was taken.

    With ``keep`` an existing trail is cut to its first ``keep`` records and continued: a resumed run takes up its
    trail at the checkpoint's step. Raises TrailError if there are fewer records or the tensors are others.
    """

    def __init__(self, path: Path, tensors: Sequence[TensorName], keep: int = 0) -> None:
        self._width = _COLUMNS_BEFORE_TENSORS + len(tensors)
        header = encode_header(tensors)
        if keep:
            existing = Trail(path)
            if existing.tensors != tuple(tensors):
                raise TrailError(f"{path}: its tensors are not this network's", "resume with the same experiment")
            if len(existing) < keep:
                raise TrailError(f"{path}: {len(existing)} records, {keep} needed", "resume from an earlier step")
            self._stream: typing.BinaryIO = self._open(path)
            self._stream.truncate(len(header) + keep * self._width * 8)
        else:
            self._stream = self._open(path)
            self._stream.truncate(0)
            self._stream.write(header)
        self._stream.flush()

    @staticmethod
    def _open(path: Path) -> typing.BinaryIO:
        try:
            return open(open_regular(path, appending=True), "r+b")
        except OSError as error:
            raise TrailError(f"{path}: cannot be written ({error.strerror})") from None

    def append(self, records: Records) -> None:
        """Append records, uint64 of shape (n, 2 + tensors): step, loss bits, hashes."""
        if records.ndim != 2 or records.shape[1] != self._width:
            raise TrailError(f"records of shape {records.shape}, expected (n, {self._width})")
        self._stream.write(records.astype("<u8", copy=False).tobytes())
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> TrailWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Close the file, whatever happened."""
        self.close()


class Trail:
    """A trail as it is on disk. Records are mapped, not loaded.

    Raises TrailError naming the file where it is missing, is no trail, or is of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors, self.every, self._offset = _read_header(path)
        self._width = _COLUMNS_BEFORE_TENSORS + len(self.tensors)
        body = os.lstat(path).st_size - self._offset
        self._count, self.torn_bytes = divmod(max(body, 0), self._width * 8)

    def __len__(self) -> int:
        """Whole records, the one before the first step included."""
        return self._count

    @property
    def records(self) -> Records:
        """All whole records, uint64 (n, 2 + tensors), read-only."""
        import numpy as np

        if not self._count:
            return np.empty((0, self._width), dtype=np.uint64)
        shape = (self._count, self._width)
        with open(self._opened(), "rb") as stream:
            return np.memmap(stream, dtype="<u8", mode="r", offset=self._offset, shape=shape)

    def losses(self) -> list[tuple[int, float]]:
        """Step and loss of every whole record, the one before the first step left out: no loss was computed then."""
        import numpy as np

        if not self._count:
            return []
        records = self.records[:, :2]
        values = np.ascontiguousarray(records[:, 1]).view(np.float64)
        pairs = zip(records[:, 0].tolist(), values.tolist(), strict=True)
        return [(step, loss) for step, loss in pairs if step > 0]

    def last(self) -> tuple[int, float] | None:
        """Step and loss of the last whole record; ``None`` in an empty trail. Reads 16 bytes, needs no numpy."""
        if not self._count:
            return None
        with open(self._opened(), "rb") as stream:
            stream.seek(self._offset + (self._count - 1) * self._width * 8)
            record = stream.read(16)
        if len(record) < 16:
            raise TrailError(f"{self.path}: it was cut while it was read")
        step, bits = struct.unpack("<QQ", record)
        return step, float_of(bits)

    def size_through(self, step: int) -> int:
        """Bytes of the file up to and with the record of ``step``. Raises TrailError where it is not there."""
        count = step // self.every - self.start // self.every + 1
        if not 0 < count <= self._count:
            raise TrailError(f"{self.path}: it has no record of step {step}")
        return self._offset + count * self._width * 8

    def _opened(self) -> int:
        try:
            return open_regular(self.path)
        except OSError as error:
            raise TrailError(f"{self.path}: cannot be read ({error.strerror})") from None

    @property
    def start(self) -> int:
        """The step of the first record: 0 but in the trail of a piece of a run; 0 in an empty trail."""
        return int(self.records[0, 0]) if self._count else 0

    def problems(self) -> list[str]:
        """What is wrong with it, in words; empty for a whole trail whose steps count up by ``every``."""
        import numpy as np

        found = []
        if self.torn_bytes:
            found.append(f"{self.torn_bytes} bytes after record {self._count - 1} are no whole record")
        if not self._count:
            found.append("it has no record")
        steps = np.asarray(self.records[:, 0])
        every = np.uint64(self.every)
        wrong = np.flatnonzero(steps[1:] != (steps[:-1] // every + np.uint64(1)) * every) + 1
        if wrong.size:
            found.append(f"record {int(wrong[0])} says step {int(steps[wrong[0]])}")
        return found


def _read_header(path: Path) -> tuple[tuple[TensorName, ...], int, int]:
    try:
        with open(open_regular(path), "rb") as stream:
            start = stream.read(len(MAGIC) + 4)
            if len(start) < len(MAGIC) + 4 or not start.startswith(MAGIC):
                raise TrailError(f"{path}: not a numerical trail")
            (length,) = struct.unpack("<I", start[len(MAGIC) :])
            if length > _HEADER_BYTES:
                raise TrailError(f"{path}: a header of {length} bytes, expected at most {_HEADER_BYTES}")
            text = stream.read(length)
    except OSError as error:
        raise TrailError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        document = parse(text)
    except CanonicalError as error:
        raise TrailError(f"{path}: its header is damaged ({error.message})") from None
    header = Field(document, f"{path}: header", TrailError)
    schema = header.member("schema").value
    if schema != SCHEMA:
        raise TrailError(f"{path}: schema {str(schema)[:80]!r}, expected {SCHEMA!r}")
    every = header.member("every").integer(1) if "every" in header.mapping() else 1
    tensors = tuple(map(_tensor_name, header.member("tensors").items()))
    if encode_header(tensors, every) != start + text:
        raise TrailError(f"{path}: its header is not as one is written", "get the original file")
    return tensors, every, len(start) + length


def _tensor_name(field: Field) -> TensorName:
    shape = tuple(side.integer(0) for side in field.member("shape").items())
    return TensorName(field.member("name").string(), shape, field.member("dtype").string())


@dataclass(frozen=True)
class Divergence:
    """Where two trails part: the first step, whether the loss differs there, and every tensor that does, in order."""

    step: int
    loss_differs: bool
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two trails side by side: ``divergence`` is ``None`` where all ``compared`` records are equal bit for bit.

    ``lengths`` and ``starts`` are each trail's number of records and its first step.
    """

    compared: int
    lengths: tuple[int, int]
    divergence: Divergence | None
    starts: tuple[int, int] = (0, 0)

    @property
    def identical(self) -> bool:
        """Equal, and equally long."""
        return self.divergence is None and self.lengths[0] == self.lengths[1] and self.starts[0] == self.starts[1]


def shared_records(first: Trail, second: Trail) -> tuple[Records, Records]:
    """The records of the steps that both trails have, side by side: two mapped arrays of one length.

    The trail of a piece of a run begins at that piece's first step. Its first record is a state and has no loss, so
    the loss of the first shared record says nothing where the two begin at different steps.
    """
    a, b = first.records, second.records
    if first.every != 1 or second.every != 1:
        import numpy as np

        _, places, others = np.intersect1d(a[:, 0], b[:, 0], return_indices=True)
        return a[places], b[others]
    if len(a) and len(b):
        start = max(int(a[0, 0]), int(b[0, 0]))
        a, b = a[start - int(a[0, 0]) :], b[start - int(b[0, 0]) :]
    count = min(len(a), len(b))
    return a[:count], b[:count]


def compare(first: Trail, second: Trail, chunk: int = 1024) -> Comparison:
    """The first step and tensors whose bits differ. Raises TrailError if the two have other tensors.

    ``chunk`` records are compared at once: what is compared should stay in a core's cache.
    """
    import numpy as np

    if first.tensors != second.tensors:
        names = {t for t in first.tensors} ^ {t for t in second.tensors}
        some = ", ".join(sorted(f"{t.name}{list(t.shape)}" for t in names)[:3]) or "the same, in another order"
        raise TrailError(
            f"{first.path} and {second.path} follow different tensors ({some} …)", "compare runs of the same network"
        )
    a, b = shared_records(first, second)
    lengths = len(first), len(second)
    starts = first.start, second.start
    for place in range(0, len(a), chunk):
        unequal = a[place : place + chunk] != b[place : place + chunk]
        if place == 0 and starts[0] != starts[1]:
            unequal[0, 1] = False
        rows = np.flatnonzero(unequal.any(axis=1))
        if rows.size:
            row = unequal[rows[0]]
            names_there = tuple(first.tensors[i].name for i in np.flatnonzero(row[_COLUMNS_BEFORE_TENSORS:]))
            step = int(a[place + int(rows[0]), 0])
            return Comparison(len(a), lengths, Divergence(step, bool(row[1]), names_there), starts)
    return Comparison(len(a), lengths, None, starts)
