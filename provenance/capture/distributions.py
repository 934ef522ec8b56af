"""Every Python distribution that this interpreter could import, with the digest of its RECORD.

RECORD lists each installed file with its sha256, so its own digest pins the whole distribution. The folders of
``sys.path`` are read as an import would search them; of two with the same name the first counts and the others are
named as shadowed. ``importlib.metadata`` finds the same (a test compares), at several times the cost: it parses every
METADATA file as an e-mail message.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import probe, unavailable

_METADATA = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}


def capture(path: Sequence[str] | None = None) -> dict[str, Any]:
    """The distributions below the folders of ``path`` (``sys.path`` where left out), sorted by name.

    ``installed``: name (normalised), version, ``record_sha256`` or why there is none, and for what was not installed
    from an index its ``origin`` (PEP 610). ``shadowed``: what the same name hides further down the path.
    ``unreadable``: folders of the path that could not be read.
    """
    installed: dict[str, dict[str, Any]] = {}
    shadowed: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    for folder in _folders(sys.path if path is None else path):
        try:
            found = sorted(_below(folder), key=lambda item: item.name)
        except OSError as error:
            unreadable.append({"folder": str(folder), "reason": error.strerror or str(error)})
            continue
        for info in found:
            described = _describe(info)
            if described["name"] in installed:
                shadowed.append({**described, "folder": str(folder)})
            else:
                installed[described["name"]] = described
    return {
        "count": len(installed),
        "installed": [installed[name] for name in sorted(installed)],
        "shadowed": shadowed,
        "unreadable": unreadable,
    }


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _folders(path: Sequence[str]) -> Iterator[Path]:
    """The folders and archives of the path that are there, each once."""
    seen = set()
    for entry in path:
        folder = Path(entry or os.curdir)
        resolved = os.path.realpath(folder)
        if resolved not in seen and folder.exists():
            seen.add(resolved)
            yield folder


def _below(folder: Path) -> list[Path]:
    if folder.is_file():  # a zip archive on the path
        return _inside_archive(folder)
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.name.endswith(tuple(_METADATA))]


def _inside_archive(archive: Path) -> list[Path]:
    import zipfile

    if not zipfile.is_zipfile(archive):
        return []
    with zipfile.ZipFile(archive) as opened:
        tops = {name.split("/", 1)[0] for name in opened.namelist()}
    return [archive / top for top in tops if top.endswith(tuple(_METADATA))]


def _describe(info: Path) -> dict[str, Any]:
    """One distribution, from its .dist-info folder, or its .egg-info folder or file."""
    stem, suffix = os.path.splitext(info.name)
    metadata = info if suffix == ".egg-info" and info.is_file() else info / _METADATA[suffix]
    headers = probe(_headers, metadata)
    if "unavailable" in headers:  # the folder's name says both too, but less surely
        name, _, version = stem.partition("-")
        headers = {"name": name, "version": version or headers}
    described = {
        "name": normalized(headers.get("name") or stem),
        "version": headers.get("version") or unavailable(f"{metadata.name} gives none"),
        "record_sha256": _record_digest(info, suffix),
    }
    origin = info / "direct_url.json"
    return {**described, "origin": probe(_origin, origin)} if origin.is_file() else described


def _headers(metadata: Path) -> dict[str, str]:
    """The name and version that head a METADATA file; its body is the project's README."""
    found: dict[str, str] = {}
    with metadata.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.lower() in ("name", "version"):
                found.setdefault(key.lower(), value.strip())
            if not line.strip() or len(found) == 2:
                break
    return found


def _record_digest(info: Path, suffix: str) -> str | dict[str, str]:
    try:
        return hashlib.sha256((info / "RECORD").read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        if suffix == ".egg-info":
            return unavailable("an .egg-info has no RECORD: installed by setuptools or by the system's package manager")
        return unavailable("it has no RECORD: not installed by an installer that keeps one, or inside an archive")
    except OSError as error:
        return unavailable(f"its RECORD cannot be read: {error.strerror}")


def _origin(direct_url: Path) -> Any:
    return json.loads(direct_url.read_text(encoding="utf-8"))
