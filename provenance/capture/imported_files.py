"""Whether the libraries that this process uses are still the files that were installed.

A RECORD lists what an installer wrote. A file edited afterwards computes something else under the same version and the
same RECORD, so the files of every imported module and every library mapped into the process are compared with the
RECORD that lists them. Digests are remembered (``provenance.formats.digest_cache``): hashing torch's libraries takes
seconds, once an environment.

Python's compiled files are not compared: the interpreter derives them from these.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from provenance.capture.distribution_metadata import Metadata, RecordedFile
from provenance.capture.unavailable import unavailable
from provenance.errors import DigestError
from provenance.formats.digest_cache import DigestCache

_NAMED = 20


def loaded_files() -> set[str]:
    """The files of the modules that this process has imported, and those mapped into its memory."""
    found = module_files()
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
            found.update(line[line.index("/") :].rstrip("\n") for line in lines if "/" in line)
    except OSError:
        pass  # not Linux: the modules alone
    return found


def module_files() -> set[str]:
    """The files of the modules that this process has imported."""
    # vars, and not getattr: a module may answer that with an import
    files = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    return {file for file in files if isinstance(file, str)}


def compare(installed: Iterable[Metadata], loaded: Iterable[str]) -> dict[str, Any]:
    """Compare the ``loaded`` files with the RECORDs of the distributions that list them.

    Returns:
        ``imported``: the distributions that have loaded files; ``checked``: how many files were compared;
        ``edited``: by path relative to their site folder, distribution, digest in RECORD and on disk;
        ``unlisted``: files in a package's folder that no RECORD lists, and ``without_digest``: files listed without a
        SHA-256, both counted, with the first by name, where there are any.
    """
    found = _Comparison()
    for folder, several in _by_folder(installed).items():
        names = _below(folder, loaded)
        if names:
            found.add(folder, names, several)
    return found.to_json()


def _by_folder(installed: Iterable[Metadata]) -> dict[Path, list[Metadata]]:
    folders: dict[Path, list[Metadata]] = {}
    for metadata in installed:
        if isinstance(metadata.record, bytes):
            folders.setdefault(metadata.folder, []).append(metadata)
    return folders


def _below(folder: Path, loaded: Iterable[str]) -> set[str]:
    """The loaded files in a folder, by their paths relative to it; a mapped file has its real path."""
    tops = tuple({f"{folder}{os.sep}", f"{os.path.realpath(folder)}{os.sep}"})
    return {path[len(top) :] for path in loaded for top in tops if path.startswith(top)}


class _Comparison:
    def __init__(self) -> None:
        self.imported: set[str] = set()
        self.checked = 0
        self.edited: dict[str, Any] = {}
        self.unlisted: list[str] = []
        self.without_digest: list[str] = []

    def add(self, folder: Path, names: set[str], several: list[Metadata]) -> None:
        """Compare the files ``names`` of one site folder."""
        tops = {name.partition(os.sep)[0] for name in names}
        owned: set[str] = set()
        cache = DigestCache(folder)
        left = set(names)
        for metadata in several:
            if not metadata.tops & tops:
                continue
            owned |= metadata.tops
            for row in metadata.files(names):
                left.discard(row.path)
                self.imported.add(metadata.name)
                self._compare(cache, metadata.name, row)
        cache.save()
        for name in sorted(left):
            original = name.removesuffix(" (deleted)")
            top = original.partition(os.sep)[0]
            if original != name:
                owner = next((each.name for each in several if top in each.tops), "?")
                actual = unavailable("the file was replaced after this process had loaded it")
                self.edited[original] = {"distribution": owner, "recorded": unavailable("not read"), "actual": actual}
            elif top in owned and not name.endswith(".pyc"):
                self.unlisted.append(name)

    def _compare(self, cache: DigestCache, distribution: str, row: RecordedFile) -> None:
        name, recorded = row.path, row.sha256
        if not recorded:
            self.without_digest.append(name)
            return
        actual: Any
        try:
            actual = cache.sha256(name)
        except (OSError, DigestError) as error:
            actual = unavailable(getattr(error, "strerror", None) or str(error))
        self.checked += 1
        if actual != recorded:
            self.edited[name] = {"distribution": distribution, "recorded": recorded, "actual": actual}

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "imported": sorted(self.imported),
            "checked": self.checked,
            "edited": dict(sorted(self.edited.items())),
        }
        for key, names in (("unlisted", self.unlisted), ("without_digest", self.without_digest)):
            if names:
                found[key] = {"count": len(names), "first": sorted(names)[:_NAMED]}
        return found


def merged(start: Any, end: Any) -> Any:
    """What two looks at one process found, the later one first; a file that was edited at either is edited."""
    if not (isinstance(start, Mapping) and isinstance(end, Mapping) and "edited" in start and "edited" in end):
        return end if isinstance(end, Mapping) and "edited" in end else start
    return {**end, "edited": {**start["edited"], **end["edited"]}}
