"""SIGINT, SIGTERM and SIGHUP while something is recorded: held, or raised where that loses nothing.

A stop that came between "begun" in the ledger and the code that ends a run would leave a run without an end; one in
the middle of signing would leave a manifest of which the ledger does not know. So they are held, except where a
caller says that one may interrupt. SIGHUP stays ignored where it was, as under ``nohup``. In a thread that is not the
main one there is nothing to do: Python hands signals to the main one only.
"""

from __future__ import annotations

import os
import signal
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)
_HANGUP = getattr(signal, "SIGHUP", None)

Handler = Callable[[int, "types.FrameType | None"], object]


@contextmanager
def stops_taken(handler: Handler | signal.Handlers) -> Iterator[None]:
    """While open, ``handler`` gets what asks this process to stop: SIGINT, SIGTERM, and SIGHUP unless ignored."""
    before: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        hangs_up = _HANGUP is not None and signal.getsignal(_HANGUP) is not signal.SIG_IGN
        for number in (*STOPS, *([_HANGUP] if _HANGUP is not None and hangs_up else [])):
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def stops_wait() -> Iterator[None]:
    """While open, SIGINT and SIGTERM wait; for a process started meanwhile until it calls ``stops_wait_no_longer``.

    A child whose handlers do not stand yet would die of the signal that asks it to stop in order.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stops_wait_no_longer() -> None:
    """Take the SIGINT and SIGTERM that came since ``stops_wait`` started this process, and those that come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


class StopRequests:
    """As a context manager: stops are counted and held, except within ``raising``."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0
        self._limit: int | None = None
        self._taken = stops_taken(self._came)

    def __enter__(self) -> StopRequests:
        self._taken.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._taken.__exit__(None, None, None)

    @contextmanager
    def raising(self, *, after: int = 0) -> Iterator[None]:
        """While open, a stop raises KeyboardInterrupt, once.

        Args:
            after: so many further stops are held first. With 0 one that came before this was opened is raised, too.
        """
        self._limit = self.count + after if after else 0
        try:
            self._raise_beyond_limit()
            yield
        finally:
            self._limit = None

    def redeliver(self) -> None:
        """Once closed: send the last stop that was held to this process again, for whoever handles it now."""
        if self.count:
            os.kill(os.getpid(), self._last)

    def _came(self, number: int, frame: types.FrameType | None) -> None:
        self.count += 1
        self._last = number
        self._raise_beyond_limit()

    def _raise_beyond_limit(self) -> None:
        if self._limit is not None and self.count > self._limit:
            self._limit = None
            raise KeyboardInterrupt


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP ends this process, once what is recorded is signed. ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def terminations_raised() -> Iterator[None]:
    """While open, a SIGTERM or SIGHUP that would end this process raises Terminated; then it does end it.

    A handler that the program has set itself is left alone.
    """
    before: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, *([_HANGUP] if _HANGUP is not None else [])):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _terminate)
    try:
        yield
    except Terminated as stop:
        _restore(before)
        os.kill(os.getpid(), stop.number)
        raise
    finally:
        _restore(before)


def _terminate(number: int, frame: types.FrameType | None) -> None:
    raise Terminated(number)


def _restore(before: Mapping[int, object]) -> None:
    for number, earlier in before.items():
        # None: a handler that was not set from Python, which cannot be put back
        signal.signal(number, signal.SIG_DFL if earlier is None else earlier)  # type: ignore[arg-type]
