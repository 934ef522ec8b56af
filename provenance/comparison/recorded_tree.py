"""The code of a run as a tree of git's: the recorded commit, the patch over it and the kept untracked files.

Where a repository available has the commit, its objects are borrowed: it is not written to, its work tree is not looked
at, and no configuration of its own is in force. Patches and files are believed only with the digests that were signed.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from provenance.attestation.run_files import inside
from provenance.capture.source_patch import PATCH, write_patch
from provenance.capture.unavailable import is_missing, none
from provenance.capture.untracked_copies import UNTRACKED
from provenance.capture.work_tree import SUBMODULES
from provenance.comparison.json_leaves import reason
from provenance.comparison.kept_source import whole_files
from provenance.comparison.recorded_source import (
    COPIED,
    LEFT_OUT,
    changed_submodules,
    count_of,
    members,
    patch_identity,
    texts,
    untracked_files,
    untracked_identities,
    untracked_not_named,
)
from provenance.errors import DigestError, SourceError
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import temporary_folder
from provenance.git.repository import Repository
from provenance.git.scratch_repository import EXECUTABLE, FILE, SUBMODULE, ScratchRepository, TreeEntry, add_to_index
from provenance.git.tracked_files import CONVERSION_SETTINGS, read_index

# how a script and a program of Linux begin
_EXECUTED = (b"#!", b"\x7fELF")
_INDEX_LINE = re.compile(rb"(?m)^index [0-9a-f]{40,64}\.\.[0-9a-f]{40,64}(?= [0-7]{6}$|$)")
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class SourceState:
    """The code of one run: what its manifest says of its source, and its run folder where that is available."""

    recorded: Mapping[str, Any]
    folder: Path | None = None

    @property
    def commit(self) -> str | None:
        """The commit's name; None where it is not known, or is no name that git could take for nothing else."""
        commit = self.recorded.get("commit")
        return commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What identifies the whole state; None where a part of it is not known."""
        patch, untracked = patch_identity(self.recorded.get("patch")), self.recorded.get("untracked")
        if self.commit is None or reason(patch) or patch is None or not _is_known(untracked):
            return None
        files = untracked_identities(untracked)
        if any(map(is_missing, files.values())) or "left_out_too" in untracked:
            return None
        return self.commit, None if is_missing(patch) else patch, tuple(sorted(files.items()))


def _object_folders(repositories: Sequence[Path]) -> Iterator[Path]:
    for folder in repositories:
        try:
            if folder.is_dir():
                yield (folder / Repository(folder).line("rev-parse", "--git-path", "objects")).resolve()
        except SourceError:  # not a repository, or one that git refuses
            continue


def borrowing(folder: Path, repositories: Sequence[Path], commit: str) -> ScratchRepository:
    """A scratch repository, of the commit's own kind of hash, with the objects of those that are available.

    Raises SourceError where none is.
    """
    borrowed = list(dict.fromkeys(_object_folders(repositories)))
    if not borrowed:
        raise SourceError("no git repository is available")
    return ScratchRepository(folder, borrowed, len(commit))


def recorded_tree(at_hand: ScratchRepository, state: SourceState, whose: str, caveats: list[str]) -> str:
    """The name of the state's tree: commit, patch, untracked files. What is not available is a caveat.

    Raises SourceError where the commit is not available, or the patch is not the recorded one.
    """
    index = at_hand.new_index()
    _expect_commit(at_hand, state, whose)
    index.ask("read-tree", f"{state.commit}^{{tree}}")
    if at_hand.tree(read_index(index).entries) != index.line("rev-parse", f"{state.commit}^{{tree}}"):
        caveats.append(
            f"the trees of {whose} commit are not what git writes of these files (a path may be there twice, of which "
            "git show and a checkout show another, or a file have another mode): see git fsck --strict"
        )
    patch = state.recorded.get("patch")
    if not is_clean(patch):
        path = signed_file(state, PATCH, patch, f"{whose} {PATCH}")
        assert isinstance(patch, Mapping)
        if not _apply(at_hand, index, path, patch):
            caveats.append(
                f"{whose} {PATCH} is not written as git writes these changes: read the changed files themselves"
            )
        if patch.get("redacted"):
            caveats.append(f"{whose} patch was redacted: lines that held secrets are not what they were")
        if omitted := count_of(patch.get("omitted")):
            caveats.append(f"{omitted} of {whose} changed files are not in its patch")
    _add_untracked(at_hand, index, state, whose, caveats)
    return index.line("write-tree", "--missing-ok")


def _expect_commit(at_hand: ScratchRepository, state: SourceState, whose: str) -> None:
    try:
        at_hand.repository.ask("cat-file", "-e", f"{state.commit}^{{tree}}")
    except SourceError:
        raise SourceError(f"no available repository has {whose} commit {(state.commit or '')[:12]}") from None


def check_out(state: SourceState, repository: Path, place: Path) -> tuple[str, ...]:
    """Write the recorded files to the new folder ``place``, byte for byte as they were; what is missing of them.

    Those of submodules too, from their own repositories, as far as they are in the work tree of ``repository``.

    Args:
        state: the recorded source, with the run folder that holds its patch and untracked files.
        repository: a folder in a git repository that has the commit.

    Raises SourceError where the commit is not available, or the patch is not the recorded one.
    """
    if state.commit is None:
        raise SourceError("the run recorded no commit")
    caveats: list[str] = []
    with temporary_folder("ndrepro-tree-") as scratch:
        lent, own = scratch / "lent", scratch / "own"
        for folder in (lent, own):
            folder.mkdir()
        borrowed = borrowing(lent, [repository], state.commit)
        _expect_commit(borrowed, state, "the run's")
        if replaced := Repository(repository).replaced():
            caveats.append(
                "the repository that has the commit shows other objects in the place of those that are executed "
                f"(refs/replace and grafts: {replaced}): read another clone"
            )
        at_hand = borrowed.own_copy(state.commit, own)
        tree = recorded_tree(at_hand, state, "the run's", caveats)
        converted = members(state.recorded.get("converted"))
        names: Sequence[str] = texts(converted.get("files"))
        settings = members(converted.get("settings"))
        listed = [
            line.split(" ", 2) for line in at_hand.repository.ask("ls-tree", "-r", "-z", tree).split("\0") if line
        ]
        entries = {rest.partition("\t")[2]: (mode, rest.partition("\t")[0]) for mode, _, rest in listed}
        # too many to be named are all that git would convert
        names = [*entries] if len(names) < count_of(converted) else [name for name in names if name in entries]
        settings = {name: str(value) for name, value in settings.items() if name in CONVERSION_SETTINGS}
        other, line_ends = at_hand.check_out(tree, place, names, settings)
        if other or line_ends:
            how = "".join(f"{name}={value}, " for name, value in sorted(settings.items()))
            parts = [", ".join(other)] if other else []
            parts += [f"in line ends alone: {', '.join(line_ends)}"] if line_ends else []
            count = len(other) + len(line_ends)
            caveats.append(
                f"git converted what its commit shows ({how}the commit's attributes; files: {count}): "
                + "; ".join(parts)
            )
    for path, (mode, oid) in entries.items():
        if mode == SUBMODULE:
            caveats += _check_out_submodule(state, repository, place, path, oid)
    return tuple(caveats)


def _check_out_submodule(state: SourceState, repository: Path, place: Path, path: str, commit: str) -> tuple[str, ...]:
    """Write a submodule's recorded files from its repository in the work tree that ``repository`` is in."""
    try:
        inner = check_out(*submodule(state, repository, path, commit), place / path)
    except SourceError as error:
        inner = (error.message,)
    return tuple(f"submodule {path}: {caveat}" for caveat in inner)


def submodule(state: SourceState, repository: Path, path: str, commit: str) -> tuple[SourceState, Path]:
    """What was recorded of a submodule at ``commit``, and its own repository in the work tree of ``repository``.

    Raises SourceError where it is not checked out there.
    """
    clean = {"patch": none("no change was recorded"), "untracked": {COPIED: [], LEFT_OUT: []}}
    recorded = next((entry for entry in changed_submodules(state.recorded) if entry["path"] == path), clean)
    folder = None if state.folder is None else state.folder / SUBMODULES / path
    top = Repository(repository).facts().top
    own = None if top is None else top / path
    # git tracks no .git, so this one is of whoever cloned it; a link would lead elsewhere
    if own is None or not os.path.lexists(own / ".git") or own.resolve() != own:
        raise SourceError("not checked out here: git submodule update --init")
    return SourceState({**recorded, "commit": commit}, folder), own


def _apply(at_hand: ScratchRepository, index: Repository, path: Path, patch: Mapping[str, Any]) -> bool:
    """Apply a recorded patch to the index, where no conversion of git's is in force; whether it is what a recorder
    writes of these changes. git takes much more: text between the changes of two files, say, or a file twice.
    """
    for name in whole_files(patch, path):  # the commit's version could not be read: the patch creates them
        index.ask("--literal-pathspecs", "update-index", "--force-remove", "--", name)
    before = index.line("write-tree", "--missing-ok")
    index.ask("apply", "--cached", "--whitespace=nowarn", str(path.resolve()))
    again = at_hand.repository.folder / "again.patch"
    with again.open("wb") as sink:
        write_patch(at_hand.repository, before, index.line("write-tree", "--missing-ok"), sink)
    if patch.get("redacted"):  # its names of contents are those of before
        return _unnamed(again.read_bytes()) == _unnamed(path.read_bytes())
    return filecmp.cmp(again, path, shallow=False)


def _unnamed(patch: bytes) -> bytes:
    return _INDEX_LINE.sub(b"index", patch)


def _is_known(untracked: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(untracked, Mapping) and not is_missing(untracked)


def is_clean(patch: Any) -> bool:
    """Whether there was nothing to patch; what is not known is not clean."""
    return is_missing(patch) and "none" in patch


def signed_file(state: SourceState, name: str, recorded: Any, what: str) -> Path:
    """A file of the run folder whose digest is the recorded one. Raises SourceError."""
    if not isinstance(recorded, Mapping) or "left_out" in recorded or "sha256" not in recorded:
        raise SourceError(f"{what} was not kept")
    if state.folder is None:
        raise SourceError(f"{what} is not available: only the manifest is")
    if not inside(name):
        raise SourceError(f"{what} leads out of the run folder")
    path = state.folder / name
    try:
        if file_digest(path, follow_symlinks=False).sha256 == recorded["sha256"]:
            return path
    except DigestError:
        raise SourceError(f"{what} cannot be read") from None
    raise SourceError(f"{what} is not the one that was recorded")


def _add_untracked(
    at_hand: ScratchRepository, index: Repository, state: SourceState, whose: str, caveats: list[str]
) -> None:
    """Put the kept untracked files into the index; name those that were not.

    Raises SourceError for one where commit and patch have a file, or a folder: no recorder does that.
    """
    recorded = state.recorded.get("untracked")
    if not _is_known(recorded):
        caveats.append(f"{whose} untracked files are not known")
        return
    lost = len(untracked_files(recorded, LEFT_OUT)) + count_of(untracked_not_named(recorded), "files")
    if lost:
        caveats.append(f"{lost} of {whose} untracked files were not kept")
    tracked = {path for path in index.ask("ls-files", "-z").split("\0") if path}
    held = tracked.union(*map(_folders_above, tracked))
    by_folded = {path.casefold(): path for path in tracked}
    entries = []
    for entry in untracked_files(recorded, COPIED):
        if entry["path"] in held or not tracked.isdisjoint(_folders_above(entry["path"])):
            raise SourceError(f"{whose} untracked {entry['path']} is in the place of a tracked file", "ask its author")
        other = by_folded.setdefault(entry["path"].casefold(), entry["path"])
        if other != entry["path"]:
            caveats.append(f"{other} and {whose} untracked {entry['path']} differ by case only")
        try:
            path = signed_file(state, f"{UNTRACKED}/{entry['path']}", entry, f"{whose} untracked {entry['path']}")
        except SourceError as error:
            caveats.append(error.message)
            continue
        content = path.read_bytes()
        # the mode of a copy is in no digest
        mode = EXECUTABLE if content.startswith(_EXECUTED) or entry["path"].endswith(".sh") else FILE
        entries.append((entry["path"], TreeEntry(mode, at_hand.add_blob(content))))
    if entries:
        add_to_index(index, entries)


def _folders_above(path: str) -> set[str]:
    """``a/b`` and ``a`` of ``a/b/c``."""
    return {str(above) for above in PurePosixPath(path).parents} - {"."}
