"""Whether git tracks a path, by every repository that holds it and not by the nearest alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from provenance.errors import SourceError, UsageError
from provenance.git.repository import Repository


def tracked(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each repository that tracks one of these absolute paths, what is below it, a link on its way, or where that
    leads, with the first such name there.

    Which folders are repositories is read from their ``.git``, which no commit can hold: files of a commit can make any
    other folder look like one. Case does not count, as on some file systems. A repository that git cannot read, or no
    git, says nothing.
    """
    return _tracked(way for each in paths for way in _ways(each))


def expect_no_tracked_link(place: Path, cure: str) -> None:
    """Raise UsageError where git tracks a link on the way to what is to be written: a commit chose where it leads."""
    place = place.absolute()
    for top, name in _tracked(each for each in (place, *place.parents) if each.is_symlink()):
        raise UsageError(f"{place}: a symbolic link, {name} of {top}, which is not written through", cure)


def _tracked(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    held: dict[Path, list[str]] = {}
    for path in paths:
        for top in path.parents:
            if os.path.lexists(top / ".git"):
                held.setdefault(top, []).append(f":(icase,literal){path.relative_to(top)}")
    for top, names in held.items():
        # said outright, git looks for no repository, and does not ask whose it is
        repository = Repository(top, {"GIT_DIR": str(top / ".git"), "GIT_WORK_TREE": str(top)})
        try:
            found = repository.ask("ls-files", "-z", "--", *names)
        except SourceError:
            continue
        if found:
            yield top, found.partition("\0")[0]


def _ways(path: Path) -> Iterator[Path]:
    """A path, the links above it, and where these lead: git answers for nothing beyond a link."""
    yield path
    links = [each for each in path.parents if each.is_symlink()]
    yield from links
    if links or path.is_symlink():
        yield path.resolve()
