"""Passphrases of signing keys: from a private file, or typed; never from a command line or a variable's value.

``NDREPRO_PASSPHRASE_FILE``, or an option, names the file. Without one the passphrase is asked for at the terminal, once
in a process. Where there is no terminal, or in a shell's background, that is an error at once: nothing waits for
somebody who is not there.
"""

from __future__ import annotations

import os
import stat
import sys
from functools import cache
from pathlib import Path

from provenance.errors import KeyFileError
from provenance.formats.bounded_read import read_small

VARIABLE = "NDREPRO_PASSPHRASE_FILE"
_MOST_BYTES = 1024


def passphrase_file(given: Path | None = None) -> Path | None:
    """The file that was given, else the one that the variable names."""
    named = os.environ.get(VARIABLE)
    return given if given is not None else Path(named) if named else None


def stored_passphrase(file: Path) -> bytes:
    """The passphrase in a file, without the newline that ends it.

    Raises KeyFileError for a file that is not there, that others can read, or that holds no passphrase.
    """
    try:
        mode = file.stat().st_mode
        data = read_small(file, pipes=True)
    except OSError as error:
        cure = f"name the file by --passphrase-file or {VARIABLE}"
        raise KeyFileError(f"passphrase file {file}: cannot be read ({error.strerror})", cure) from None
    if os.name != "nt" and stat.S_ISREG(mode) and mode & 0o077:
        shown = f"mode {stat.S_IMODE(mode):o}, others may read the passphrase (expected 600)"
        raise KeyFileError(f"passphrase file {file}: {shown}", f"chmod 600 {file}")
    return _usable(data.removesuffix(b"\n").removesuffix(b"\r"), f"passphrase file {file}")


def asked_passphrase(what: str) -> bytes:
    """The passphrase that somebody types for ``what``. Raises KeyFileError where nobody can."""
    _expect_terminal(what)
    return _typed(what)


def new_passphrase() -> bytes:
    """A passphrase that somebody types twice. Raises KeyFileError where nobody can, or if the two differ."""
    _expect_terminal("a new key")
    first, second = _type("New passphrase: "), _type("Again: ")
    if first != second:
        raise KeyFileError("the two passphrases differ", "type the same one twice")
    return _usable(first, "the passphrase")


def no_passphrase(what: str) -> bytes:
    """Raise KeyFileError: nobody can be asked for the passphrase of ``what``."""
    raise KeyFileError(
        f"{what}: protected by a passphrase, and there is nobody to ask for it",
        f"write the passphrase to a file of mode 600 and set {VARIABLE} to its path",
    )


def _expect_terminal(what: str) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        no_passphrase(what)
    if hasattr(os, "tcgetpgrp") and os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        no_passphrase(what)


@cache
def _typed(what: str) -> bytes:
    return _usable(_type(f"Passphrase of {what}: "), "the passphrase")


def _type(prompt: str) -> bytes:
    import getpass

    return getpass.getpass(prompt).encode()


def _usable(passphrase: bytes, where: str) -> bytes:
    if not passphrase or len(passphrase) > _MOST_BYTES:
        raise KeyFileError(f"{where}: {len(passphrase)} bytes, expected 1 to {_MOST_BYTES}", "give a passphrase")
    return passphrase
