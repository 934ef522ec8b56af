"""The output of somebody else's program as lines that begin with a mark and command no terminal.

A program could else clear the screen, or print a line that reads like one of this project's own. Nothing of a line
reaches the left edge of the terminal without the mark: a line is broken where the terminal would wrap it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ndrepro.text.visible import visible

_LINE_BYTES = 4096
_TAB = 8


class MarkedLines:
    """Call it with bytes as they come; it returns those to show: whole lines, each with ``mark`` before it.

    Of a line that carriage returns write over, as a progress bar does, the last version is shown. ``columns`` is the
    width of the terminal; without one a line is broken after 4,096 bytes. ``encoding`` is the terminal's.
    """

    def __init__(self, mark: str, columns: int | None = None, encoding: str = "utf-8") -> None:
        self._mark = mark
        self._room = None if columns is None else max(8, columns - len(mark) - 1)
        self._encoding = encoding
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        """The whole lines that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LINE_BYTES:
            lines.append(self._rest[:_LINE_BYTES])
            self._rest = self._rest[_LINE_BYTES:]
        return b"".join(map(self._marked, lines))

    def end(self) -> bytes:
        """The last line, where it has no end."""
        rest, self._rest = self._rest, b""
        return self._marked(rest) if rest else b""

    def _marked(self, line: bytes) -> bytes:
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        text = visible(last.decode("utf-8", "replace").expandtabs(_TAB))
        return "".join(f"{self._mark}{piece}\n" for piece in self._pieces(text)).encode(
            self._encoding, "backslashreplace"
        )

    def _pieces(self, text: str) -> Iterator[str]:
        if self._room is None:
            yield text
            return
        start = used = 0
        for place, letter in enumerate(text):
            width = 1 if letter.isascii() else 2  # at most, in any terminal
            if used + width > self._room:
                yield text[start:place]
                start, used = place, 0
            used += width
        yield text[start:]


def terminal_columns(descriptor: int) -> int | None:
    """The width of the terminal that a descriptor leads to; ``None`` where it is none."""
    try:
        return os.get_terminal_size(descriptor).columns or None
    except OSError:
        return None
