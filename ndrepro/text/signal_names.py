"""The name of a signal, as messages about a process that it ended have it."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """``SIGKILL``; a real-time signal, or a number that is none, has no name: ``signal 40``."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
