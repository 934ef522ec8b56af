"""The files that globs of the command line name: those of ``--out`` and ``--metrics``."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.programs.working_folder import Identity, identity_of
from ndrepro.protocol.errors import UsageError
from provenance.errors import StorageError
from provenance.formats.folder_tree import walk

LIMIT = 50_000
_MOST_RECURSIVE = 3


@dataclass(frozen=True)
class DeclaredFiles:
    """Paths that globs match, each once and in order, with their identities; and the globs that match no file."""

    files: dict[str, Identity]
    unmatched: tuple[str, ...]
    problem: str = ""


def expect_globs(option: str, globs: Iterable[str]) -> None:
    """Raises UsageError for a glob that cannot be one."""
    for pattern in globs:
        if not pattern or "\0" in pattern:
            raise UsageError(f"{option} {pattern!r}: expected a path or a glob", f"e.g. {option} 'checkpoints/*.pt'")
        # each looks through every folder again below each that the one before finds
        if pattern.split(os.sep).count("**") > _MOST_RECURSIVE:
            raise UsageError(f"{option} {pattern[:200]!r}: more than {_MOST_RECURSIVE} times **", "one ** is any depth")


def declared_files(folder: Path, globs: Iterable[str], within: Collection[Path] | None = None) -> DeclaredFiles:
    """The regular files that the globs match, relative to ``folder``; of a folder that matches, every file below.

    A link to a folder is followed where the glob names it, and not where a wildcard meets it.
    At most ``LIMIT`` paths are looked at: ``problem`` says where there are more, or folders nested too deeply.
    ``within`` as in ``identity_of``.
    """
    found: dict[str, Identity] = {}
    unmatched: list[str] = []
    try:
        problem = _look(folder, globs, within, found, unmatched)
    except (RecursionError, StorageError):  # of the library's glob, and of ``walk``
        problem = "folders nested too deeply match the globs: not all files are recorded"
    return DeclaredFiles(found, tuple(unmatched), problem)


def _look(
    folder: Path,
    globs: Iterable[str],
    within: Collection[Path] | None,
    found: dict[str, Identity],
    unmatched: list[str],
) -> str:
    """Fill ``found`` and ``unmatched``; why it is not all."""
    looked_at = 0
    for pattern in globs:
        matched = False
        # somebody else's glob is not looked for in the whole file system
        leads_out = within is not None and (os.path.isabs(pattern) or ".." in Path(pattern).parts)
        paths = iter(()) if leads_out else _paths(folder, pattern)
        for path in itertools.islice(paths, LIMIT - looked_at):
            looked_at += 1
            if _behind_link(folder, path, pattern):
                continue
            known = identity_of(folder / path, within)
            if known is not None:
                found[os.path.normpath(path)] = known
                matched = True
        if next(paths, None) is not None:
            return f"more than {LIMIT} files match the globs: the others are not recorded"
        if not matched:
            unmatched.append(pattern)
    return ""


def _behind_link(folder: Path, path: str, pattern: str) -> bool:
    """Whether a path is in a linked folder that only a wildcard of the glob leads to."""
    named = list(itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    folders = Path(path).parts[:-1]
    return any((folder / Path(*folders[:count])).is_symlink() for count in range(len(named) + 1, len(folders) + 1))


def _paths(folder: Path, pattern: str) -> Iterator[str]:
    for path in glob.iglob(pattern, root_dir=folder, recursive=True, include_hidden=True):
        if not (folder / path).is_dir():
            yield path
            continue
        for place, _, names in walk(folder / path):
            below = os.path.relpath(place, folder) if not os.path.isabs(path) else place
            yield from (os.path.join(below, name) for name in names)
