"""The value of a counter that is in a buffer, known to the host without waiting for the buffer's device.

A counter belongs in a buffer, or a resumed run would be another run; which branch a step takes is decided by the host.
Reading the buffer would stop a GPU once a step. So the host keeps the value, and the version of the buffer for which
it is right; only a buffer that something else has written or replaced is read.
"""

from __future__ import annotations

from torch import Tensor


class HostCounter:
    """The host's copy of the scalar int64 ``buffer`` that holds ``value``."""

    def __init__(self, buffer: Tensor, value: int) -> None:
        self._keep(buffer, value)

    def value(self, buffer: Tensor) -> int:
        """What ``buffer`` holds."""
        if buffer is not self._buffer or buffer._version != self._version:
            self._keep(buffer, int(buffer))
        return self._value

    def advance(self, buffer: Tensor, period: int) -> None:
        """Add one, modulo ``period``, here and there."""
        value = (self.value(buffer) + 1) % period
        buffer.fill_(value)
        self._keep(buffer, value)

    def _keep(self, buffer: Tensor, value: int) -> None:
        self._buffer, self._value, self._version = buffer, value, buffer._version
