"""Runs a program from its start to its end: copies its streams, forwards signals, samples what its processes use.

The program ends when its first process ends. Descendants that are still there get a moment to follow; those that stay
are named, and what they print from then on still reaches the user, but not the log.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.programs.arriving_signals import STOPS, ArrivingSignals
from ndrepro.execution.programs.bounded_log import BoundedLog, LogSize
from ndrepro.execution.programs.output_streams import Port, descriptors, forward_in_background, open_ports
from ndrepro.execution.programs.peak_memory import PeakMemory, own_peak_bytes
from ndrepro.execution.programs.process_tree import ProcessTree, command_line
from provenance.capture.gpu import GpuUse
from provenance.capture.unavailable import printable
from provenance.observation.energy import EnergyMeter
from provenance.observation.note_listener import NoteListener
from provenance.redaction.redact import redact_arguments

_FOLLOW_SECONDS = 0.5
_OUTLIVING_LISTED = 20


@dataclass(frozen=True)
class ProgramEnd:
    """How a program ended, and what it used.

    ``exit_code`` is -n for signal n; ``stops`` are the signals that asked it to stop, by name; ``outlived_by`` command
    lines of processes that stayed; ``streams``, ``usage`` and ``energy`` as the manifest holds them; ``output`` is the
    beginning of standard output where it was to be kept.
    """

    exit_code: int
    stops: tuple[str, ...]
    outlived_by: tuple[str, ...]
    streams: Mapping[str, Any]
    usage: Mapping[str, Any]
    log: LogSize
    energy: Mapping[str, Any]
    output: bytes | None


def run_program(
    executable: Path,
    words: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    signals: ArrivingSignals,
    listener: NoteListener,
    mark: str = "",
    *,
    keep_output: bool = False,
) -> ProgramEnd:
    """Execute a program in the current folder and wait for its end.

    ``signals`` are not open yet; what its processes note comes to ``listener``. With a ``mark`` its output is shown as
    lines that begin with it (``MarkedLines``).
    ``keep_output``: see ``open_ports``.
    Raises OSError where the kernel cannot execute it, or the log cannot be made.
    """
    with ExitStack() as stack:
        stack.enter_context(signals)
        tree = stack.enter_context(ProcessTree([signals.sentinel]))
        return _Watch(tree, signals, listener, BoundedLog(log)).run(
            executable, words, variables, open_ports(mark, keep_output=keep_output)
        )


class _Watch:
    def __init__(self, tree: ProcessTree, signals: ArrivingSignals, listener: NoteListener, log: BoundedLog) -> None:
        self._tree = tree
        self._listener = listener
        self._signals = signals
        self._log = log
        self._memory = PeakMemory()
        self._gpus = GpuUse()
        self._energy = EnergyMeter()
        self._stops: dict[str, None] = {}
        self._ports: tuple[Port, ...] = ()
        self._selector = selectors.DefaultSelector()
        self._end = -1

    def run(
        self, executable: Path, words: Sequence[str], variables: Mapping[str, str], ports: tuple[Port, ...]
    ) -> ProgramEnd:
        self._ports = ports
        for number in self._signals.ignored:
            signal.signal(number, signal.SIG_IGN)  # whoever holds stops has a handler, which a program does not inherit
        floor, began = own_peak_bytes(), time.monotonic()
        try:
            self._tree.start(executable, words, variables, descriptors(self._ports), self._signals.inherited_mask)
        except OSError:
            self._close()
            raise
        for port in self._ports:
            port.started()
            self._selector.register(port.reading, selectors.EVENT_READ, port)
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        self._notice_end()
        while self._tree.status is None:
            self._step(self._memory.seconds_left())
        seconds = time.monotonic() - began
        staying = self._await_followers()
        for port in self._ports:
            port.drain(self._log.write)
        used = self._tree.use_of(staying)
        forward_in_background(self._ports)
        usage = {
            "wall_seconds": seconds,
            "user_seconds": used.user_seconds,
            "system_seconds": used.system_seconds,
            **self._memory.facts(self._tree.largest_bytes, floor),
            **self._gpus.facts(),
        }
        size = self._log.close()
        self._close_watch()
        return ProgramEnd(
            self._tree.status,
            tuple(self._stops),
            tuple(shlex.join(printable(redact_arguments(command_line(pid)))) for pid in staying[:_OUTLIVING_LISTED]),
            {port.name: port.facts() for port in self._ports},
            usage,
            size,
            self._energy.facts(),
            next((bytes(port.kept) for port in self._ports if port.kept is not None), None),
        )

    def _notice_end(self) -> None:
        """Have the first process's end wake the watch, by a descriptor where the kernel has such (Linux 5.3).

        SIGCHLD does not suffice: in a process with threads the kernel may give it to one that ignores it.
        """
        with suppress(OSError):
            self._end = os.pidfd_open(self._tree.pid)
            self._selector.register(self._end, selectors.EVENT_READ, self._tree)

    def _step(self, seconds: float) -> None:
        """Wait for the next thing to do, at most so long, and do it."""
        for key, _ in self._selector.select(seconds):
            port = key.data
            if port is None:
                self._take_signals()
            elif port is self._listener:
                self._listener.take()
            elif port is self._tree:
                self._selector.unregister(key.fd)
                self._tree.reap()
            elif not port.copy(self._log.write):
                self._selector.unregister(key.fd)
        if not self._memory.seconds_left():
            alive = self._tree.alive()
            self._memory.sample(alive)
            self._gpus.sample(alive)
            self._energy.sample()
            self._tree.reap()

    def _take_signals(self) -> None:
        for arrival in self._signals.read():
            if arrival.number == signal.SIGCHLD:
                self._tree.reap()
            elif arrival.number == signal.SIGWINCH:
                for port in self._ports:
                    port.resize()
            else:
                if arrival.number in STOPS:
                    self._stops[signal.Signals(arrival.number).name] = None
                if not arrival.shared and self._tree.status is None:
                    with suppress(ProcessLookupError):
                        os.kill(self._tree.pid, arrival.number)

    def _await_followers(self) -> list[int]:
        """Give the other processes a moment to end; those that do not."""
        end = time.monotonic() + _FOLLOW_SECONDS
        while (staying := self._tree.alive()) and time.monotonic() < end:
            self._step(0.01)
            self._tree.reap()
        return staying

    def _close(self) -> None:
        for port in self._ports:
            port.started()
            port.close()
        self._log.close()
        self._close_watch()

    def _close_watch(self) -> None:
        self._selector.close()
        if self._end >= 0:
            os.close(self._end)
