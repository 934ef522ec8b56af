"""A program's standard output and error: copied to where the user's own go, byte for byte, and to the log.

Those of a recorded program that is executed again, which somebody else wrote, are shown as marked lines instead.

The program gets what it would have without a recorder: a terminal where the user's stream is one, else a pipe; one for
both where both lead to the same place, so that their order stays. The terminal is one for output alone (a
pseudoterminal that changes nothing in what passes); the program's standard input and its controlling terminal stay the
user's own, and with them Ctrl-C, job control and passwords that are typed.

Where standard output is a result (``--out -``) it is always a pipe of its own, so that a repetition has the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import stat
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ndrepro.text.marked_lines import MarkedLines, terminal_columns

_CHUNK_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20
# of a standard output that is a result: as large as the copy of any other
KEPT_BYTES = 1 << 20
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_NAMES = {1: "stdout", 2: "stderr"}


@dataclass
class Port:
    """One stream on its way: read from ``reading``, written to ``target``; the program writes to ``writing``.

    ``numbers`` are the program's descriptors (1, 2) that it serves; ``kind`` is terminal, pipe, file, device or closed.
    ``show`` makes what ``target`` gets of the program's bytes; without it, it gets them as they are. ``kept`` takes the
    first ``KEPT_BYTES`` and one more.
    """

    numbers: tuple[int, ...]
    target: int
    reading: int
    writing: int
    kind: str
    show: MarkedLines | None = None
    kept: bytearray | None = None

    def __post_init__(self) -> None:
        self.total = 0
        self.left = False  # whoever read the user's stream is gone
        self._digest = hashlib.sha256()

    def started(self) -> None:
        """Close the program's end here, once the program has it."""
        os.close(self.writing)
        self.writing = -1

    def copy(self, take: Callable[[bytes], None]) -> bool:
        """Copy what is there, once; False at the stream's end."""
        try:
            data = os.read(self.reading, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # of a terminal that nobody writes to any more
            data = b""
        if not data:
            if self.show is not None:
                _write_all(self.target, self.show.end())
            self.close()
            return False
        self.total += len(data)
        self._digest.update(data)
        if self.kept is not None:
            self.kept += data[: KEPT_BYTES + 1 - len(self.kept)]
        take(data)
        if not _write_all(self.target, data if self.show is None else self.show(data)):
            # as without a recorder: the program's next write fails
            self.left = True
            self.close()
            return False
        return True

    def drain(self, take: Callable[[bytes], None]) -> None:
        """Copy all that is there now, without waiting for more."""
        while self.reading >= 0 and select.select([self.reading], [], [], 0)[0]:
            if not self.copy(take):
                return

    def resize(self) -> None:
        """Give the program's terminal the size of the user's."""
        if self.kind == "terminal" and self.kept is None and self.reading >= 0:
            with suppress(OSError):
                size = fcntl.ioctl(self.target, termios.TIOCGWINSZ, b"\0" * struct.calcsize("HHHH"))
                fcntl.ioctl(self.reading, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        """Close the recorder's end."""
        if self.reading >= 0:
            os.close(self.reading)
            self.reading = -1

    def facts(self) -> dict[str, Any]:
        """``to``, ``bytes`` and ``sha256`` of all that came; ``left`` where its reader left before the end."""
        found = {"to": self.kind, "bytes": self.total, "sha256": self._digest.hexdigest()}
        return {**found, "left": True} if self.left else found

    @property
    def name(self) -> str:
        """The program's name for it: stdout, stderr, or both."""
        return "+".join(_NAMES[number] for number in self.numbers)


def open_ports(mark: str = "", *, keep_output: bool = False) -> tuple[Port, ...]:
    """The streams of a program that is about to be started: one port, or one each for output and error.

    With a ``mark`` they are shown as lines that begin with it. ``keep_output``: standard output is a result.
    """
    if keep_output:
        return (_port((1,), mark, kept=bytearray()), _port((2,), mark))
    if same_place(1, 2):
        return (_port((1, 2), mark),)
    return (_port((1,), mark), _port((2,), mark))


def forward_in_background(ports: tuple[Port, ...]) -> None:
    """Leave a process behind that copies what outlives the program's end, for as long as somebody writes.

    A background process that the program left behind writes to the user's stream, as it would without a recorder.
    """
    alive = [port for port in ports if port.reading >= 0]
    if not alive:
        return
    if os.fork():
        for port in alive:
            port.close()
        return
    try:
        os.setsid()
        _close_all_but({number for port in alive for number in (port.reading, port.target)})
        while alive:
            ready, _, _ = select.select([port.reading for port in alive], [], [])
            alive = [port for port in alive if port.reading not in ready or port.copy(_nothing)]
    finally:
        os._exit(0)


def stream_kind(number: int) -> str:
    """What a descriptor of this process leads to: terminal, pipe, file, device, or closed."""
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        return "closed"
    if os.isatty(number):
        return "terminal"
    if stat.S_ISREG(mode):
        return "file"
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "device"


def same_place(first: int, second: int) -> bool:
    """Whether two descriptors lead to the same terminal, pipe or file."""
    try:
        return os.path.sameopenfile(first, second)
    except OSError:
        return False


def _port(numbers: tuple[int, ...], mark: str, kept: bytearray | None = None) -> Port:
    target, kind = numbers[0], stream_kind(numbers[0])
    if kind == "terminal" and kept is None:
        reading, writing = _terminal(target)
    else:
        reading, writing = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(writing, _F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(reading, False)
    show = MarkedLines(mark, terminal_columns(target), sys.stderr.encoding or "ascii") if mark else None
    port = Port(numbers, target, reading, writing, kind, show, kept)
    port.resize()
    return port


def _terminal(like: int) -> tuple[int, int]:
    """Both ends of a pseudoterminal with the settings of ``like``, but for output that passes unchanged, unechoed."""
    reading, writing = os.openpty()
    with suppress(termios.error):
        settings = termios.tcgetattr(like)
        settings[1] &= ~termios.OPOST
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(writing, termios.TCSANOW, settings)
    return reading, writing


def _write_all(target: int, data: bytes) -> bool:
    """Write to the user's stream; False where nobody can read it any more."""
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError:
            return False
    return True


def _close_all_but(kept: set[int]) -> None:
    """Close every other descriptor: the lock of the run folder among them, which is held as long as it is open."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


def _nothing(data: bytes) -> None:
    """What comes after the program's end is not recorded."""


def descriptors(ports: tuple[Port, ...]) -> Iterator[tuple[int, int]]:
    """Pairs of the recorder's descriptor and the program's number for it."""
    for port in ports:
        yield from ((port.writing, number) for number in port.numbers)
