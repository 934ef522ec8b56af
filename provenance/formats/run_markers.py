"""By what a folder is known as a run's, and a file as a list of runs, without reading what is signed."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from provenance.errors import CanonicalError
from provenance.formats.bounded_read import open_regular, read_bounded
from provenance.formats.canonical_json import parse

MANIFEST = "manifest.dsse.json"
# signatures by identities, added after the run: one Sigstore bundle a line
BUNDLES = "manifest.sigstore.jsonl"
LOCK = ".lock"
# the lock holds a process identifier; anything longer is somebody's data
LOCK_BYTES = 20
LEDGER = "ledger.jsonl"
LEDGER_MEMBERS = ("sequence", "time", "event", "run", "fields", "previous", "check")
_LINE_BYTES = 1 << 16
_ENVELOPE, _PAYLOAD_TYPE = {"payload", "payloadType", "signatures"}, "application/vnd.in-toto+json"


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is a run's: it holds the envelope of a manifest, or the lock file of a recorder."""
    if _envelope(folder):
        return True
    try:
        with open(open_regular(folder / LOCK), "rb") as stream:
            return stream.read(LOCK_BYTES + 1).removesuffix(b"\n").isdigit()
    except OSError:
        return False


def listed_files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file that a run's manifest lists, by path; nothing is verified. Empty for no manifest."""
    try:
        statement = parse(base64.b64decode(_envelope(folder).get("payload", "")))
        return {str(each["name"]): str(each["digest"]["sha256"]) for each in statement["subject"]}
    except (CanonicalError, binascii.Error, ValueError, KeyError, TypeError):
        return {}


def _envelope(folder: Path) -> dict[str, Any]:
    """The envelope of the folder's manifest, unopened; empty where there is none."""
    try:
        found = parse(read_bounded(folder / MANIFEST, 1 << 27))
    except (OSError, CanonicalError):
        return {}
    ours = isinstance(found, dict) and found.keys() >= _ENVELOPE and found["payloadType"] == _PAYLOAD_TYPE
    return found if ours and found["payload"] and found["signatures"] else {}


def is_ledger(path: Path) -> bool:
    """Whether a file begins with an entry of a ledger."""
    try:
        with open(open_regular(path, follow_symlinks=True), "rb") as stream:
            entry = parse(stream.readline(_LINE_BYTES).rstrip(b"\n"))
    except (OSError, CanonicalError):
        return False
    return isinstance(entry, dict) and entry.keys() in ({"entry", "signature"}, set(LEDGER_MEMBERS))
