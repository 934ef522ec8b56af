"""The first process inside a sandbox: starts the training processes, passes stops on, and ends with their exit code.

    python -I -S inside.py DOCUMENT

DOCUMENT is JSON: ``command``, a list of words, and ``processes``, for each process the variables that it gets beside
the inherited ones. All are over when one failed or was killed, and a process that is still there ten minutes after the
first ended is killed. The exit code is theirs where they agree, else 128 + n for signal n that ended one, else 1.

Run by the interpreter of the training processes (Python 3.10 too); needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

_STOPS = (signal.SIGTERM, signal.SIGINT)
_DONE = (0, 75)  # completed; interrupted
_PATIENCE_SECONDS = 600
_MOST_PROCESSES = 4096
# keyctl(2) by machine; its first operation joins a new session keyring, so that the user's is out of reach
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1


def main(document: str) -> int:
    """Start the processes, wait for them; returns the exit code."""
    asked: dict[str, Any] = json.loads(document)
    os.closerange(3, 1 << 16)
    _limit()
    running: dict[int, int | None] = {}

    def forward(number: int, frame: object) -> None:
        for process in list(running):
            os.kill(process, number)

    def give_up(number: int, frame: object) -> None:
        forward(signal.SIGKILL, frame)

    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    for variables in asked["processes"]:
        running[_start(asked["command"], variables)] = None
    for number in _STOPS:
        signal.signal(number, forward)
    signal.signal(signal.SIGALRM, give_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    codes: list[int] = []
    while running:
        process, status = os.wait()
        if process not in running:
            continue  # an orphan of theirs
        del running[process]
        codes.append(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
        if codes[-1] not in _DONE:
            forward(signal.SIGKILL, None)
            break
        signal.alarm(_PATIENCE_SECONDS)
    return codes[-1] if len(set(codes)) == 1 or codes[-1] > 128 else 1


def _start(command: list[str], variables: dict[str, str]) -> int:
    """Fork and exec; stops stay blocked, as the command expects: it unblocks them once it can take them."""
    process = os.fork()
    if process == 0:
        try:
            os.execve(command[0], command, {**os.environ, **variables, "NDREPRO_PARENT_PID": str(os.getppid())})
        except OSError as error:
            os.write(2, f"sandbox: {command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    return process


def _limit() -> None:
    """No core files; no more processes than a training has; none of the user's kernel keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = _MOST_PROCESSES if hard == resource.RLIM_INFINITY else min(hard, _MOST_PROCESSES)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
