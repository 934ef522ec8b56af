"""The signals that reach the recorder while a program runs, and which of them the program has not had itself.

They are blocked and read from a descriptor (signalfd(2)), so none is lost and none interrupts the recording. What a
terminal sends for Ctrl-C goes to the program too, which is in the same process group; what somebody sends to this
process alone is forwarded. The kernel says which signal a terminal sent. Whether ``kill`` or a job scheduler sent one
to the whole group is seen by a *sentinel*, a process of the group that does nothing but report the signals that it
gets: what it gets, the program gets. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass

from provenance.errors import UsageError

# asks a program to stop, or notifies it; SIGWINCH and SIGCHLD are for the recorder
STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
FORWARDED = frozenset({*STOPS, signal.SIGUSR1, signal.SIGUSR2})
_SIGINFO = struct.Struct("=IiiI112x")  # number, errno, code, sender; signalfd_siginfo has 128 bytes
_SI_KERNEL = 0x80
# of the sentinel: the signal's number, and when it came in seconds of the system's monotonic clock
_REPORT = struct.Struct("=id")
_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SENTINEL_SECONDS = 0.2


@dataclass(frozen=True)
class Arrival:
    """A signal; whether the program has had it too, from the terminal or as a member of the group."""

    number: int
    shared: bool


class ArrivingSignals:
    """As a context manager: signals wait in a descriptor. ``inherited_mask`` is what they were blocked by before.

    Attributes:
        ignored: signals that this process was started to ignore, as by ``nohup``; they are left alone.
        sentinel: the process identifier of the sentinel.
    """

    def __init__(self) -> None:
        self.ignored = frozenset(number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN)
        self._waiting: set[int] = {*(FORWARDED - self.ignored), signal.SIGCHLD, signal.SIGWINCH}
        self.inherited_mask: frozenset[int] = frozenset()
        self.sentinel = 0
        self._descriptor = self._reports = -1
        self._queue: dict[int, int] = {}

    def __enter__(self) -> ArrivingSignals:
        self.inherited_mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, self._waiting))
        try:
            self._descriptor = _signalfd(self._waiting)
            self.sentinel, self._reports = _start_sentinel(self._descriptor)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self.sentinel:
            os.close(self._reports)  # which ends it
            with suppress(OSError):
                os.kill(self.sentinel, signal.SIGKILL)
                os.waitpid(self.sentinel, 0)
            self.sentinel = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        signal.pthread_sigmask(signal.SIG_SETMASK, self.inherited_mask)

    def fileno(self) -> int:
        """The descriptor, readable when a signal waits."""
        return self._descriptor

    def read(self) -> list[Arrival]:
        """The signals that have come, in their order; a standard signal that came twice meanwhile counts once."""
        self._take()
        found = []
        while self._queue:
            number = next(iter(self._queue))
            code = self._queue.pop(number)
            mine = number not in FORWARDED
            found.append(Arrival(number, not mine and (code == _SI_KERNEL or self._sentinel_had(number))))
        return found

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._descriptor, _SIGINFO.size):
                number, _, code, _ = _SIGINFO.unpack(data)
                self._queue[number] = max(self._queue.get(number, code), code)

    def _sentinel_had(self, number: int) -> bool:
        """Whether the sentinel got the signal about now too."""
        start = time.monotonic()
        while (left := start + _SENTINEL_SECONDS - time.monotonic()) > 0:
            if not select.select([self._reports], [], [], left)[0]:
                continue
            data = os.read(self._reports, _REPORT.size)
            if not data:  # it was killed
                return False
            reported, moment = _REPORT.unpack(data)
            if reported == number and moment > start - _SENTINEL_SECONDS:
                # `timeout` sends a signal to the process, and the same one to its group: the program has one of them
                self._take()
                self._queue.pop(number, None)
                return True
        return False


def _signalfd(signals: set[int]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    mask = 0
    for number in signals:
        mask |= 1 << (number - 1)
    words = (ctypes.c_ulong * 16)(mask)  # a sigset_t has 1024 bits
    descriptor = int(libc.signalfd(-1, ctypes.byref(words), _SFD_FLAGS))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "signals cannot be read from a descriptor (signalfd)")
    return descriptor


def _start_sentinel(descriptor: int) -> tuple[int, int]:
    """Fork the sentinel; its process identifier, and the descriptor that its reports are read from."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a process with threads: the child starts none
        pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        _report(descriptor, writing)
    finally:
        os._exit(0)


def _report(descriptor: int, writing: int) -> None:
    """Write the number of each signal that comes, until nobody reads them any more."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(writing, 0)  # POLLERR once the recorder is gone
    while True:
        for ready, event in poll.poll():
            if ready == writing or not event & select.POLLIN:
                return
            with suppress(BlockingIOError):
                number = _SIGINFO.unpack(os.read(descriptor, _SIGINFO.size))[0]
                os.write(writing, _REPORT.pack(number, time.monotonic()))


def expect_linux() -> None:
    """Raises UsageError where signals and processes cannot be watched as they are here."""
    if not os.path.exists("/proc/self/stat"):
        raise UsageError(
            "recording a command needs Linux: it reads /proc and signalfd",
            "record from inside a Python program instead: ndrepro.record, docs/reference/python.md",
        )
