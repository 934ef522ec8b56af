"""Hands notes on to whoever listens beside the output folder, so that nothing that is executed later takes them back.

Each note is a line of its own, over a connection of its own: no descriptor stays open (``process_file.append``). Where
nobody listens, as on another machine of a cluster, it is a line of a file.
"""

from __future__ import annotations

import os

from .process_file import append, is_own

try:
    import _socket
except ImportError:  # a Python without sockets
    _socket = None  # type: ignore[assignment]

LISTENER = "notes"


def hand_on(folder: str, stem: str, line: bytes) -> None:
    """Hand a line of a process on. Raises OSError where it can be neither sent nor written."""
    try:
        _send(folder, f"{stem} ".encode() + line)
    except (OSError, AttributeError) as error:
        if not is_own(error):
            raise
        append(os.path.join(folder, f"opened-{stem}.jsonl"), line)


def _send(folder: str, line: bytes) -> None:
    # the path of a socket may have 107 bytes; a name below the output folder is no opened file of the program's
    place = os.open(os.path.join(folder, os.curdir), os.O_PATH | os.O_CLOEXEC)
    try:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.settimeout(None)
            connection.connect(f"/proc/self/fd/{place}/{LISTENER}")
            connection.sendall(line)
        finally:
            connection.close()
    finally:
        os.close(place)
