"""A run's scalars: append-only JSONL, one whole line a row, there on disk for others to read as soon as it is logged.

A row is a flat mapping of names to int, float, str or None. JSON has no NaN and no infinities, and a training that
diverges is exactly when they matter, so they are written as the strings "nan", "inf" and "-inf" and read back as
floats. Laws: ``read_scalars`` gives the very rows that ``append`` took, and takes no line that it did not write.

A process that is killed leaves whole rows. A power cut can leave a torn last line; reading drops it only if asked to,
and then says so; a run that resumes keeps the first n rows and cuts the rest (``keep_rows``).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from provenance.errors import CanonicalError, StorageError, UsageError
from provenance.formats.bounded_read import LOG_BYTES, open_regular, read_bounded
from provenance.formats.canonical_json import unique_members

Scalar = int | float | str | None
Row = dict[str, Scalar]

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_NUMBERS = frozenset({int, float})
_encode = json.JSONEncoder(allow_nan=False).encode
# whole numbers of any size come back as they were logged, hence no reader of canonical JSON
_decode = json.JSONDecoder(object_pairs_hook=unique_members, parse_constant=float).decode


class Rows(list[Row]):
    """Rows in the order they were logged; ``torn`` holds the torn last line that was dropped, or is None."""

    def __init__(self, rows: list[Row], torn: bytes | None = None) -> None:
        super().__init__(rows)
        self.torn = torn


class ScalarLog:
    """An open log. Use it as a context manager, or call ``close``.

    Args:
        path: the file; made where it is missing.
        keep_rows: ``None`` to append to what is there; n to cut the file after its first n whole rows first.

    Raises:
        StorageError: the file cannot be written, ends in a torn line, or has fewer whole rows than ``keep_rows``.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep_rows: int | None = None) -> None:
        self.path = Path(path)
        self._descriptor = -1
        try:
            self._descriptor = open_regular(self.path, appending=True)
            self._size = self._settle(keep_rows)
        except OSError as error:
            self.close()
            raise _unwritable(self.path, error) from error
        except StorageError:
            self.close()
            raise

    def append(self, row: Mapping[str, Scalar]) -> None:
        """Write one row as one whole line, at once.

        Raises UsageError naming the scalar for a value of another type, or one of the three strings that stand for
        floats; StorageError if the line cannot be written whole (nothing of it is left then).
        """
        for name, value in row.items():
            # by class, not isinstance: this is the hot path, and what falls through is looked at again
            if value.__class__ not in _NUMBERS or name.__class__ is not str:
                _check(name, value)
        data = _line(dict(row))
        try:
            if os.write(self._descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._cut_back()
            raise _unwritable(self.path, error) from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> ScalarLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settle(self, keep_rows: int | None) -> int:
        """Cut the file to its first rows where asked; its size in bytes."""
        data = read_bounded(self.path, LOG_BYTES)
        if keep_rows is not None:
            *lines, _ = data.split(b"\n")
            if len(lines) < keep_rows:
                raise StorageError(
                    f"{self.path}: {len(lines)} whole rows, expected at least {keep_rows}",
                    "resume from an earlier step, or start the run afresh",
                )
            data = b"".join(line + b"\n" for line in lines[:keep_rows])
            os.ftruncate(self._descriptor, len(data))
        elif data and not data.endswith(b"\n"):
            raise StorageError(f"{self.path}: its last line is torn", "open it with keep_rows to cut that line")
        return len(data)

    def _cut_back(self) -> None:
        # where even that fails the torn line stays, and whoever reads finds it
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self._size)


def read_scalars(path: str | os.PathLike[str], *, tolerate_torn: bool = False) -> Rows:
    """Every row of a log, "nan", "inf" and "-inf" as floats again.

    With ``tolerate_torn`` a last line without its end is dropped and kept in ``.torn``. Raises StorageError naming
    the line for anything else that is no row.
    """
    path = Path(path)
    try:
        data = read_bounded(path, LOG_BYTES)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_scalars(path, data, tolerate_torn=tolerate_torn)


def parse_scalars(path: Path, data: bytes, *, tolerate_torn: bool = False) -> Rows:
    """Every row of a log that was read; ``path`` is for messages. Otherwise as ``read_scalars``."""
    *lines, rest = data.split(b"\n")
    if rest and not tolerate_torn:
        raise StorageError(
            f"{path}, line {len(lines) + 1}: torn, it has no end ({len(rest)} bytes)",
            "resume the run, which cuts it, or read with tolerate_torn",
        )
    return Rows([_row(path, number, line) for number, line in enumerate(lines, 1)], rest or None)


def _check(name: Any, value: Any) -> None:
    if not isinstance(name, str):
        raise UsageError(f"the scalar's name {name!r} is a {type(name).__name__}, expected str", "name it by a string")
    if not isinstance(value, (int, float, str, type(None))):
        raise UsageError(
            f"scalar {name!r} is a {type(value).__name__}, expected int, float, str or None", "convert it first"
        )
    if isinstance(value, str) and value in _NON_FINITE:
        raise UsageError(f"scalar {name!r} is the string {value!r}, which stands for a float", "log the float")


def _line(row: Row) -> bytes:
    try:
        line = _encode(row)
    except ValueError:
        line = _encode({name: _writable(value) for name, value in row.items()})
    return f"{line}\n".encode("ascii")


def _writable(value: Scalar) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def parse_row(line: bytes) -> Row:
    """The row in a line, with "nan", "inf" and "-inf" as floats. Raises CanonicalError for what is none."""
    try:
        row = _decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise CanonicalError(f"a {type(row).__name__}, expected an object")
    return {name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in row.items()}


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = parse_row(line)
        if _line(row) != line + b"\n":
            raise CanonicalError("not as a row is written")
    except CanonicalError as error:
        raise StorageError(f"{path}, line {number}: {error.message}") from None
    except ValueError:  # not finite within a list or an object, of which a row has none
        raise StorageError(f"{path}, line {number}: not as a row is written") from None
    return row


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written ({error.strerror})", "make room, or name another folder")
