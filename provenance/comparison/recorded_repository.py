"""A repository for code that was checked out again, in which a program's questions to git have the recorded answers.

    HEAD, branch   as recorded
    history        commits alone: their number and distances are right, and no earlier version of a file can be had
    files          those of the commit that the folder has; results that are to be computed again are in no object
    tag            the one that the recorded description names, made anew, without a message
    status         changed is what was recorded as changed

git makes it, and copies objects into it as a fetch does, which names each by its bytes. Of the repository that lends
them nothing else gets there: no setting, hook, filter, remote, replaced object, alternate or other reference. What the
name of the commit does not bind is in the signed record (the names of branch and tag), but for the place of the tag in
the history. Nothing in the folder is obeyed by git here: no filter is known.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from provenance.capture.unavailable import printable
from provenance.comparison.recorded_source import (
    COPIED,
    LEFT_OUT,
    changed_submodules,
    count_of,
    members,
    untracked_files,
    untracked_not_named,
)
from provenance.comparison.recorded_tree import SourceState, borrowing, submodule
from provenance.errors import SourceError
from provenance.formats.digest import FileDigest
from provenance.formats.folder_tree import remove_tree, temporary_folder
from provenance.git.commit_text import unread_parts
from provenance.git.repository import Repository
from provenance.git.scratch_repository import LINK, SUBMODULE, new_repository
from provenance.git.tracked_files import CONVERSION_SETTINGS, read_commit

_DESCRIPTION = re.compile(r"(.+)-([0-9]+)-g[0-9a-f]+")
_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONVERSIONS = ("true", "false", "input", "lf", "crlf", "native")
# letters of an abbreviated name, where no more are needed
_SHORTEST = 7
_NOBODY = {"GIT_COMMITTER_NAME": "ndrepro", "GIT_COMMITTER_EMAIL": "ndrepro", "GIT_COMMITTER_DATE": "@0 +0000"}


@dataclass(frozen=True)
class GivenRepositories:
    """What was made.

    Attributes:
        folders: every ``.git``, that of the code first, those of submodules after it.
        committed: what the commit has for files that are changed, which only a repository shows: name -> digest.
        names: what it answers with and neither the reviewer's clone nor the shown commits say: names of branch and tag,
            settings, parts of commits that ``git log`` does not show, changes that are kept from it.
        differences: what git answers otherwise than it did, in words.
    """

    folders: tuple[Path, ...] = ()
    committed: Mapping[str, FileDigest] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()


def give_repository(state: SourceState, lender: Path, place: Path) -> GivenRepositories:
    """Make the repository of the code in ``place``, and those of its submodules.

    Args:
        state: the recorded source.
        lender: a folder in a git repository that has the commit.
        place: the code that was checked out, with all that a program will find there.

    Raises SourceError where it cannot be made; then none is there.
    """
    if state.commit is None:
        raise SourceError("the run recorded no commit")
    if os.path.lexists(place / ".git"):
        raise SourceError(f"{place / '.git'}: something else is there")
    try:
        with temporary_folder("ndrepro-git-") as scratch:
            return _Making(state, state.commit, lender, scratch, place).all()
    except (SourceError, OSError) as error:
        remove_tree(place / ".git", ignore_errors=True)
        if isinstance(error, OSError):
            raise SourceError(f"{place / '.git'}: {error.strerror}") from error
        raise


class _Making:
    """One repository while it is made. Arguments as of ``give_repository``; ``scratch`` is an empty folder."""

    def __init__(self, state: SourceState, commit: str, lender: Path, scratch: Path, place: Path) -> None:
        self._state, self._commit, self._lender, self._place = state, commit, lender, place
        self._lent = borrowing(scratch, [lender], commit)
        self._scratch = scratch
        self._git = place / ".git"
        self._given = new_repository(place, len(commit))
        self._differences: list[str] = []
        self._names: list[str] = []

    def all(self) -> GivenRepositories:
        """Fill it."""
        self._copy_history()
        entries = read_commit(self._given)
        self._configure()
        links = [path for path, entry in entries.items() if entry.mode == LINK and os.path.islink(self._place / path)]
        if links:  # which git compares with their blobs, and files with their names alone
            self._lent.hand_over({entries[path].oid for path in links}, self._given, anew=True)
        self._given.ask("read-tree", self._commit)
        self._given.ask("update-index", "-q", "--refresh")
        changed = dict(self._changed())
        lost = {path for path, how in changed.items() if how == "D"}
        files = {path: entry.oid for path, entry in entries.items() if entry.mode != SUBMODULE and path not in lost}
        self._lent.hand_over(set(files.values()), self._given, anew=True)
        committed = {f"{path} in the commit": self._digest(files[path]) for path in changed.keys() & files.keys()}
        self._expect_status(changed)
        self._tag()
        folders = [self._git]
        for path, entry in entries.items():
            if entry.mode == SUBMODULE and os.path.isdir(self._place / path) and os.listdir(self._place / path):
                inner = self._give_submodule(path, entry.oid)
                folders += inner.folders
                self._names += [f"submodule {path}: {name}" for name in inner.names]
                committed |= {f"{path}: {name}": digest for name, digest in inner.committed.items()}
                self._differences += [f"submodule {path}: {words}" for words in inner.differences]
        return GivenRepositories(tuple(folders), committed, tuple(self._names), tuple(self._differences))

    def _copy_history(self) -> None:
        """Copy commits, and the trees of the recorded one; name it as HEAD, on the recorded branch."""
        commits, ends = self._history()
        walk = "--objects", "--no-object-names", "--filter=blob:none", "--no-walk"
        trees = self._lent.repository.ask("rev-list", *walk, self._commit).split()
        self._lent.hand_over({*commits, *trees}, self._given, anew=True)
        self._names += self._unread(commits)
        if ends:
            (self._git / "shallow").write_text("".join(f"{name}\n" for name in ends))
        self._given.ask("rev-list", "--quiet", self._commit)
        branch = self._state.recorded.get("branch")
        try:
            if not isinstance(branch, str) or branch == "detached":
                raise SourceError("no branch")
            self._given.ask("update-ref", f"refs/heads/{branch}", self._commit)
            self._given.ask("symbolic-ref", "HEAD", f"refs/heads/{branch}")
            self._names.append(f"branch {branch}")
        except SourceError:
            self._given.ask("update-ref", "--no-deref", "HEAD", self._commit)

    def _history(self) -> tuple[list[str], list[str]]:
        """Every commit that is to be had, and those of them whose parents are not."""
        if self._state.recorded.get("shallow") is True:
            self._differences.append("the recorded history was shallow, and is the last commit now")
            return [self._commit], [self._commit]
        ends = self._ends()
        (self._lent.repository.folder / ".git" / "shallow").write_text("".join(f"{name}\n" for name in ends))
        try:
            commits = self._lent.repository.ask("rev-list", self._commit).split()
        except SourceError:
            commits, ends = [self._commit], [self._commit]
        ends = sorted({*ends} & {*commits})
        if ends:
            self._differences.append("the history of the clone is shallow, and so shorter than it was")
        return commits, ends

    def _unread(self, commits: Iterable[str]) -> Iterator[str]:
        """What commits hold that ``git log`` and ``git show`` do not print, and how many do so."""
        listing, answers = self._scratch / "commits", self._scratch / "contents"
        _write(listing, (f"{name}\n" for name in commits))
        with open(answers, "wb") as sink:
            self._given.stream(sink, "cat-file", "--batch", stdin=listing)
        found: Counter[str] = Counter()
        with open(answers, "rb") as file:
            while words := file.readline().split():
                found.update({*unread_parts(file.read(int(words[2])))})
                file.read(1)
        yield from (f"{what} (commits: {number})" for what, number in sorted(found.items()))

    def _ends(self) -> list[str]:
        try:
            path = self._lender / Repository(self._lender).line("rev-parse", "--git-path", "shallow")
            return _NAME.findall(path.read_text("ascii"))
        except (SourceError, OSError, UnicodeDecodeError):
            return []

    def _give_submodule(self, path: str, commit: str) -> GivenRepositories:
        changed = {entry["path"]: entry.get("commit") for entry in changed_submodules(self._state.recorded)}
        moved = changed.get(path) or commit
        try:
            given = give_repository(*submodule(self._state, self._lender, path, moved), self._place / path)
            return given if moved == commit else replace(given, names=(f"commit {moved}", *given.names))
        except SourceError as error:
            return GivenRepositories(differences=(f"no repository ({error.message})",))

    def _configure(self) -> None:
        """Settings that have a say in how names are shortened and files are compared."""
        lender = Repository(self._lender, settings={"core.abbrev": "auto"})
        length = len(lender.line("rev-parse", "--short", self._commit))
        recorded = members(members(self._state.recorded.get("converted")).get("settings"))
        settings = {name: recorded[name] for name in CONVERSION_SETTINGS if recorded.get(name) in _CONVERSIONS}
        self._names += [f"setting {name}={value}" for name, value in settings.items()]
        if length != _SHORTEST:  # as in a clone with many objects
            self._names.append(f"short names of {length} letters")
        settings["core.abbrev"] = str(length)
        for name, value in settings.items():
            self._given.ask("config", "--local", name, value)

    def _changed(self) -> Iterator[tuple[str, str]]:
        """The files that are not as in the commit, each with git's letter; D is one that is not there."""
        words = "--name-status", "-z", "--no-renames", "--ignore-submodules=all"
        listed = self._given.ask("diff-files", *words).split("\0")
        yield from zip(listed[1::2], listed[::2], strict=False)

    def _expect_status(self, changed: Mapping[str, str]) -> None:
        """Have git take for unchanged, or ignore, what was not recorded as changed or untracked."""
        recorded = members(self._state.recorded.get("changed"))
        files = recorded.get("files")
        named = {members(file).get("path") for file in files} if isinstance(files, list) else set()
        if count_of(recorded) <= len(named):
            listing = self._scratch / "unchanged"
            hidden = [path for path in changed if printable(path) not in named]
            self._names += [f"said to be unchanged: {path}" for path in hidden]
            _write(listing, (f"{path}\0" for path in hidden))
            self._given.ask("update-index", "--assume-unchanged", "-z", "--stdin", stdin=listing)
        untracked = self._state.recorded.get("untracked")
        if untracked_not_named(untracked):
            return
        known = {file["path"] for kind in (COPIED, LEFT_OUT) for file in untracked_files(untracked, kind)}
        others = self._given.ask("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        lost = {file["path"] for file in untracked_files(untracked, LEFT_OUT)}
        self._names += [f"said to be untracked: {path}" for path in others if path and printable(path) in lost]
        ignored = self._git / "info" / "exclude"
        ignored.parent.mkdir(exist_ok=True)
        _write(ignored, (_pattern(path) for path in others if path and printable(path) not in known))

    def _digest(self, name: str) -> FileDigest:
        digest = _Digest()
        self._given.stream(digest, "cat-file", "blob", name)
        return FileDigest(digest.size, digest.sha256.hexdigest())

    def _tag(self) -> None:
        """Make the tag that the recorded description names, where it is known which commit has it."""
        described = self._state.recorded.get("describe")
        found = _DESCRIPTION.fullmatch(described) if isinstance(described, str) else None
        if found is None:
            return
        name, distance = found[1], found[2]
        lender = Repository(self._lender)
        try:
            commit, kind = (
                lender.line("rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}"),
                lender.line("cat-file", "-t", f"refs/tags/{name}"),
            )
        except SourceError:
            commit, kind = self._commit, "commit"
        try:
            annotated = ("--annotate", "--no-sign", "--message=") if kind == "tag" else ()
            tagging = replace(self._given, variables={**self._given.variables, **_NOBODY})
            tagging.ask("tag", *annotated, "--", name, commit)
            now = self._given.line("describe", "--always", "--tags", "--long", "--abbrev=12")
            if not now.startswith(f"{name}-{distance}-g"):
                self._given.ask("tag", "--delete", name)
                raise SourceError("it is at another commit")
            self._names.append(f"tag {name} at a distance of {distance}")
        except SourceError:
            self._differences.append(f"it was {described}, and no tag here is at that distance")


class _Digest:
    """Digests what is written to it."""

    def __init__(self) -> None:
        self.sha256, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Digest more."""
        self.sha256.update(data)
        self.size += len(data)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_bytes(os.fsencode("".join(lines)))


def _pattern(path: str) -> str:
    """A line of gitignore(5) that matches one path and nothing else."""
    return "/" + re.sub(r"([\\*?\[ ])", r"\\\1", path) + "\n"
