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


def files(prefix: Path) -> Iterator[str]:
    """The files of an environment that its packages list, as paths below it; none of a list that cannot be read."""
    for file in sorted((prefix / "conda-meta").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            yield from map(str, json.loads(file.read_bytes())["files"])
