"""Receives what the hook of a program's processes notes, at once: nothing that they execute later takes it back."""

from __future__ import annotations

import os
import re
import selectors
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from provenance.hook.notes import LISTENER

_LINE = re.compile(rb"([0-9]{1,10}-[0-9]{1,19}) ")
# of one note, of one process, and of all
_NOTE_BYTES, _PROCESS_BYTES, _TOTAL_BYTES = 1 << 20, 1 << 27, 1 << 29
_CUT = b'{"problem":"opened files: more than are kept"}\n'
# connections that wait, and those that are open; one that stays silent gives way to others
_WAITING, _OPEN = 1024, 256


class NoteListener:
    """Listens in the output folder of a prepared hook. Whoever watches the program calls ``take`` when ``fileno`` is
    readable; there is no thread, which might be given signals that are somebody else's.
    """

    def __init__(self, output: Path) -> None:
        """Begin. On systems without /proc and file systems without sockets nobody listens: the hook writes files."""
        self._received: dict[str, bytearray] = {}
        self._total = 0
        self._open: dict[socket.socket, bytearray] = {}
        self._selector = selectors.DefaultSelector()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.setblocking(False)
        with suppress(OSError, AttributeError):
            place = os.open(output, os.O_PATH | os.O_CLOEXEC)
            try:
                self._listening.bind(f"/proc/self/fd/{place}/{LISTENER}")  # the path of a socket may have 107 bytes
            finally:
                os.close(place)
            self._listening.listen(_WAITING)
            self._selector.register(self._listening, selectors.EVENT_READ)

    def fileno(self) -> int:
        """The descriptor that is readable when there is something to take."""
        return self._selector.fileno()

    def take(self) -> bool:
        """Receive what is there; whether there was anything."""
        ready = self._selector.select(0)
        for key, _ in ready:
            if key.fileobj is self._listening:
                self._accept()
            elif key.fileobj in self._open:
                self._receive(key.fileobj)
        return bool(ready)

    def notes(self) -> Mapping[str, bytes]:
        """The lines of each process, by number and start as in the names of its files; nobody listens any more."""
        while self.take():  # what was sent before the end is there
            pass
        for connection in [*self._open]:
            self._close(connection)
        self._selector.close()
        self._listening.close()
        return {stem: bytes(lines) for stem, lines in self._received.items()}

    def _accept(self) -> None:
        with suppress(OSError):
            connection = self._listening.accept()[0]
            connection.setblocking(False)
            if len(self._open) >= _OPEN:
                self._close(next(iter(self._open)))
            self._open[connection] = bytearray()
            self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
        content = self._open[connection]
        try:
            part = connection.recv(1 << 16)
        except OSError:
            part = b""
        content += part
        if not part or len(content) > _NOTE_BYTES:
            self._close(connection)
            self._keep(content)

    def _close(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._selector.unregister(connection)
        connection.close()

    def _keep(self, content: bytearray) -> None:
        if (found := _LINE.match(content)) is None or not content.endswith(b"\n"):
            return
        lines = self._received.setdefault(found[1].decode(), bytearray())
        self._total += len(content)
        if len(lines) + len(content) <= _PROCESS_BYTES and self._total <= _TOTAL_BYTES:
            lines += content[found.end() :]
        elif not lines.endswith(_CUT):
            lines += _CUT
