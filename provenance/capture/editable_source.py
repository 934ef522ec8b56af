"""Where a distribution came from that was not installed from an index (PEP 610), and what its source is now.

An editable installation's files are those of a folder that may change at any time: its commit says which they are
only where nothing differs from it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from provenance.capture.distribution_metadata import Metadata
from provenance.capture.unavailable import at, is_missing, none, probe, unavailable

OWN_FOLDER = Path(__file__).resolve().parents[2]
# is beside a private copy of these packages (``provenance.code.snapshot``) and names the folder that they were copied
# from, until the process notes there what it imported
COPY_MARK = "loaded-modules.txt"
_NAMED = 20
_SITES = ("site-packages", "dist-packages")


def origin_of(metadata: Metadata) -> dict[str, Any]:
    """``origin``, as direct_url.json has it, and of an editable installation ``source``; nothing for any other."""
    origin, project = _direct_url(metadata), editable_project(metadata)
    if origin is None:
        return {"source": source_state(project)} if project is not None and _versioned(project) else {}
    if not isinstance(origin, dict):
        return {"origin": unavailable("direct_url.json holds no object")}
    return {"origin": origin, **({} if project is None else {"source": source_state(project)})}


def editable_project(metadata: Metadata) -> Path | None:
    """The folder of the source that an editable installation leads to; ``None`` for any other distribution."""
    origin = _direct_url(metadata)
    if origin is None:
        # setuptools' "develop" puts the source itself on the path, with its .egg-info in it
        developed = metadata.place.name.endswith(".egg-info") and metadata.folder.name not in _SITES
        return metadata.folder if developed else None
    return _folder(str(at(origin, "url"))) if at(origin, "dir_info", "editable") is True else None


def _direct_url(metadata: Metadata) -> Any:
    """What direct_url.json holds; ``None`` where there is none."""
    place = metadata.place / "direct_url.json"
    if metadata.place.is_file() or not place.is_file():
        return None
    return probe(lambda: json.loads(place.read_text(encoding="utf-8")))


def source_state(folder: Path) -> dict[str, Any]:
    """The folder's ``commit``, whether it is ``dirty``, and up to twenty of the files that differ."""
    if folder.resolve() in (OWN_FOLDER, _copied_from()):
        return none("this project itself: its state is recorded as the run's source")
    # takes longer to load than all the rest; hardly any environment has editable installations
    from provenance.capture.source import capture, differing_files

    captured = capture(folder, None)
    if is_missing(captured["commit"]):
        return dict(captured["commit"])
    differing, count = differing_files(captured)
    named = {"differing": sorted(differing)[:_NAMED], "count": count} if count else {}
    return {"commit": captured["commit"], "dirty": captured["dirty"], **named}


def _copied_from() -> Path | None:
    """The folder from which the packages of this process were copied, where they were."""
    try:
        return Path(os.fsdecode((OWN_FOLDER / COPY_MARK).read_bytes())).resolve()
    except (OSError, ValueError):  # no copy, or modules are noted
        return None


def _versioned(folder: Path) -> bool:
    return any((each / ".git").exists() for each in (folder.absolute(), *folder.absolute().parents))


def _folder(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))
