"""The packages of a conda environment, which hold libraries that no Python distribution lists (MKL, cuDNN, libgcc).

conda, mamba and pixi keep one JSON file a package in ``conda-meta``; its digest there is that of the package's
archive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from provenance.capture.distribution_metadata import RecordedFile
from provenance.capture.unavailable import unavailable

_KEPT = ("version", "build", "channel", "subdir", "sha256", "md5")


def capture(prefix: Path) -> dict[str, Any] | None:
    """Name -> version, build, channel, subdir and archive digest of each package; None where there is no conda.

    A file that cannot be read stands under its own name, with the reason.
    """
    folder = prefix / "conda-meta"
    if not folder.is_dir():
        return None
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            document = json.loads(file.read_bytes())
            found[str(document["name"])] = {key: str(document[key]) for key in _KEPT if document.get(key)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            found[file.name] = unavailable(f"{type(error).__name__}: {error}")
    return found


def files(prefix: Path) -> Iterator[tuple[str, RecordedFile]]:
    """The files of an environment that its packages list, as paths below it, each with the package and its digest as it
    was installed, "" for links and where none is known; nothing of a list that cannot be read.
    """
    for file in sorted((prefix / "conda-meta").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            document = json.loads(file.read_bytes())
            digests = {each["_path"]: _digest(each) for each in document.get("paths_data", {}).get("paths", ())}
            for name in document["files"]:
                yield str(document["name"]), RecordedFile(str(name), digests.get(name, ""))


def _digest(entry: dict[str, str]) -> str:
    """Where the environment's path was written into a file, that of the package's own file says nothing."""
    of_package = "" if entry.get("prefix_placeholder") else entry.get("sha256")
    found = "" if entry.get("path_type") == "softlink" else entry.get("sha256_in_prefix") or of_package
    return f"sha256={found}" if found else ""
