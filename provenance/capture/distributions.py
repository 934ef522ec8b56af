"""Every Python distribution that this interpreter would import, with the digest of its RECORD.

RECORD lists each installed file with its sha256, so its own digest pins the whole distribution. The folders of
``sys.path`` are read as an import would search them. ``importlib.metadata`` finds the same folders (a test compares),
at several times the cost, and takes each at its word; here, what is recorded is what an import would find:

1. Metadata that describe nothing installed (``provenance.capture.distribution_metadata``) are listed as leftovers.
2. So are those whose RECORD lists files of which none is there.
3. Of several with one name, that one counts from whose folder the module is imported, whose RECORD has the digests
   of the files on disk, or whose version the module's source states, in this order; else the first on the path.
   The others are leftovers, or shadowed where their own files are there.
4. Where a module of another folder is imported before all of them, its version is read from its source.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.capture.distribution_metadata import Metadata, describe, normalized, read
from provenance.capture.editable_source import origin_of
from provenance.capture.unavailable import unavailable

__all__ = ["DistributionSearch", "capture", "normalized", "search"]
_PACKAGES = {"site-packages", "dist-packages"}
# rows of a RECORD that are compared to tell two distributions of one name apart
_COMPARED = 64


@dataclass(frozen=True)
class Folder:
    """One entry of the search path: what lies directly in it, and its distributions, sorted by folder name."""

    path: Path
    names: frozenset[str]
    distributions: tuple[Metadata, ...]

    def holds_module(self, name: str) -> bool:
        """Whether ``import name`` ends here: at a package with ``__init__``, or a module's file."""
        if name in self.names and any((self.path / name / f"__init__{end}").exists() for end in (".py", ".pyc", ".so")):
            return True
        return any(each.startswith(f"{name}.") and each.endswith((".py", ".pyc", ".so")) for each in self.names)


@dataclass
class DistributionSearch:
    """What a search found.

    Attributes:
        installed: by name, what would be imported.
        imported_from: by name, the folder of a module that is imported instead of the installed one.
        shadowed: what the same name hides further down the path.
        leftovers: metadata that describe nothing installed, each with the reason.
        disagreements: (name, what disagrees).
        unreadable: folders of the path that could not be read, with the reason.
    """

    installed: dict[str, Metadata] = field(default_factory=dict)
    imported_from: dict[str, Path] = field(default_factory=dict)
    shadowed: list[Metadata] = field(default_factory=list)
    leftovers: list[tuple[Metadata, str]] = field(default_factory=list)
    disagreements: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """``count``, ``installed``, ``shadowed``, ``unreadable``; ``leftovers`` and ``disagreements`` if there are any.

        Each installed distribution: name, version, ``record_sha256`` or why there is none, ``content_sha256`` where
        there is one (``Metadata``); for what was not installed from an index its ``origin`` (PEP 610), for an editable
        one the state of its source; ``imported_from``.
        """
        found: dict[str, Any] = {
            "count": len(self.installed),
            "installed": [self._installed(self.installed[name]) for name in sorted(self.installed)],
            "shadowed": [describe(each) for each in self.shadowed],
            "unreadable": [{"folder": str(folder), "reason": reason} for folder, reason in self.unreadable],
        }
        if self.leftovers:
            found["leftovers"] = [{**describe(each), "reason": reason} for each, reason in self.leftovers]
        if self.disagreements:
            found["disagreements"] = [{"name": name, "reason": reason} for name, reason in self.disagreements]
        return found

    def _installed(self, metadata: Metadata) -> dict[str, Any]:
        described = {"name": metadata.name, "version": metadata.version, "record_sha256": metadata.record_sha256}
        elsewhere = self.imported_from.get(metadata.name)
        if elsewhere is None:
            origin = origin_of(metadata)
            content = metadata.content_sha256(editable="source" in origin)
            return {**described, **({"content_sha256": content} if content else {}), **origin}
        other = Metadata(elsewhere, elsewhere, metadata.name, "", metadata.record, "", ())
        return {
            "name": metadata.name,
            "version": other.module_version() or unavailable(f"the module in {elsewhere} states none"),
            "record_sha256": unavailable("the module is imported from a folder that no RECORD describes"),
            "imported_from": str(elsewhere),
        }


def capture(path: Sequence[str] | None = None) -> dict[str, Any]:
    """The distributions that the folders of ``path`` (``sys.path`` where left out) give, as ``Search.to_json``."""
    return search(path).to_json()


def search(path: Sequence[str] | None = None) -> DistributionSearch:
    """Look through the folders of ``path``, ``sys.path`` where it is left out, in their order."""
    found = DistributionSearch()
    folders: list[Folder] = []
    for place in _entries(sys.path if path is None else path):
        try:
            folders.append(_folder(place))
        except OSError as error:
            found.unreadable.append((place, error.strerror or str(error)))
    candidates: dict[str, list[Metadata]] = {}
    for folder in folders:
        for metadata in folder.distributions:
            reason = metadata.leftover or _missing_files(metadata, folder)
            if reason:
                found.leftovers.append((metadata, reason))
            else:
                candidates.setdefault(metadata.name, []).append(metadata)
    importable = _Importable(folders)
    for name, several in candidates.items():
        _decide(name, several, importable, found)
    return found


def _missing_files(metadata: Metadata, folder: Folder) -> str:
    """Why nothing of what RECORD lists is installed; "" where something is, or RECORD lists metadata alone."""
    if not metadata.tops or metadata.tops & folder.names:
        return ""
    return "none of the files that its RECORD lists is there: its removal was interrupted"


def _decide(name: str, several: list[Metadata], importable: _Importable, found: DistributionSearch) -> None:
    """Choose the one of ``several`` that is imported, and say what was done with the others."""
    chosen = several[0]
    if len(several) > 1:
        chosen = max(several, key=lambda each: _evidence(each, importable))  # the first of those that are equal
    found.installed[name] = chosen
    found.disagreements += [(name, f"{chosen.place.name}: {remark}") for remark in chosen.remarks]
    for other in several:
        if other is chosen:
            continue
        if other.folder != chosen.folder and importable.own(other) is not None:
            found.shadowed.append(other)
        else:
            where = "the files beside it" if other.folder == chosen.folder else "the module that is imported"
            found.leftovers.append((other, f"{where} are described by {chosen.place.name} in {chosen.folder}"))
            found.disagreements.append((name, f"versions {other.version} and {chosen.version} claim to be installed"))
    elsewhere = importable.before(chosen)
    if elsewhere is not None:
        found.imported_from[name] = elsewhere
        where = f"installed in {chosen.folder} as version {chosen.version}, imported from {elsewhere}"
        found.disagreements.append((name, where))
    elif not isinstance(chosen.record, bytes):
        stated = chosen.module_version()
        if stated is not None and stated != chosen.version:
            found.disagreements.append((name, f"{chosen.place.name} beside a module of version {stated}"))


def _evidence(metadata: Metadata, importable: _Importable) -> tuple[bool, float, bool]:
    """How well metadata describe what is imported: its folder, its files' digests, its version."""
    here = importable.own(metadata) is True
    return here, _agreement(metadata), metadata.module_version() == metadata.version


def _agreement(metadata: Metadata) -> float:
    """The share of RECORD's first Python files, outermost first, that are on disk with their digest."""
    rows = [row for row in metadata.files() if row.path.endswith(".py") and not row.path.startswith("..")]
    rows = sorted(rows, key=lambda row: (row.path.count("/"), row.path))[:_COMPARED]
    agreeing = 0
    for row in rows:
        try:
            content = (metadata.folder / row.path).read_bytes()
        except OSError:
            continue
        agreeing += not row.sha256 or hashlib.sha256(content).hexdigest() == row.sha256
    return agreeing / len(rows) if rows else 0.0


class _Importable:
    """In which folder of the path an import finds a module."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._folders = folders
        self._order = {folder.path: index for index, folder in enumerate(folders)}
        # which names may be modules of which folders: most are of one
        self._places: dict[str, list[int]] = {}
        for index, folder in enumerate(folders):
            for module in {name.partition(".")[0] for name in folder.names}:
                self._places.setdefault(module, []).append(index)

    def own(self, metadata: Metadata) -> bool | None:
        """Whether its modules are imported from its own folder; None where they are not in it."""
        own = self._folders[self._order[metadata.folder]]
        if not any(own.holds_module(module) for module in metadata.modules):
            return None
        return self.before(metadata) is None

    def before(self, metadata: Metadata) -> Path | None:
        """The folder ahead on the path from which one of its modules is imported instead."""
        last = self._order[metadata.folder]
        for module in metadata.modules:
            for index in self._places.get(module, ()):
                if index >= last:
                    break
                if self._folders[index].holds_module(module):
                    return self._folders[index].path
        return None


def _entries(path: Sequence[str]) -> Iterator[Path]:
    """The folders and archives of the path that are there, each once.

    What a package holds for itself and puts on the path when it is imported, as setuptools does, is its own files.
    """
    seen = set()
    for entry in path:
        folder = Path(entry or os.curdir)
        resolved = os.path.realpath(folder)
        of_package = any(each.name in _PACKAGES for each in Path(resolved).parents)
        if resolved not in seen and folder.exists() and not of_package:
            seen.add(resolved)
            yield folder


def _folder(path: Path) -> Folder:
    """What is in a folder or a zip archive of the path. Raises OSError where it cannot be read."""
    archive = None
    if path.is_file():
        import zipfile  # few paths name one

        if not zipfile.is_zipfile(path):
            return Folder(path, frozenset(), ())
        archive = zipfile.Path(path)
    names = sorted(entry.name for entry in archive.iterdir()) if archive else sorted(os.listdir(path))
    top = path if archive is None else archive
    found = [
        read(path, top / name, suffix)
        for name in names
        if (suffix := os.path.splitext(name)[1]) in (".dist-info", ".egg-info")
    ]
    if path.suffix == ".egg" and "EGG-INFO" in names:
        found.append(read(path, top / "EGG-INFO", ".egg"))
    return Folder(path, frozenset(names), tuple(found))
