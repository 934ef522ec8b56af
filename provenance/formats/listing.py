"""Two listings of files with their digests, as ``sha256sum`` prints them: which files differ.

``provenance.formats.digest.listing`` writes them; this reads them back. Law: ``parse(listing(entries))`` has the same
names and digests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from provenance.errors import DigestError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded

_LINE = re.compile(r"(\\?)([0-9a-f]{64})  (.+)", re.DOTALL)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


@dataclass(frozen=True)
class ListingDiff:
    """Names that only one listing has, names whose digests differ, and how many are the same in both."""

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    changed: tuple[str, ...]
    same: int


def parse(text: str) -> dict[str, str]:
    """Name -> digest of every line. Raises DigestError naming a line that is none, or names a file again."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise DigestError(f"line {number}: {line[:60]!r}, expected a SHA-256, two spaces and a name")
        escaped, digest, name = matched.groups()
        name = re.sub(r"\\[\\nr]", lambda mark: _ESCAPES[mark.group()], name) if escaped else name
        if name in found:
            raise DigestError(f"line {number}: {name[:60]!r} is listed twice")
        found[name] = digest
    return found


def compare_listings(first: Path, second: Path) -> ListingDiff:
    """Compare two files of digests. Raises DigestError for one that cannot be read or is none."""
    a, b = (_read(path) for path in (first, second))
    shared = a.keys() & b.keys()
    changed = tuple(sorted(name for name in shared if a[name] != b[name]))
    return ListingDiff(
        tuple(sorted(a.keys() - b.keys())), tuple(sorted(b.keys() - a.keys())), changed, len(shared) - len(changed)
    )


def _read(path: Path) -> dict[str, str]:
    try:
        return parse(read_bounded(path, LOG_BYTES).decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DigestError(f"{path}: cannot be read ({error.strerror})") from error
    except DigestError as error:
        raise DigestError(f"{path}, {error.message}") from None
