"""The log of what a program prints: all of it up to a limit, else its beginning and its end, and what was left out."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from provenance.formats.bounded_read import open_regular

_HEAD_BYTES = _TAIL_BYTES = 8 << 20


@dataclass(frozen=True)
class LogSize:
    """Bytes that were printed, and those of them that the log leaves out; ``problem`` says why it ends early."""

    bytes: int
    left_out: int
    problem: str = ""


class BoundedLog:
    """Writes the first bytes to the file at once, and holds the last ones in memory until it is closed.

    A disk that cannot take the log is no reason to disturb the program: the log ends there, and says why.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(open_regular(path, appending=True), "ab", buffering=0)
        self._room = _HEAD_BYTES
        self._tail: deque[bytes] = deque()
        self._held = self._total = self._left_out = 0
        self._problem = ""

    def write(self, data: bytes) -> None:
        """Take the next bytes that were printed."""
        self._total += len(data)
        if self._room:
            head, data = data[: self._room], data[self._room :]
            self._room -= len(head)
            self._put(head)
        if not data:
            return
        self._tail.append(data)
        self._held += len(data)
        while self._held - len(self._tail[0]) >= _TAIL_BYTES:
            dropped = len(self._tail.popleft())
            self._held -= dropped
            self._left_out += dropped

    def close(self) -> LogSize:
        """Write the end, with a line before it that says how much is missing in between."""
        tail = b"".join(self._tail)
        if surplus := max(0, len(tail) - _TAIL_BYTES):
            # from the beginning of a line on, where one is near
            line = tail.find(b"\n", surplus, surplus + 4096) + 1
            surplus = line or surplus
            tail, self._left_out = tail[surplus:], self._left_out + surplus
        if self._left_out:
            self._put(b"\n[%d bytes of output are left out here]\n" % self._left_out)
        self._put(tail)
        self._tail.clear()
        self._file.close()
        return LogSize(self._total, self._left_out, self._problem)

    def _put(self, data: bytes) -> None:
        if self._problem or not data:
            return
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._problem = error.strerror or str(error)
