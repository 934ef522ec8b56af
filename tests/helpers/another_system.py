"""Runs this project's command line as on Windows, as far as that goes on Linux: `python another_system.py COMMAND …`.

Modules and functions that only some systems have are taken away before the project is imported, after the standard
library has chosen what it uses itself. ``msvcrt`` is a stand-in over flock. What cannot be seen so is everything that
Windows does in its own way: paths, line ends, modes.
"""

# much of this is imported only so that it has chosen before anything is taken away
import asyncio  # noqa: F401
import errno
import fcntl
import logging  # noqa: F401
import multiprocessing  # noqa: F401
import os
import pathlib  # noqa: F401
import platform  # noqa: F401
import shutil  # noqa: F401
import signal
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import types

MODULES = "fcntl pwd grp resource termios tty pty syslog"
OF_OS = (
    "O_CLOEXEC O_NOFOLLOW O_NONBLOCK O_DIRECTORY O_SYNC O_NOCTTY getuid geteuid getgid getegid sched_getaffinity pread "
    "pwrite fchmod confstr sysconf mkfifo fork setsid killpg getpgid"
)
OF_SIGNAL = "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGALRM SIGRTMAX SIGRTMIN pthread_sigmask setitimer sigwait"


def _locking(descriptor: int, mode: int, count: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError(errno.EACCES, "Permission denied") from error


def become() -> None:
    """Take away what Windows has not."""
    stand_in = types.ModuleType("msvcrt")
    vars(stand_in).update(LK_NBLCK=2, locking=_locking)
    sys.modules["msvcrt"] = stand_in
    for name in MODULES.split():
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
        for name in names.split():
            delattr(module, name)


if __name__ == "__main__":
    become()
    from ndrepro.cli import main

    sys.exit(main(sys.argv[1:]))
