"""Differences of two locks, the groups of them that must change together, and locks between the two.

    lock A, lock B ──> changes: one a distribution (another version, only in A, only in B), and one for Python
                   ──> groups: changes that no resolver would take apart, such as torch with the torchvision built on it
                   ──> mixture: A's lock with some changes made, every hash taken from A or B

A mixture pins only files that one of the two locks pins, so nothing enters that neither holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ndrepro.execution.environments import lockfile
from ndrepro.execution.environments.matrix import Cell
from ndrepro.execution.environments.resolver import resolve
from ndrepro.protocol.errors import EnvironmentMissing
from provenance.capture.distribution_metadata import normalized

PYTHON = "python"
_PATIENCE_SECONDS = 60  # a resolver that takes longer builds old sources to read what they require
_HEAD = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==")


@dataclass(frozen=True)
class VersionChange:
    """A distribution (or "python") with its versions in A and B; None where it is not there."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} {self.after} added"
        return f"{self.name} {self.before} -> {self.after}" if self.after else f"{self.name} {self.before} removed"


Group = tuple[VersionChange, ...]


def changes(first: Cell, second: Cell) -> tuple[VersionChange, ...]:
    """Every difference of two cells, Python first, then distributions by name."""
    before = {PYTHON: first.python, **{pin.name: pin.version for pin in first.pins}}
    after = {PYTHON: second.python, **{pin.name: pin.version for pin in second.pins}}
    names = sorted(before.keys() | after.keys(), key=lambda name: (name != PYTHON, name))
    found = (VersionChange(name, before.get(name), after.get(name)) for name in names)
    return tuple(change for change in found if change.before != change.after)


def groups(first: Cell, second: Cell, consistent: Callable[[Iterable[VersionChange]], bool]) -> tuple[Group, ...]:
    """The changes, those together that only move together: see below. The group with torch comes first.

    A change of version that ``consistent`` refuses by itself is joined with the changes of what requires it, or what it
    requires, as the locks' own comments say: with those that cannot move alone either, then with what only one of the
    cells has, then with the rest, until the set is consistent or there is nothing more to join. Python stays by itself:
    what it depends on, the trials show.
    """
    everything = changes(first, second)
    before, after = (requirers(cell.lock.read_text("utf-8")) for cell in (first, second))
    neighbours = _neighbours(before, after)
    found: list[set[VersionChange]] = [{change} for change in everything]
    bound = {change for change in everything if not _moves_alone(change, before, consistent)}
    kinds: tuple[Callable[[VersionChange], bool], ...] = (
        lambda change: change in bound,
        lambda change: change.before is None or change.after is None,
        lambda change: True,
    )
    for change in sorted(bound, key=lambda change: (change.name != "torch", change.name)):
        group = next(group for group in found if change in group)
        for wanted in kinds:
            while len(group) == 1 or not consistent(group):
                near = {name for member in group for name in neighbours.get(member.name, ())}
                joined = [
                    other
                    for other in found
                    if other is not group and any(member.name in near and wanted(member) for member in other)
                ]
                if not joined:
                    break
                found = [other for other in found if not any(other is each for each in joined)]
                group.update(*joined)
    ordered = [tuple(sorted(group, key=lambda change: change.name)) for group in found]
    return tuple(sorted(ordered, key=lambda group: (lead(group).name != "torch", lead(group).name)))


def _moves_alone(
    change: VersionChange, before: Mapping[str, frozenset[str]], consistent: Callable[[Iterable[VersionChange]], bool]
) -> bool:
    """Whether a change may be made by itself; asked only where the locks do not say."""
    if change.name == PYTHON or change.before is None:
        return True  # one more distribution hurts nobody
    if change.after is None:
        return not before.get(change.name)
    return consistent((change,))


def lead(group: Sequence[VersionChange]) -> VersionChange:
    """The change that a group is called after: torch's where it is there, else the first that both cells have."""
    torch = next((change for change in group if change.name == "torch"), None)
    return torch or next((change for change in group if change.before and change.after), group[0])


def mixture(first: Cell, second: Cell, chosen: Iterable[VersionChange]) -> str:
    """The lock of ``first`` with the changes made that are ``chosen``; it begins with its ``# python:`` line."""
    moved = {change.name for change in chosen}
    python = second.python if PYTHON in moved else first.python
    before, after = (entries(cell.lock.read_text("utf-8")) for cell in (first, second))
    names = sorted(before.keys() | after.keys())
    kept = [(after if name in moved else before).get(name, "") for name in names]
    return f"# python: {python}\n" + "".join(kept)


def entries(lock: str) -> dict[str, str]:
    """A lock's text by distribution, without comments."""
    found = {}
    for entry in lockfile.entries(lock):
        head = _HEAD.match(entry)
        if head is not None:
            found[normalized(head["name"])] = entry.rstrip("\n") + "\n"
    return found


def requirers(lock: str) -> dict[str, frozenset[str]]:
    """What each distribution of a lock is required by, from the comments that uv leaves behind it ("via")."""
    found: dict[str, frozenset[str]] = {}
    name = None
    for line in lock.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            name = normalized(head["name"])
            found[name] = frozenset()
        elif name is not None and line.startswith("    #"):
            words = re.findall(r"[A-Za-z0-9][\w.-]*", line.strip().removeprefix("#").strip().removeprefix("via"))
            found[name] |= {normalized(word) for word in words}
    return found


def is_consistent(lock: str) -> bool:
    """Whether a resolver takes the pins of a lock as they are: all fit each other, and none is missing."""
    pins = entries(lock)
    python = lock.splitlines()[0].rpartition(" ")[2]
    try:
        resolved = resolve(map(_pin, pins.values()), python, "--no-annotate", timeout=_PATIENCE_SECONDS)
    except EnvironmentMissing:
        return False
    return entries(resolved).keys() <= pins.keys()


def _pin(entry: str) -> str:
    return entry.split("\n")[0].removesuffix("\\").strip()


def _neighbours(*graphs: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """Both directions of what requires what, of several locks together."""
    found: dict[str, set[str]] = {}
    for graph in graphs:
        for name, by in graph.items():
            for other in by:
                found.setdefault(name, set()).add(other)
                found.setdefault(other, set()).add(name)
    return found
