"""Reads a hashed requirements file, as ``uv pip compile`` and pip-tools write it.

    numpy==2.4.6 ; python_full_version < '3.12' \\
        --hash=sha256:… \\
        --hash=sha256:…
        # via torch

In goes the text, out come its pins. It never resolves and never installs; that is uv's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from provenance.capture.distribution_metadata import normalized
from provenance.errors import UsageError

# the whole of an entry: what follows could be an option, or another requirement without a hash
_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[\w.,-]*\])?==(?P<version>[\w.!+-]+)(?: *; *(?P<marker>[^\\\n]+))?"
    r"(?:(?: | *\\\n *)--hash=sha256:[0-9a-f]{64})*\s*",
    re.ASCII,
)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})(?![0-9a-f])")


@dataclass(frozen=True)
class Pin:
    """One pinned distribution: name as PEP 503 writes it, version, marker ('' for always), file hashes."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def entries(text: str) -> list[str]:
    """The entries of a lock, without comments: a requirement and the hashes below it."""
    found = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text))
    return [entry for entry in found if entry.strip()]


def read_pins(text: str, where: str) -> tuple[Pin, ...]:
    """The pins of a lock, in its order.

    ``where`` names the file in messages. Raises UsageError for a line that pins nothing (an option, a URL, a
    range) and for a pin without a sha256 hash: either would let in something that the lock does not fix.
    """
    pins = []
    for entry in entries(text):
        head, found, hashes = entry.split("\n")[0], _PIN.fullmatch(entry), tuple(_HASH.findall(entry))
        if found is None and not _PIN.fullmatch(head.rstrip(" \\\r\f")):
            raise UsageError(f"{where}: {head!r} does not pin a version", "make the lock again: make lock")
        if found is None or not hashes:
            what = "has no sha256 hash" if found else "has a line below that is no sha256 hash"
            raise UsageError(f"{where}: {head!r} {what}", "make the lock again: make lock")
        marker = (found["marker"] or "").strip()
        pins.append(Pin(normalized(found["name"]), found["version"], marker, hashes))
    return tuple(pins)
