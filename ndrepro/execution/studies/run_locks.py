"""Claims on the runs of a study, so that of several processes that work on it one starts each run.

Between the moment when a study sees that a run is to do and the moment when the run's folder says so lie seconds, in
which another process may see the same. So whoever is about to start a run locks one byte of ``.claims`` in the folder
of runs, at a place that the run's identity decides, and keeps it until the run has ended. The kernel forgets the locks
of a process that dies; nothing is ever written into the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from types import TracebackType

from ndrepro.protocol.layout import RunsFolder


class Claims:
    """This process's claims in one folder of runs; a context manager, one at a time in a process."""

    def __init__(self, runs: RunsFolder) -> None:
        self._path = runs.root / ".claims"
        self._file: int | None = None

    def __enter__(self) -> Claims:
        """Nothing is opened before the first claim."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give every claim back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def take(self, identity: str) -> bool:
        """Claim a run; whether this process may start it. On a file system without locks it always may."""
        import fcntl

        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(identity))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN) or self._file is None
        return True

    def give_back(self, identity: str) -> None:
        """The run has ended."""
        import fcntl

        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(identity))


def _place(identity: str) -> int:
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:6], "big")
