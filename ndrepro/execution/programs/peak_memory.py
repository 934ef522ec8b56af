"""The peak memory of a whole process tree, from samples of what the kernel says of each process.

The kernel keeps the peak of one process, and of a control group; of a tree of processes nobody does. So the sum of the
processes' proportional set sizes, in which memory that several share counts once, is sampled: often at first, then at
most once a second, and less often where a sample is dear, so that sampling takes less than half a percent of one core.
The peak of the largest single process is exact (VmHWM, or wait4), and no peak of the tree is lower. Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from provenance.capture.unavailable import unavailable

_FIRST_SECONDS, _LONGEST_SECONDS = 0.02, 1.0
_SHARE = 0.005
SAMPLED = "samples of the summed proportional set sizes"
LARGEST = "the peak of the largest process"


class PeakMemory:
    """Call ``sample`` with the process identifiers whenever ``seconds_left`` is 0."""

    def __init__(self) -> None:
        self._pause = _FIRST_SECONDS
        self._next = time.monotonic() + _FIRST_SECONDS
        self._tree = self._largest = self._samples = 0
        self._unshared = True

    def seconds_left(self) -> float:
        """Until the next sample."""
        return max(0.0, self._next - time.monotonic())

    def sample(self, pids: Iterable[int]) -> None:
        """Look at these processes now."""
        began = time.monotonic()
        total = 0
        for pid in pids:
            total += self._size(pid)
            self._largest = max(self._largest, _field(f"/proc/{pid}/status", "VmHWM:"))
        if total:
            self._samples += 1
            self._tree = max(self._tree, total)
        now = time.monotonic()
        self._pause = max(min(2 * self._pause, _LONGEST_SECONDS), (now - began) / _SHARE)
        self._next = now + self._pause

    def facts(self, waited_bytes: int, floor_bytes: int) -> dict[str, Any]:
        """``peak_memory_bytes`` and how it was found.

        Args:
            waited_bytes: the peak of the largest process that ended, as ``wait4`` reports it.
            floor_bytes: the recorder's own peak when it started the program, which the kernel counts as the
                program's, too: a lower ``waited_bytes`` says nothing.
        """
        largest = max(self._largest, waited_bytes if waited_bytes > floor_bytes else 0)
        if not max(largest, self._tree):
            return {"peak_memory_bytes": unavailable("it ended before it could be looked at")}
        found = {
            "peak_memory_bytes": max(largest, self._tree),
            "peak_memory_source": SAMPLED if self._tree >= largest else LARGEST,
            "largest_process_bytes": largest,
            "memory_samples": self._samples,
        }
        return found if self._unshared else {**found, "shared_memory": "counted once for each process"}

    def _size(self, pid: int) -> int:
        proportional = _field(f"/proc/{pid}/smaps_rollup", "Pss:")
        if proportional:
            return proportional
        resident = _field(f"/proc/{pid}/status", "VmRSS:")
        if resident:
            self._unshared = False
        return resident


def own_peak_bytes() -> int:
    """The peak memory of this process."""
    return _field("/proc/self/status", "VmHWM:")


def _field(path: str, name: str) -> int:
    """Bytes of a line in kB; 0 where there is none, as of a process that has ended."""
    with suppress(OSError, ValueError, IndexError), open(path, encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
