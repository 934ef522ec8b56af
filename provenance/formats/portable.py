"""What operating systems differ in when files are opened and locked.

Linux and macOS have flock; Windows locks a byte range instead, here one byte far behind the content of any lock file,
and knows no shared lock: there readers wait for each other too.
"""

from __future__ import annotations

import os

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
        """Take the lock of an open file at once. Raises BlockingIOError where another process holds it."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError as error:
            raise BlockingIOError(*error.args) from None

else:

    def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
        """Take the lock of an open file or folder, at once or when it is free.

        Raises BlockingIOError where another process holds it and this one does not wait.
        """
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


_FAR = 1 << 30
# flags of os.open that not every system has; Windows translates line ends in files that are not opened as binary
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
BINARY = getattr(os, "O_BINARY", 0)
CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)


def flush_data(descriptor: int) -> None:
    """Have a file's content on the disk, with its size and all else that is needed to read it; its times may follow.

    Source: fdatasync(2). Where a system has no such call, everything is flushed.
    """
    getattr(os, "fdatasync", os.fsync)(descriptor)


def read_at(descriptor: int, length: int, place: int) -> bytes:
    """At most ``length`` bytes of a file from ``place`` on. Windows has no pread."""
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, length)
