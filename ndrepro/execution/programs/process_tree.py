"""A program's processes: started, reaped, and counted, whatever they spawn and detach.

The recorder is their *subreaper* (prctl(2)): a process whose parent ends becomes its child, so that no descendant is
lost to ``init`` while the recorder lives, and the CPU time of every one that ends is known. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
# what Python ignores in its own process, and no program that it starts should
_PYTHONS_OWN = [signal.SIGPIPE, signal.SIGXFSZ]
_SHELL = "/bin/sh"
_SHOWN = 200


@dataclass(frozen=True)
class ProcessUse:
    """What ended processes used: seconds of CPU time, and bytes of the largest one's peak."""

    user_seconds: float = 0.0
    system_seconds: float = 0.0


class ProcessTree:
    """As a context manager: the processes that descend from the program which ``start`` starts.

    Attributes:
        pid: the program's process identifier; 0 before it was started.
        status: its exit code, -n for signal n; ``None`` while it runs.
        use: CPU time of all processes that have ended.
        largest_bytes: the peak memory of the largest of them, as ``wait4`` reports it.
    """

    def __init__(self, strangers: Iterable[int] = ()) -> None:
        self.pid = 0
        self.status: int | None = None
        self.use = ProcessUse()
        self.largest_bytes = 0
        # children that were there before, or are the recorder's own
        self._strangers = {*strangers, *children(os.getpid())}
        self._before = 0

    def __enter__(self) -> ProcessTree:
        self._before = _subreaper()
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        return self

    def __exit__(self, *error: object) -> None:
        if self.pid and self.status is None:
            # an error of the recorder while the program runs: it must not continue unrecorded
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        _prctl(_PR_SET_CHILD_SUBREAPER, self._before)

    def start(
        self,
        executable: Path,
        words: Sequence[str],
        variables: Mapping[str, str],
        descriptors: Iterable[tuple[int, int]],
        mask: Iterable[int],
    ) -> None:
        """Execute a program with the user's standard input, and with ``descriptors`` (here, there) for its own.

        Its signals are blocked as ``mask`` says. Raises OSError where the kernel cannot execute it.
        """
        actions = [(os.POSIX_SPAWN_DUP2, here, there) for here, there in descriptors]
        # a script gets its path as it was typed: ./run, and not run
        path = words[0] if os.sep in words[0] and Path(words[0]) == executable else os.fspath(executable)
        try:
            self.pid = _spawn(path, words, variables, actions, mask)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # a script without #!, which shells and execvp(3) give to the shell
            script = [_SHELL, path, *words[1:]]
            self.pid = _spawn(_SHELL, script, variables, actions, mask)

    def reap(self) -> None:
        """Take note of every descendant that has ended and whose parent is this process."""
        for pid in children(os.getpid()):
            if pid in self._strangers:
                continue
            with suppress(ChildProcessError):
                ended, status, use = os.wait4(pid, os.WNOHANG)
                if not ended:
                    continue
                self.use = ProcessUse(self.use.user_seconds + use.ru_utime, self.use.system_seconds + use.ru_stime)
                self.largest_bytes = max(self.largest_bytes, use.ru_maxrss * 1024)
                if pid == self.pid:
                    self.status = os.waitstatus_to_exitcode(status)

    def alive(self) -> list[int]:
        """Process identifiers of all descendants."""
        found: list[int] = []
        waiting = [pid for pid in children(os.getpid()) if pid not in self._strangers]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children(pid)
        return found

    def use_of(self, pids: Iterable[int]) -> ProcessUse:
        """CPU time of all that have ended, and of these, which run."""
        user, system = self.use.user_seconds, self.use.system_seconds
        tick = os.sysconf("SC_CLK_TCK")
        for pid in pids:
            with suppress(OSError, ValueError, IndexError):
                # fields 14 to 17 of proc(5), counted behind the name, which may hold spaces and brackets
                fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                user += (int(fields[11]) + int(fields[13])) / tick
                system += (int(fields[12]) + int(fields[14])) / tick
        return ProcessUse(user, system)


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads; none of one that is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def command_line(pid: int) -> list[str]:
    """The words of a running process, shortened; none of one that is gone."""
    with suppress(OSError):
        return [word[:_SHOWN] for word in _read(f"/proc/{pid}/cmdline").removesuffix("\0").split("\0")]
    return []


def _spawn(
    executable: str,
    words: Sequence[str],
    variables: Mapping[str, str],
    actions: list[tuple[int, int, int]],
    mask: Iterable[int],
) -> int:
    return os.posix_spawn(
        executable, [*words], variables, file_actions=actions, setsigmask=mask, setsigdef=_PYTHONS_OWN
    )


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _subreaper() -> int:
    value = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value))
    return value.value


def _prctl(option: int, argument: object) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the recorder cannot become the subreaper of the program's processes")
