"""What differs between the code of two runs, as a diff of files, from what their manifests and folders hold.

A recorded state is a commit, the patch over it and the files that git did not know. Where a repository at hand has the
commits, both states are rebuilt as trees in a scratch repository that borrows its objects, and git compares them: the
repository itself is not written to, its work tree is not looked at, and no configuration of its own is in force.
Patches and files are believed only with the digests that were signed. Where a state cannot be rebuilt, the files that
the recorded patches touch are named instead, and ``caveats`` says why and what is missing.

How a ``CodeDiff`` was found (``how``):

    same      both states are the same commit, patch and files; nothing had to be compared
    git       the two trees were compared
    patches   one commit, whose repository is not at hand: the files that are patched differently
    unknown   nothing can be said beyond the digests
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from provenance.attestation.run_files import inside
from provenance.capture.git import Repository
from provenance.capture.unavailable import is_missing
from provenance.capture.worktree import PATCH, UNTRACKED
from provenance.comparison.groups import patch_identity, untracked_identities
from provenance.comparison.json_leaves import reason
from provenance.errors import DigestError, SourceError
from provenance.formats.digest import file_digest

TEXT_LIMIT_BYTES = 1_000_000
_DIFF = "diff --no-color --no-ext-diff --no-textconv --no-renames --no-indent-heuristic --diff-algorithm=myers"
# --unified asks for the text too, so it is not for the numbers
_TEXT = "--unified=3 --src-prefix=a/ --dst-prefix=b/"


@dataclass(frozen=True)
class SourceState:
    """The code of one run: what its manifest says of its source, and its run folder where that is at hand."""

    recorded: Mapping[str, Any]
    folder: Path | None = None

    @property
    def commit(self) -> str | None:
        """The commit's name; None where it is not known."""
        commit = self.recorded.get("commit")
        return commit if isinstance(commit, str) else None

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What stands for the whole state; None where a part of it is not known."""
        patch, untracked = patch_identity(self.recorded.get("patch")), self.recorded.get("untracked")
        if self.commit is None or reason(patch) or patch is None or not _is_known(untracked):
            return None
        files = untracked_identities(untracked)
        if any(map(is_missing, files.values())) or "left_out_too" in untracked:
            return None
        return self.commit, None if is_missing(patch) else patch, tuple(sorted(files.items()))


@dataclass(frozen=True)
class FileChange:
    """A file that differs: lines added and removed, None where they cannot be counted (binary, or patches alone)."""

    path: str
    added: int | None
    removed: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"path": self.path, "added": self.added, "removed": self.removed}


@dataclass(frozen=True)
class CodeDiff:
    """Files that differ, the unified diff (``how`` "git" only; cut where ``truncated``), and what is missing in it."""

    how: str
    files: tuple[FileChange, ...] = ()
    text: str = ""
    truncated: bool = False
    caveats: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "how": self.how,
            "files": [file.to_json() for file in self.files],
            "text": self.text,
            "truncated": self.truncated,
            "caveats": list(self.caveats),
        }


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
        with tempfile.TemporaryDirectory(prefix="ndrepro-diff-") as scratch:
            return _compare_trees(first, second, repositories, Path(scratch))
    except SourceError as error:
        return _compare_patches(first, second, error.message)


def _named(first: SourceState, second: SourceState) -> tuple[tuple[str, SourceState], tuple[str, SourceState]]:
    return ("first", first), ("second", second)


def _compare_trees(first: SourceState, second: SourceState, repositories: Sequence[Path], scratch: Path) -> CodeDiff:
    """Rebuild both states and have git compare them. Raises SourceError where one cannot be rebuilt."""
    borrowed = list(dict.fromkeys(_object_folders(repositories)))
    if not borrowed:
        raise SourceError("no git repository is at hand")
    repository = _scratch_repository(scratch, borrowed, first.commit or "")
    caveats: list[str] = []
    trees = [_rebuild(repository, state, f"the {name} run's", caveats) for name, state in _named(first, second)]
    files = tuple(_numbers(repository.ask(*_DIFF.split(), "--numstat", "-z", *trees, "--")))
    text = _Text(TEXT_LIMIT_BYTES)
    if files:
        repository.stream(text, *_DIFF.split(), *_TEXT.split(), *trees, "--")
    return CodeDiff("git", files, text.data.decode("utf-8", "replace"), text.truncated, tuple(caveats))


def _object_folders(repositories: Sequence[Path]) -> Iterator[Path]:
    for folder in repositories:
        try:
            if folder.is_dir():
                yield (folder / Repository(folder).line("rev-parse", "--git-path", "objects")).resolve()
        except SourceError:  # not a repository, or one that git refuses
            continue


def _scratch_repository(folder: Path, borrowed: Sequence[Path], commit: str) -> Repository:
    """An empty repository, of the commit's own kind of hash, that sees the objects of others."""
    repository = Repository(folder)
    sha256 = ("--object-format=sha256",) if len(commit) == 64 else ()
    repository.ask("init", "--quiet", "--template=", *sha256)
    # git reads a path in double quotes as a C string (gitrepository-layout(5))
    lines = [
        '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"\n' for path in borrowed
    ]
    information = folder / ".git" / "objects" / "info"
    information.mkdir(exist_ok=True)
    (information / "alternates").write_bytes(os.fsencode("".join(lines)))
    return repository


def _rebuild(repository: Repository, state: SourceState, whose: str, caveats: list[str]) -> str:
    """The name of the state's tree: commit, patch, untracked files. What is not at hand is a caveat."""
    try:
        repository.ask("read-tree", f"{state.commit}^{{tree}}")
    except SourceError:
        raise SourceError(f"no repository at hand has {whose} commit {(state.commit or '')[:12]}") from None
    patch = state.recorded.get("patch")
    if not _is_clean(patch):
        path = _signed_file(state, PATCH, patch, f"{whose} {PATCH}")
        repository.ask("apply", "--cached", "--whitespace=nowarn", str(path.resolve()))
        if isinstance(patch, Mapping) and patch.get("redacted"):
            caveats.append(f"{whose} patch was redacted: lines that held secrets are not what they were")
    _add_untracked(repository, state, whose, caveats)
    return repository.line("write-tree")


def _is_known(untracked: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(untracked, Mapping) and not is_missing(untracked)


def _is_clean(patch: Any) -> bool:
    """Whether there was nothing to patch; what is not known is not clean."""
    return is_missing(patch) and "none" in patch


def _signed_file(state: SourceState, name: str, recorded: Any, what: str) -> Path:
    """A file of the run folder whose digest is the recorded one. Raises SourceError."""
    if not isinstance(recorded, Mapping) or "left_out" in recorded or "sha256" not in recorded:
        raise SourceError(f"{what} was not kept")
    if state.folder is None:
        raise SourceError(f"{what} is not at hand: only the manifest is")
    if not inside(name):
        raise SourceError(f"{what} leads out of the run folder")
    path = state.folder / name
    try:
        if file_digest(path, follow_symlinks=False).sha256 == recorded["sha256"]:
            return path
    except DigestError:
        raise SourceError(f"{what} cannot be read") from None
    raise SourceError(f"{what} is not the one that was recorded")


def _add_untracked(repository: Repository, state: SourceState, whose: str, caveats: list[str]) -> None:
    """Put the kept untracked files into the index; name those that were not."""
    recorded = state.recorded.get("untracked")
    if not _is_known(recorded):
        caveats.append(f"{whose} untracked files are not known")
        return
    lost = len(recorded.get("left_out", ())) + recorded.get("left_out_too", {}).get("files", 0)
    if lost:
        caveats.append(f"{lost} of {whose} untracked files were not kept")
    lines = []
    for entry in recorded.get("copied", ()):
        try:
            path = _signed_file(state, f"{UNTRACKED}/{entry['path']}", entry, f"{whose} untracked {entry['path']}")
        except SourceError as error:
            caveats.append(error.message)
            continue
        blob = repository.ask("hash-object", "-w", "--no-filters", "--stdin", stdin=path).strip()
        mode = "100755" if os.access(path, os.X_OK) else "100644"
        lines.append(f"{mode} {blob}\t{entry['path']}\0")
    if lines:
        listing = repository.folder / "untracked-files"
        listing.write_bytes(os.fsencode("".join(lines)))
        repository.ask("update-index", "-z", "--index-info", stdin=listing)


def _numbers(output: str) -> Iterator[FileChange]:
    """git-diff(1), --numstat -z: added, removed ("-" in a binary file), path."""
    for entry in filter(None, output.split("\0")):
        added, removed, path = entry.split("\t", 2)
        yield FileChange(path, *(int(count) if count.isdigit() else None for count in (added, removed)))


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
    if _is_clean(patch):
        return {}
    data = _signed_file(state, PATCH, patch, what).read_bytes()
    found = {}
    for section in ("\n" + os.fsdecode(data)).split("\ndiff --git ")[1:]:
        heading = section.partition("\n")[0]
        # "a/NAME b/NAME", both the same where renames are not looked for; a quoted name stays as it is written
        name = heading[2 : len(heading) // 2] if heading.startswith("a/") else heading
        found[name] = os.fsencode(section.rstrip("\n"))
    return found
