"""By what a folder is known as a run's, and a file as a list of runs, without reading what is signed."""

from __future__ import annotations

from pathlib import Path

from provenance.errors import CanonicalError
from provenance.formats.bounded_read import open_regular
from provenance.formats.canonical_json import parse

MANIFEST = "manifest.dsse.json"
LOCK = ".lock"
# the lock holds a process identifier; anything longer is somebody's data
LOCK_BYTES = 20
LEDGER = "ledger.jsonl"
LEDGER_MEMBERS = ("sequence", "time", "event", "run", "fields", "previous", "check")
_LINE_BYTES = 1 << 16


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is a run's: it holds a manifest, or the lock file of a recorder."""
    if (folder / MANIFEST).is_file():
        return True
    try:
        with open(open_regular(folder / LOCK), "rb") as stream:
            return stream.read(LOCK_BYTES + 1).removesuffix(b"\n").isdigit()
    except OSError:
        return False


def is_ledger(path: Path) -> bool:
    """Whether a file begins with an entry of a ledger."""
    try:
        with open(open_regular(path, follow_symlinks=True), "rb") as stream:
            entry = parse(stream.readline(_LINE_BYTES).rstrip(b"\n"))
    except (OSError, CanonicalError):
        return False
    return isinstance(entry, dict) and entry.keys() in ({"entry", "signature"}, set(LEDGER_MEMBERS))
