"""What differs between two manifests, group by group; what could not be compared; and how much is the same.

Every leaf of both predicates is compared and has its place in one of the groups (``provenance.comparison.groups``), the
installed packages one by one. What a run could not find out (``{"unavailable": reason}``) is never taken for equal: it
is named as unknown, with the reason. What there truly was not (``{"none": reason}``) is equal to another nothing.

Laws: ``diff(m, m)`` has no change; ``diff(b, a)`` is ``diff(a, b)`` with its sides exchanged. Pure: nothing is read
but the two manifests, and neither needs to be of the newest schema.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from provenance.attestation.manifest import Manifest
from provenance.attestation.packages import distributions, edited_files, foreign_files
from provenance.capture.unavailable import is_missing, unavailable
from provenance.comparison.groups import GROUPS, document, place
from provenance.comparison.json_leaves import ABSENT, equal, leaves, only_what_differs, reason


@dataclass(frozen=True)
class FieldChange:
    """One thing that is not the same: its name, its value on each side (JSON, or ``ABSENT``), and a remark.

    Of lists and of texts with several lines, each side holds only what the other has not.
    """

    name: str
    first: Any
    second: Any
    note: str = ""


@dataclass(frozen=True)
class Unknown:
    """One thing that cannot be compared, since a side could not find it out: each side's reason, "" where it could."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Group:
    """One of GROUPS: what changed, what is unknown, and how many values were compared and found the same."""

    name: str
    changes: tuple[FieldChange, ...]
    unknown: tuple[Unknown, ...]
    same: int

    def get(self, name: str) -> FieldChange | None:
        """The change of that name."""
        return next((change for change in self.changes if change.name == name), None)


@dataclass(frozen=True)
class ManifestDiff:
    """Every group, in the order of GROUPS."""

    groups: tuple[Group, ...]

    def __getitem__(self, name: str) -> Group:
        """The group of that name."""
        return self.groups[GROUPS.index(name)]

    @property
    def changed(self) -> tuple[str, ...]:
        """The groups in which something changed."""
        return tuple(group.name for group in self.groups if group.changes)


def diff(
    first: Manifest,
    second: Manifest,
    results: Collection[str] | None = None,
    observed: tuple[Mapping[str, Any], ...] = ({}, {}),
) -> ManifestDiff:
    """Compare two manifests.

    ``results`` names the artifacts that are results; where it is left out, all are but the recorder's own files.
    ``observed`` is what the processes of two recorded programs were seen to use, from their run folders.
    """
    found = {name: _Gathered() for name in GROUPS}
    before, after = (
        {**document(manifest, results), "observed": dict(seen)}
        for manifest, seen in zip((first, second), observed, strict=True)
    )
    for path, a, b in leaves(before, after):
        group, name = place(path)
        if group:
            found[group].add(name, a, b)
    installed = distributions(first), distributions(second)
    if any(map(reason, installed)):
        found["packages"].add("every distribution", *installed)
    else:
        for name in sorted(installed[0].keys() | installed[1].keys()):
            found["packages"].add_package(name, installed[0].get(name), installed[1].get(name))
    found["packages"].add_files("edited file", edited_files(first), edited_files(second))
    found["packages"].add_files("loaded", foreign_files(first), foreign_files(second))
    return ManifestDiff(tuple(gathered.group(name) for name, gathered in found.items()))


@dataclass
class _Gathered:
    """A group while it is gathered."""

    changes: list[FieldChange] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    same: int = 0

    def add(self, name: str, first: Any, second: Any) -> None:
        reasons = reason(first), reason(second)
        if any(reasons):
            self.unknown.append(Unknown(name, *reasons))
        elif equal(first, second):
            self.same += 1
        else:
            self.changes.append(FieldChange(name, *only_what_differs(first, second)))

    def add_package(self, name: str, first: dict[str, Any] | None, second: dict[str, Any] | None) -> None:
        """By version; of the same version by RECORD; of the same RECORD by where it was installed from.

        Where both sides have the digest of the content, it decides: RECORD differs between two folders, too.
        """
        if first is None or second is None:
            versions = [ABSENT if side is None else side["version"] for side in (first, second)]
            self.add(name, versions[0], versions[1])
        elif not equal(first["version"], second["version"]) or reason(first["version"]):
            self.add(name, first["version"], second["version"])
        elif isinstance(first["record"], str) and isinstance(second["record"], str):
            kind = "content_sha256" if "content_sha256" in first and "content_sha256" in second else "record"
            if first[kind] == second[kind]:
                self.add(f"{name}: origin", first.get("origin", ABSENT), second.get("origin", ABSENT))
                self.add_source(name, first.get("source", ABSENT), second.get("source", ABSENT))
            else:
                note = f"version {first['version']} on both sides, but another RECORD: installed files differ"
                self.changes.append(FieldChange(name, first[kind], second[kind], note))
        else:
            self.add(f"{name}: RECORD", first["record"], second["record"])

    def add_source(self, name: str, first: Any, second: Any) -> None:
        """The state of the source of an editable installation, where a side has one."""
        for path, a, b in leaves(first, second, f"{name}: source"):
            if not is_missing(a) or not is_missing(b) or reason(a) or reason(b):
                self.add(path, a, b)

    def add_files(self, kind: str, first: dict[str, Any] | None, second: dict[str, Any] | None) -> None:
        """Files that no RECORD vouches for, by name; nothing where neither run names one, or looked for them."""
        if not first and not second:
            return
        unlooked = unavailable("recorded before the files of packages were compared")
        sides = [unlooked if side is None else side for side in (first, second)]
        if any(map(reason, sides)):
            self.add(f"{kind}s" if kind != "loaded" else "loaded code", *sides)
            return
        for name in sorted({*sides[0], *sides[1]}):
            self.add(f"{kind} {name}", sides[0].get(name, ABSENT), sides[1].get(name, ABSENT))

    def group(self, name: str) -> Group:
        return Group(name, tuple(self.changes), tuple(self.unknown), self.same)
