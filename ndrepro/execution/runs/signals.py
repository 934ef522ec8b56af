"""The signals that ask this process to stop, and who gets them for a while: a handler, nobody, or somebody later."""

from __future__ import annotations

import signal
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stops_taken(handler: Callable[[int, types.FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """While open, ``handler`` gets the SIGINT and SIGTERM that come to this process."""
    before = {number: signal.signal(number, handler) for number in STOPS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


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
