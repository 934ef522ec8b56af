"""What differs between the code of two runs, as a diff of files, from what their manifests and folders hold.

A recorded state is a commit, the patch over it and the files that git did not know. Where a repository available has
the commits, both states are rebuilt as trees in a scratch repository that borrows its objects, and git compares them:
the repository itself is not written to, its work tree is not looked at, and no configuration of its own is in force.
Patches and files are believed only with the digests that were signed. Where a state cannot be rebuilt, the files that
the recorded patches touch are named instead, and ``caveats`` says why and what is missing.

How a ``CodeDiff`` was found (``how``):

    same      both states are the same commit, patch and files; nothing had to be compared
    git       the two trees were compared
    patches   one commit, whose repository is not available: the files that are patched differently
    unknown   nothing can be said beyond the digests
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from provenance.capture.source_patch import PATCH
from provenance.comparison.recorded_source import untracked_identities
from provenance.comparison.recorded_tree import SourceState, borrowing, is_clean, recorded_tree, signed_file
from provenance.errors import SourceError
from provenance.formats.folder_tree import temporary_folder

TEXT_LIMIT_BYTES = 1_000_000
_DIFF = "diff --no-color --no-ext-diff --no-textconv --no-renames --no-indent-heuristic --diff-algorithm=myers"
# --unified asks for the text too, so it is not for the numbers
_TEXT = "--unified=3 --src-prefix=a/ --dst-prefix=b/"


@dataclass(frozen=True)
class FileChange:
    """A file that differs: lines added and removed, None where they cannot be counted (binary, or patches alone)."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True)
class CodeDiff:
    """Files that differ, the unified diff (``how`` "git" only; cut where ``truncated``), and what is missing in it."""

    how: str
    files: tuple[FileChange, ...] = ()
    text: str = ""
    truncated: bool = False
    caveats: tuple[str, ...] = ()


def code_diff(first: SourceState, second: SourceState, repositories: Sequence[Path] = ()) -> CodeDiff:
    """Compare the code of two runs. ``repositories`` are folders inside git repositories that may have the commits.

    Never raises for what cannot be found: that is a ``caveat``.
    """
    if first.identity is not None and first.identity == second.identity:
        return CodeDiff("same")
    if first.commit is None or second.commit is None:
        whose = " and ".join(name for name, state in _named(first, second) if state.commit is None)
        return CodeDiff("unknown", caveats=(f"the commit of the {whose} run is not known",))
    try:
        with temporary_folder("ndrepro-diff-") as scratch:
            return _compare_trees(first, second, repositories, scratch)
    except SourceError as error:
        return _compare_patches(first, second, error.message)


def _named(first: SourceState, second: SourceState) -> tuple[tuple[str, SourceState], tuple[str, SourceState]]:
    return ("first", first), ("second", second)


def _compare_trees(first: SourceState, second: SourceState, repositories: Sequence[Path], scratch: Path) -> CodeDiff:
    """Rebuild both states and have git compare them. Raises SourceError where one cannot be rebuilt."""
    at_hand = borrowing(scratch, repositories, first.commit or "")
    repository = at_hand.repository
    caveats: list[str] = []
    trees = [recorded_tree(at_hand, state, f"the {name} run's", caveats) for name, state in _named(first, second)]
    files = tuple(_numbers(repository.ask(*_DIFF.split(), "--numstat", "-z", *trees, "--")))
    text = _Text(TEXT_LIMIT_BYTES)
    if files:
        repository.stream(text, *_DIFF.split(), *_TEXT.split(), *trees, "--")
    return CodeDiff("git", files, text.data.decode("utf-8", "replace"), text.truncated, tuple(caveats))


def _numbers(output: str) -> Iterator[FileChange]:
    """git-diff(1), --numstat -z: added, removed ("-" in a binary file), path."""
    for entry in filter(None, output.split("\0")):
        added, removed, path = entry.split("\t", 2)
        yield FileChange(path, *(int(count) if count.isdecimal() else None for count in (added, removed)))


class _Text:
    """The first bytes of a diff."""

    def __init__(self, limit: int) -> None:
        self.data = b""
        self.truncated = False
        self._limit = limit

    def write(self, data: bytes) -> None:
        """Take some more."""
        room = self._limit - len(self.data)
        self.truncated = self.truncated or len(data) > room
        if room:
            self.data += data[:room]


def _compare_patches(first: SourceState, second: SourceState, why: str) -> CodeDiff:
    """Of one commit: the files that only one patch has, or that are patched differently."""
    if first.commit != second.commit:
        return CodeDiff("unknown", caveats=(why,))
    try:
        sections = [_sections(state, f"the {name} run's {PATCH}") for name, state in _named(first, second)]
    except SourceError as error:
        return CodeDiff("unknown", caveats=tuple(dict.fromkeys((why, error.message))))
    kept = [untracked_identities(state.recorded.get("untracked")) for state in (first, second)]
    differing = {
        name for a, b in (sections, kept) for name in a.keys() | b.keys() if a.get(name) != b.get(name)
    }  # a name is tracked or not: the two kinds do not mix
    return CodeDiff("patches", tuple(FileChange(name, None, None) for name in sorted(differing)), caveats=(why,))


def _sections(state: SourceState, what: str) -> dict[str, bytes]:
    """File -> its part of the recorded patch; empty where the tree was clean. Raises SourceError."""
    patch = state.recorded.get("patch")
    if is_clean(patch):
        return {}
    data = signed_file(state, PATCH, patch, what).read_bytes()
    found = {}
    for section in ("\n" + os.fsdecode(data)).split("\ndiff --git ")[1:]:
        heading = section.partition("\n")[0]
        # "a/NAME b/NAME", both the same where renames are not looked for; a quoted name stays as it is written
        name = heading[2 : len(heading) // 2] if heading.startswith("a/") else heading
        found[name] = os.fsencode(section.rstrip("\n"))
    return found
