"""What a work tree holds that its commit does not: changed files, submodules, untracked files, and how dirty that is.

Submodules are captured like the repository itself, below ``submodules/PATH``; a repository inside that is not a
submodule is named with its commit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance.capture.source_patch import capture_patch
from provenance.capture.unavailable import is_missing, unavailable
from provenance.capture.untracked_copies import capture_untracked
from provenance.errors import SourceError, StorageError
from provenance.formats.folder_tree import temporary_folder
from provenance.git.repository import NoCommit, Repository
from provenance.git.scratch_repository import EXECUTABLE, FILE, LINK, SUBMODULE, TreeEntry, add_to_index
from provenance.git.tracked_files import STAGED, Change, GitIndex, compare, conversion_settings, read_commit, read_index
from provenance.git.untracked_files import Untracked, list_untracked

SUBMODULES = "submodules"
_FIELDS = ("dirty", "changed", "submodules", "unwatched", "converted", "patch", "untracked")
_LISTED = 1000
_NESTED = 10  # repositories inside that are looked into
_NO_NAME = "untracked; kept in the patch, because its name is not UTF-8"


def captured(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or why it could not; a folder that cannot be written is the caller's to know."""
    try:
        return function(*arguments)
    except StorageError:
        raise
    except SourceError as error:
        return unavailable(error.message)
    except Exception as error:
        return unavailable(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class _Module:
    """A submodule that differs: the commit that it is at ("" where there is none), and its own captured state."""

    change: Change
    commit: str
    state: Mapping[str, Any]


def capture_work_tree(
    tree: Repository, into: Path | None, limit_bytes: int, named: Sequence[tuple[Path, str]]
) -> dict[str, Any]:
    """The members of ``provenance.capture.source.capture`` that are about the work tree at ``tree.folder``.

    ``named`` are places that are no source, with the reason. Raises StorageError if ``into`` cannot be written.
    """
    read = captured(read_index, tree)
    index = GitIndex() if is_missing(read) else read
    commit, doubt = _baseline(tree, read)
    if is_missing(commit):
        return {**dict.fromkeys(_FIELDS, commit), "excluded": []}
    compared = captured(compare, tree, commit, index)
    untracked = captured(_untracked, tree, commit, index, named)
    modules = captured(_submodules, tree.folder, commit, index, into, limit_bytes, named)
    changes = [] if is_missing(compared) else [*compared.changes]
    changes += [] if is_missing(modules) else [module.change for module in modules]
    names = [] if is_missing(untracked) else untracked.names
    odd = [name for name in names if not _is_utf8(name) and not name.endswith("/")]
    added = [Change(name, _NO_NAME, None, _mode(tree.folder / name)) for name in odd]
    commits = {} if is_missing(modules) else {module.change.path: module.commit for module in modules if module.commit}
    kept = captured(
        capture_untracked, tree.folder, [name for name in names if name not in odd], into, limit_bytes, _nested
    )
    return {
        "dirty": _is_dirty(doubt, (compared, untracked, modules), changes, names),
        "changed": compared if is_missing(compared) else _changed([*changes, *added], doubt),
        "submodules": modules if is_missing(modules) else {"dirty": bool(modules), "changed": _listed(modules)},
        "unwatched": read if is_missing(read) else _pairs(index.unwatched.items(), "how"),
        "converted": compared if is_missing(compared) else _converted(tree, compared.converted),
        "patch": captured(capture_patch, tree, [*changes, *added], commits, into, limit_bytes),
        "untracked": untracked if is_missing(untracked) else kept,
        "excluded": [] if is_missing(untracked) else _pairs(untracked.excluded, "reason"),
    }


def _baseline(tree: Repository, index: Any) -> tuple[Any, str]:
    """What the files are compared with, and why it is not the commit, where it is not."""
    try:
        return read_commit(tree), ""
    except SourceError as error:
        problem = error.message
    try:
        tree.head()
    except NoCommit:
        return {}, ""
    except SourceError as error:
        problem = error.message
    return (unavailable(problem), problem) if is_missing(index) else (index.entries, problem)


def _untracked(
    tree: Repository, commit: Mapping[str, TreeEntry], index: GitIndex, named: Sequence[tuple[Path, str]]
) -> Untracked:
    tracked = commit.keys() | index.entries.keys()
    if index.entries:
        return list_untracked(tree, tracked, named)
    with temporary_folder("ndrepro-index-") as scratch:  # in the place of one that cannot be read
        own = Repository(tree.folder, {"GIT_INDEX_FILE": str(scratch / "index")})
        add_to_index(own, commit.items())
        return list_untracked(own, tracked, named)


def _is_dirty(doubt: str, parts: Iterable[Any], changes: Sequence[Change], untracked: Sequence[str]) -> Any:
    """True, False, or why nobody knows."""
    if doubt:
        return unavailable(doubt)
    if untracked or any(not change.unread for change in changes):
        return True
    if missing := next((part for part in parts if is_missing(part)), None):
        return missing
    return unavailable(f"{changes[0].path}: {changes[0].how}") if changes else False


def _changed(changes: Sequence[Change], doubt: str) -> dict[str, Any]:
    files = [
        {"path": change.path, "how": change.how, **({"conversion": change.conversion} if change.conversion else {})}
        for change in sorted(changes, key=lambda change: change.path)[:_LISTED]
    ]
    against = {"against": f"the index, because of the commit: {doubt}"} if doubt else {}
    return {"count": len(changes), "files": files, **against}


def _submodules(
    top: Path,
    commit: Mapping[str, TreeEntry],
    index: GitIndex,
    into: Path | None,
    limit_bytes: int,
    named: Sequence[tuple[Path, str]],
) -> list[_Module]:
    """The submodules that differ, each captured below ``into/submodules``."""
    found = []
    for path in sorted(commit.keys() | index.entries.keys()):
        before, staged = commit.get(path), index.entries.get(path)
        if SUBMODULE not in (before and before.mode, staged and staged.mode):
            continue
        place = None if into is None or not _is_utf8(path) else into / SUBMODULES / path
        how, name, state = _submodule(top / path, before, place, limit_bytes, named)
        if not how and index.entries and staged != before:
            how = STAGED
        if how:
            mode = SUBMODULE if name else None
            found.append(_Module(Change(path, how, before, mode, unread="dirty" not in state), name, state))
    return found


def _submodule(
    folder: Path, before: TreeEntry | None, into: Path | None, limit_bytes: int, named: Sequence[tuple[Path, str]]
) -> tuple[str, str, Mapping[str, Any]]:
    """How a submodule differs (empty: it does not), the commit that it is at, and its own state."""
    if folder.is_symlink() or not folder.is_dir():
        return "deleted", "", {"dirty": True}
    if not os.path.lexists(folder / ".git"):  # not checked out
        return ("files without their repository", "", {"dirty": True}) if any(folder.iterdir()) else ("", "", {})
    module = Repository(folder)
    try:
        top = module.facts().top
        if top is None or not top.samefile(folder):
            raise SourceError(f"{folder}: its git folder is not there")
        name = module.head()
    except SourceError as error:
        return error.message, "", unavailable(error.message)
    state = capture_work_tree(module, into, limit_bytes, named)
    words = ["another commit"] if before is None or before.oid != name else []
    words += ["changed files"] if is_missing(state["changed"]) or state["changed"]["count"] else []
    words += ["untracked files"] if is_missing(state["untracked"]) or any(state["untracked"].values()) else []
    return ", ".join(words), name, state


def _listed(modules: Iterable[_Module]) -> list[dict[str, Any]]:
    return [
        {"path": module.change.path, "how": module.change.how, "commit": module.commit or None, **module.state}
        for module in list(modules)[:_LISTED]
    ]


def _nested(folder: Path, number: int) -> dict[str, Any]:
    """The commit of a repository inside that is no submodule.

    Its files are not compared: for that git would run the programs that its configuration names, and it may have come
    with somebody's archive. `git status` does not look into it either.
    """
    if number >= _NESTED:
        return unavailable(f"more than {_NESTED} repositories lie inside")
    dirty = unavailable("its files were not compared, since git would obey its configuration")
    return {"commit": captured(Repository(folder).head), "dirty": dirty}


def _pairs(pairs: Iterable[tuple[str, str]], second: str) -> list[dict[str, str]]:
    return [{"path": path, second: word} for path, word in list(pairs)[:_LISTED]]


def _converted(tree: Repository, paths: Sequence[str]) -> dict[str, Any]:
    """Files that git converted when it checked them out, with the settings that had a say in it."""
    if not paths:
        return {"count": 0, "files": []}
    return {"count": len(paths), "files": list(paths[:_LISTED]), "settings": conversion_settings(tree)}


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _mode(path: Path) -> str | None:
    """The mode that git would record for an untracked file or link; None for what is neither, or gone."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISLNK(kind):
        return LINK
    return (EXECUTABLE if kind & stat.S_IXUSR else FILE) if stat.S_ISREG(kind) else None
