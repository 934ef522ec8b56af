"""Receives what the hook of a program's processes notes, at once: nothing that they execute later takes it back."""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from provenance.hook.notes import LISTENER

_LINE = re.compile(rb"([0-9]{1,10}-[0-9]{1,19}) ")
# of one process, and of all
_PROCESS_BYTES, _TOTAL_BYTES = 1 << 27, 1 << 29
_CUT = b'{"problem":"opened files: more than are kept"}\n'
# that a connection may stay silent
_SECONDS = 1.0
_WAITING = 1024


class NoteListener:
    """Listens in the output folder of a prepared hook, in a thread, until ``notes`` is asked for."""

    def __init__(self, output: Path) -> None:
        """Begin. On systems without /proc and file systems without sockets nobody listens: the hook writes files."""
        self._received: dict[str, bytearray] = {}
        self._total = 0
        self._thread: threading.Thread | None = None
        if not hasattr(os, "O_PATH"):
            return
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(output, os.O_PATH | os.O_CLOEXEC)
        try:
            self._listening.bind(f"/proc/self/fd/{place}/{LISTENER}")  # the path of a socket may have 107 bytes
        except OSError:
            self._listening.close()
            return
        finally:
            os.close(place)
        self._listening.listen(_WAITING)
        self._listening.setblocking(False)
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def notes(self) -> Mapping[str, bytes]:
        """The lines of each process, by number and start as in the names of its files; nobody listens any more."""
        if self._thread is not None:
            os.close(self._end)
            self._thread.join()
            os.close(self._ended)
            self._listening.close()
        return {stem: bytes(lines) for stem, lines in self._received.items()}

    def _listen(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for source in (self._listening, self._ended):
                waiting.register(source, selectors.EVENT_READ)
            ended = False
            while not ended:
                ended = any(key.fileobj == self._ended for key, _ in waiting.select())
                while (connection := self._next()) is not None:  # what was sent before the end is there
                    with connection:
                        self._receive(connection)

    def _next(self) -> socket.socket | None:
        try:
            return self._listening.accept()[0]
        except OSError:
            return None

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(_SECONDS)
        content = bytearray()
        try:
            while (part := connection.recv(1 << 16)) and len(content) <= _PROCESS_BYTES:
                content += part
        except OSError:  # it stays silent
            return
        if (found := _LINE.match(content)) is None or not content.endswith(b"\n"):
            return
        lines = self._received.setdefault(found[1].decode(), bytearray())
        self._total += len(content)
        if len(lines) + len(content) <= _PROCESS_BYTES and self._total <= _TOTAL_BYTES:
            lines += content[found.end() :]
        elif not lines.endswith(_CUT):
            lines += _CUT
