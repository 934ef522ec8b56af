"""Which code ran: the commit, and all by which the work tree differs from it. A dirty run never looks clean.

Three things are kept, each standing for itself: what git knows (commit, tree, branch, remotes), what git would lose
(the patch, untracked files, changes in submodules), and a digest of the Python files that are really imported, which
holds where there is no git at all, and for files that git ignores. Each part is captured by itself: where
one is not available, such as a missing object or an unreadable index, it is ``{"unavailable": reason}`` and the others
are there. That is true as a condition, so that ``if source["dirty"]`` takes doubt for dirt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import is_missing, printable, unavailable
from provenance.capture.untracked_copies import remove
from provenance.capture.work_tree import SUBMODULES, capture_work_tree, captured
from provenance.errors import DigestError, SourceError, StorageError
from provenance.formats.digest import file_digest, tree_digest
from provenance.formats.folder_tree import walk
from provenance.git.repository import Facts, Repository
from provenance.redaction.redact import redact_text

_GIT_FIELDS = ("root", "commit", "tree", "branch", "describe", "remotes", "shallow")
_TREE_FIELDS = ("dirty", "changed", "submodules", "unwatched", "converted", "patch", "untracked")


def capture(
    start: Path,
    into: Path | None,
    *,
    limit_bytes: int = 5_000_000,
    packages: Sequence[Path] = (),
    exclude: Sequence[Path] = (),
    data: Sequence[Path] = (),
) -> dict[str, Any]:
    """The repository that holds ``start``, its state, and below ``into`` what its commit lacks.

    Members, each of them there whatever happens:

    root, commit, tree, describe    of HEAD; ``branch`` is "detached" where HEAD names a commit
    remotes, shallow                name -> URL without user-info; whether history was cut
    dirty                           anything below differs from the commit
    changed                         {count, files: [{path, how}]} of tracked files, by their bytes on disk; with
                                    ``conversion`` where git converts the file, which may hide the change from it
    submodules                      {dirty, changed: [{path, how, commit, and their own dirty, changed, patch, ...}]}
    unwatched                       files that the index was told not to look at; they are looked at all the same
    converted                       {count, files}: unchanged, but not as the commit stores them (line ends, LFS)
    patch, untracked                see ``source_patch`` and ``untracked_copies``; each may take ``limit_bytes``
    excluded                        [{path, reason}] in the work tree that are no source: ``into``, ``exclude``, the
                                    ``data`` that the run reads, other runs, links to ignored folders
    code                            ``package_digest(packages)``

    Raises StorageError if ``into`` cannot be written, and nothing else.
    """
    named = [(place, "no part of the program") for place in exclude]
    named += [(place, "data that the run reads") for place in data if not _holds(place, [start, *packages])]
    named += [(into, "the run itself")] if into else []
    found: dict[str, Any] = printable(_fields(start, into, limit_bytes, packages, named))
    return found


def differing_files(captured: Mapping[str, Any]) -> tuple[list[str], int]:
    """The paths that ``capture`` named as changed or untracked, and how many there are in all."""
    changed, untracked = captured["changed"], captured["untracked"]
    entries: list[Any] = [] if is_missing(changed) else [*changed["files"]]
    count = 0 if is_missing(changed) else changed["count"]
    if not is_missing(untracked):
        kept = [*untracked["copied"], *untracked["left_out"]]
        entries += kept
        count += len(kept) + untracked.get("left_out_too", {}).get("files", 0)
    return [entry["path"] for entry in entries], count


def _holds(folder: Path, places: Iterable[Path]) -> bool:
    return any(place.resolve().is_relative_to(folder.resolve()) for place in places)


def _fields(
    start: Path, into: Path | None, limit_bytes: int, packages: Sequence[Path], named: Sequence[tuple[Path, str]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"excluded": []}
    found["code"] = package_digest(packages) if packages else unavailable("no package was named")
    repository = Repository(start if start.is_dir() else start.parent)
    facts = captured(_facts_of, repository)
    if is_missing(facts):
        return {**dict.fromkeys((*_GIT_FIELDS, *_TREE_FIELDS), facts), **found}
    found = {**_what_git_knows(repository, facts), **found}
    if facts.top is None:
        what = "a bare repository" if facts.bare else "the inside of a git folder"
        return {**found, **dict.fromkeys(_TREE_FIELDS, unavailable(f"{what} has no work tree"))}
    if into is not None:
        remove(into / SUBMODULES)
    return {**found, **capture_work_tree(Repository(facts.top), into, limit_bytes, named)}


def package_digest(folders: Sequence[Path]) -> dict[str, Any]:
    """One digest for the code that runs: every ``*.py`` file below the package folders, whatever git knows of it.

    Returns ``tree_sha256`` (``provenance.formats.digest.tree_digest`` of the files, named from the package's folder on:
    ``ndrepro/protocol/layout.py``) and ``files``, their number; ``unavailable`` where a folder or file cannot be read.
    """
    entries = []
    try:
        for folder in map(Path, folders):
            if not folder.is_dir():
                return unavailable(f"{folder}: not a folder")
            name = folder.resolve().name
            for path in python_files(folder):
                entries.append((f"{name}/{path.relative_to(folder).as_posix()}", file_digest(path)))
        return {"tree_sha256": tree_digest(entries), "files": len(entries)}
    except (DigestError, StorageError) as error:  # unreadable, changing, too deep, or two packages of one name
        return unavailable(error.message)


def python_files(folder: Path) -> Iterator[Path]:
    """Python files, also behind linked folders, as an import would find them; no folder twice."""
    seen = set()
    for current, below, files in walk(folder, followlinks=True):
        below.sort()
        real = os.path.realpath(current)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        # editors' lock files begin with a dot and are broken links; no import finds such a name
        yield from (Path(current, file) for file in files if file.endswith(".py") and not file.startswith("."))


def _facts_of(repository: Repository) -> Facts:
    """Where the repository is. A folder that it ignores, such as an installed package, is not its source."""
    facts = repository.facts()
    if facts.top is not None and repository.folder.resolve() != facts.top.resolve():
        tracked = repository.ask("ls-files", "-z", "--", ".")
        if not tracked and _is_ignored(repository):
            raise SourceError(f"{repository.folder}: ignored by the git repository at {facts.top}, so not its source")
    return facts


def _is_ignored(repository: Repository) -> bool:
    try:
        return bool(repository.ask("check-ignore", "--", str(repository.folder.resolve())))
    except SourceError:  # it answers 1 for "no"
        return False


def _what_git_knows(repository: Repository, facts: Facts) -> dict[str, Any]:
    at_once = repository.head_tree_and_branch()
    commit, tree, branch = at_once or (captured(repository.head), "", captured(repository.branch))
    return {
        "root": str(facts.top or facts.git_folder),
        "commit": commit,
        "tree": commit if is_missing(commit) else tree or captured(repository.tree),
        "branch": branch,
        "describe": commit if is_missing(commit) else captured(_describe, repository),
        "remotes": captured(_remotes, repository),
        "shallow": facts.shallow,
    }


def _describe(repository: Repository) -> str:
    return repository.line("describe", "--always", "--tags", "--long", "--abbrev=12")


def _remotes(repository: Repository) -> dict[str, str]:
    return {name: redact_text(url) for name, url in repository.remotes().items()}
