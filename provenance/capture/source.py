"""Which code ran: the commit, and all by which the work tree differs from it. A dirty run never looks clean.

Three things are kept, each standing for itself: what git knows (commit, tree, branch, remotes), what git would lose
(the patch, untracked files), and a digest of the Python files that are really imported, which holds where there is no
git at all, and for files that git was told to ignore. What could not be found out is ``{"unavailable": reason}``:
true as a condition, so that ``if source["dirty"]`` takes doubt for dirt.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from provenance.capture.git import Facts, Repository, Status, status, unwatched
from provenance.capture.unavailable import is_missing, printable, unavailable
from provenance.capture.worktree import PATCH, UNTRACKED, capture_patch, capture_untracked
from provenance.errors import DigestError, SourceError, StorageError
from provenance.formats.digest import file_digest, tree_digest
from provenance.redaction.redact import redact_text

_GIT_FIELDS = ("root", "commit", "tree", "branch", "describe", "remotes", "shallow")
_TREE_FIELDS = ("dirty", "changed", "submodules", "unwatched", "patch", "untracked")
_LISTED = 1000


def capture(
    start: Path,
    into: Path | None,
    *,
    limit_bytes: int = 5_000_000,
    packages: Sequence[Path] = (),
    exclude: Sequence[Path] = (),
) -> dict[str, Any]:
    """The repository that holds ``start``, its state, and below ``into`` what its commit lacks.

    Members, each of them there whatever happens:

    root, commit, tree, describe    of HEAD; ``branch`` is "detached" where HEAD names a commit
    remotes, shallow                name -> URL without user-info; whether history was cut
    dirty                           anything below differs from the commit
    changed                         {count, files: [{path, how}]} of tracked files
    submodules                      {dirty, changed: [{path, how}]}
    unwatched                       files that the index was told not to look at; they are looked at all the same
    patch, untracked                see ``provenance.capture.worktree``; each may take ``limit_bytes``
    excluded                        ``into`` and ``exclude`` where they lie in the work tree: not untracked files
    code                            ``package_digest(packages)``

    Raises StorageError if ``into`` cannot be written, and nothing else.
    """
    found: dict[str, Any] = printable(_fields(start, into, limit_bytes, packages, exclude))
    return found


def _fields(
    start: Path, into: Path | None, limit_bytes: int, packages: Sequence[Path], exclude: Sequence[Path]
) -> dict[str, Any]:
    found: dict[str, Any] = {"excluded": []}
    found["code"] = package_digest(packages) if packages else unavailable("no package was named")
    repository = Repository(start if start.is_dir() else start.parent)
    facts = _captured(_facts_of, repository)
    if is_missing(facts):
        return {**dict.fromkeys((*_GIT_FIELDS, *_TREE_FIELDS), facts), **found}
    found = {**_what_git_knows(repository, facts), **found}
    if facts.top is None:
        what = "a bare repository" if facts.bare else "the inside of a git folder"
        return {**found, **dict.fromkeys(_TREE_FIELDS, unavailable(f"{what} has no work tree"))}
    with tempfile.TemporaryDirectory(prefix="ndrepro-index-") as scratch:
        tree = _captured(_copy_index, facts, Path(scratch))
        hidden = tree if is_missing(tree) else _captured(unwatched, tree)
        problem = hidden if is_missing(hidden) else _captured(_watch, tree, facts.top, hidden, Path(scratch))
        if is_missing(problem):  # what the index hides cannot be seen
            return {**found, **dict.fromkeys(_TREE_FIELDS, problem)}
        found.update(_what_git_would_lose(tree, facts.top, found["commit"], into, limit_bytes, exclude))
    return {**found, "unwatched": _listed(hidden)}


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
            for path in _modules(folder):
                entries.append((f"{name}/{path.relative_to(folder).as_posix()}", file_digest(path)))
        return {"tree_sha256": tree_digest(entries), "files": len(entries)}
    except DigestError as error:  # unreadable, changing, or two packages of one name
        return unavailable(error.message)


def _modules(folder: Path) -> Iterator[Path]:
    """Python files, also behind linked folders, as an import would find them; no folder twice."""
    seen = set()
    for current, below, files in os.walk(folder, followlinks=True):
        below.sort()
        real = os.path.realpath(current)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        # editors' lock files begin with a dot and are broken links; no import finds such a name
        yield from (Path(current, file) for file in files if file.endswith(".py") and not file.startswith("."))


def _captured(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or why it could not; a folder that cannot be written is the caller's to know."""
    try:
        return function(*arguments)
    except StorageError:
        raise
    except SourceError as error:
        return unavailable(error.message)
    except Exception as error:
        return unavailable(f"{type(error).__name__}: {error}")


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
    branch = _captured(repository.branch)
    commit = _captured(_revision, repository, "HEAD^{commit}", branch)
    return {
        "root": str(facts.top or facts.git_folder),
        "commit": commit,
        "tree": commit if is_missing(commit) else _captured(_revision, repository, "HEAD^{tree}", branch),
        "branch": branch,
        "describe": commit if is_missing(commit) else _captured(_describe, repository),
        "remotes": _captured(_remotes, repository),
        "shallow": facts.shallow,
    }


def _revision(repository: Repository, name: str, branch: Any) -> str:
    try:
        return repository.line("rev-parse", "--verify", name)
    except SourceError as error:
        if "Needed a single revision" in error.message:
            raise SourceError(f"{repository.folder}: no commit yet on branch {branch}") from None
        raise


def _describe(repository: Repository) -> str:
    return repository.line("describe", "--always", "--tags", "--long", "--abbrev=12")


def _remotes(repository: Repository) -> dict[str, str]:
    return {name: redact_text(url) for name, url in repository.remotes().items()}


def _copy_index(facts: Facts, scratch: Path) -> Repository:
    """The work tree with a copy of its index: `git diff` writes to it, and it is to look where it was told not to.

    The time of the index counts: git reads again the files that are not older than it.
    """
    assert facts.top is not None
    if (facts.git_folder / "index").exists():
        shutil.copy2(facts.git_folder / "index", scratch / "index")
    return Repository(facts.top, {"GIT_INDEX_FILE": str(scratch / "index")})


def _watch(tree: Repository, top: Path, hidden: tuple[tuple[str, str], ...], scratch: Path) -> None:
    """Have the index look at every file; what a sparse checkout leaves out stays left out."""
    if hidden:
        names = [path for path, how in hidden if how == "assume-unchanged" or os.path.lexists(top / path)]
        listing = scratch / "names"
        listing.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in names))
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            tree.ask("update-index", flag, "-z", "--stdin", stdin=listing)


def _what_git_would_lose(
    tree: Repository, top: Path, commit: Any, into: Path | None, limit_bytes: int, exclude: Sequence[Path]
) -> dict[str, Any]:
    excluded = list(_inside(top, [*exclude, *([into] if into else [])]))
    state = _captured(status, tree)
    base = _captured(_empty_tree, tree) if is_missing(commit) else commit
    patch = base if is_missing(base) else _captured(capture_patch, tree, base, into, limit_bytes)
    if is_missing(state):
        known = dict.fromkeys(("changed", "submodules", "untracked"), state)
        dirty = state if is_missing(patch) else True
        return {"dirty": dirty, **known, "patch": patch, "excluded": excluded}
    names = [name for name in state.untracked if not _is_below(name, excluded)]
    untracked = _captured(capture_untracked, top, names, into, limit_bytes)
    return {
        "dirty": _is_dirty(state, names, patch),
        "changed": {"count": len(state.changed), "files": _listed(state.changed)},
        "submodules": {"dirty": bool(state.submodules), "changed": _listed(state.submodules)},
        "patch": patch,
        "untracked": untracked,
        "excluded": excluded,
    }


def _is_dirty(state: Status, untracked: list[str], patch: dict[str, Any]) -> Any:
    if state.changed or state.submodules or untracked:
        return True
    if "unavailable" in patch:
        return patch
    return "none" not in patch


def _empty_tree(repository: Repository) -> str:
    """The name of the tree without files, in the repository's own hash."""
    return repository.line("hash-object", "-t", "tree", "--stdin")


def _listed(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"path": path, "how": how} for path, how in list(pairs)[:_LISTED]]


def _inside(top: Path, folders: Iterable[Path]) -> Iterator[str]:
    """Those of the folders that lie in the work tree, relative to it; of the work tree itself, what is written."""
    for folder in folders:
        relative = os.path.relpath(os.path.realpath(folder), os.path.realpath(top))
        if relative == os.curdir:
            yield from (PATCH, UNTRACKED)
        elif relative != os.pardir and not relative.startswith(os.pardir + os.sep):
            yield Path(relative).as_posix()


def _is_below(name: str, folders: list[str]) -> bool:
    return any(name.rstrip("/") == folder or name.startswith(folder + "/") for folder in folders)
